"""HTTPRoute of the Gateway API: the weights of a rule's backendRefs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from policies.model import WorkloadName
from policies.model.names import BackendName, RouteName
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.session import Session
from scaler.config.kinds.gateway_routes import SPLITS_INFERENCE_POOLS, HttpRoute
from scaler.ports import Context, Misconfigured
from scaler.routes.conditions import check_owner, check_parents
from scaler.routes.gateway_route import GatewayRouteActuator
from scaler.routes.gateway_traffic import GatewayTraffic, MeasuredTraffic, gateway_traffic
from scaler.routes.route_rule import RouteRule

PLURAL: Final = "httproutes"
MIN_REQUESTS: Final = 200.0
"""Minimum requests between two reads from which a split is verified."""
TOLERANCE: Final = 0.02
"""Difference of a measured share from its weight that is no finding, in addition to chance. Share."""
SIGMAS: Final = 5.0
"""Standard deviations by which chance moves a share less than once in a million reads."""


async def open_http_route(
    spec: HttpRoute, context: Context, _workload: WorkloadName, _route: RouteName
) -> HttpRouteActuator:
    """Open the route of a rule of an HTTPRoute. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    traffic = await gateway_traffic(context, spec)
    return HttpRouteActuator(spec, session, traffic, context)


class HttpRouteActuator(GatewayRouteActuator):
    """The port of a rule of an HTTPRoute."""

    plural: ClassVar[str] = PLURAL

    def __init__(self, spec: HttpRoute, session: Session, traffic: GatewayTraffic | None, context: Context) -> None:
        super().__init__(spec, session, traffic, context)
        self._splitting = SPLITS_INFERENCE_POOLS | set(spec.splits_inference_pools)
        self._counts_each_backend = spec.traffic is not None and spec.traffic.shared_cluster is None
        self._last_shares: Mapping[BackendName, float] = {}

    async def confirm(self, body: Mapping[str, Any], rule: RouteRule, traffic: MeasuredTraffic) -> None:
        what = f"get {self._what}"
        check_owner(what, body)
        controllers = check_parents(what, body)
        if not rule.has_inference_pools:
            return
        unknown = [name for name in controllers if name not in self._splitting]
        if unknown:
            raise Misconfigured(
                f"{what}: {unknown[0]} is not known to split requests among InferencePools by weight; use Services as"
                " backends, or verify that its version does and add it to splits_inference_pools"
            )
        if not self._counts_each_backend:
            raise Misconfigured(
                f"{what}: a split among InferencePools is verified by the requests to each; set traffic.clusters"
            )
        self._verify(what, rule, traffic)

    def _verify(self, what: str, rule: RouteRule, traffic: MeasuredTraffic) -> None:
        """Check that requests follow weights that did not change since the last read.

        Raises `Misconfigured`.
        """
        weights = rule.weights(self._spec)
        total = sum(weights.values())
        shares = {name: weight / total for name, weight in weights.items()} if total else {}
        last, self._last_shares = self._last_shares, shares
        requests = sum(t.requests for t in traffic.backends.values())
        if shares != last or requests < MIN_REQUESTS:
            return
        for name, share in shares.items():
            measured = traffic.backends[name].requests / requests
            if abs(measured - share) > TOLERANCE + SIGMAS * math.sqrt(share * (1.0 - share) / requests):
                raise Misconfigured(
                    f"{what}: {name} has {share:.0%} of the weight and gets {measured:.0%} of {requests:.0f} requests:"
                    " the gateway does not split requests among InferencePools by weight; use Services as backends"
                )
