"""AIGatewayRoute of Envoy AI Gateway: the weights of a rule's backendRefs.

Envoy AI Gateway generates an HTTPRoute of the same name, with the same rules in the same order. The adapter only reads
that one, to confirm that the gateway has applied the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from policies.model import WorkloadName
from policies.model.names import RouteName
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.actions import routing
from scaler.clouds.kubernetes.permissions import Action
from scaler.config.kinds.gateway_routes import HTTP_ROUTE, AiGatewayRoute
from scaler.ports import Context, Misconfigured, Unavailable
from scaler.routes.conditions import check_owner, check_parents, reason_of
from scaler.routes.gateway_route import GatewayRouteActuator
from scaler.routes.gateway_traffic import MeasuredTraffic, gateway_traffic
from scaler.routes.http_route import PLURAL as HTTP_ROUTES
from scaler.routes.route_rule import DEFAULT_WEIGHT, RouteRule

NOT_REPORTED: Final = "Envoy AI Gateway has not accepted it yet (status.conditions has no Accepted)"


async def open_ai_gateway_route(
    spec: AiGatewayRoute, context: Context, _workload: WorkloadName, _route: RouteName
) -> AiGatewayRouteActuator:
    """Open the route of a rule of an AIGatewayRoute. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    traffic = await gateway_traffic(context, spec)
    return AiGatewayRouteActuator(spec, session, traffic, context)


class AiGatewayRouteActuator(GatewayRouteActuator):
    """The port of a rule of an AIGatewayRoute."""

    plural: ClassVar[str] = "aigatewayroutes"

    def actions(self) -> list[Action]:
        spec = self._spec
        return super().actions() + routing(HTTP_ROUTE, HTTP_ROUTES, spec.namespace, spec.name, write=False)

    async def confirm(self, body: Mapping[str, Any], rule: RouteRule, traffic: MeasuredTraffic) -> None:
        what = f"get {self._what}"
        check_owner(what, body)
        conditions = (body.get("status") or {}).get("conditions") or ()
        for condition in conditions:
            if condition["status"] != "True":
                raise Misconfigured(f"{what}: {condition['type']} is {condition['status']}: {reason_of(condition)}")
        if not any(condition["type"] == "Accepted" for condition in conditions):
            raise Unavailable(f"{what}: {NOT_REPORTED}")
        generated = await self.get(HTTP_ROUTE, HTTP_ROUTES)
        check_parents(f"get {HTTP_ROUTES} {self._spec.name} in namespace {self._spec.namespace}", generated)
        rules = generated["spec"]["rules"]
        refs = rules[rule.index].get("backendRefs") or () if rule.index < len(rules) else ()
        if [ref.get("weight", DEFAULT_WEIGHT) for ref in refs] != [ref.applied_weight for ref in rule.refs]:
            raise Unavailable(f"{what}: the HTTPRoute that it generates does not have these weights yet")
