"""A listener rule of an Application Load Balancer: the weights of its target groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from policies.model import WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteStatus
from scaler.clouds.aws import session
from scaler.config.kinds.aws_routes import Alb
from scaler.ports import Context, Unavailable
from scaler.routes.alb_traffic import AlbTraffic
from scaler.routes.aws_route import AwsRouteActuator, in_use
from scaler.routes.listener_rule import ListenerRule, parse_listener_rule

if TYPE_CHECKING:
    from scaler.clouds.aws.session import AwsService


async def open_alb(spec: Alb, context: Context, _workload: WorkloadName, _route: RouteName) -> AlbRoute:
    """Open the route of a listener rule. Raises `Misconfigured`."""
    return await AlbRoute(spec, context).connect()


class AlbRoute(AwsRouteActuator):
    """The port of a listener rule."""

    _service: AwsService
    _rule: ListenerRule

    def __init__(self, spec: Alb, context: Context) -> None:
        account, parts = spec.own_account, spec.rule.split("/")
        super().__init__(account, spec.other_writer_yield_s, context, f"listener rule {parts[-1]} of ALB {parts[2]}")
        self._spec = spec
        self._traffic = AlbTraffic(context, account, "/".join(parts[1:4]), 1.0 - spec.max_error_share)

    async def _connect(self) -> None:
        self._service = await session.service(self._context, "elbv2", self._account)

    async def _status(self) -> RouteStatus:
        rule = await self._read()
        traffic = await self._traffic.read(rule.of(self._spec))
        return RouteStatus(in_use(rule.weights(self._spec)), traffic.backends, traffic.over_s)

    async def _weights(self) -> Mapping[BackendName, int]:
        self._rule = await self._read(urgent=True)
        return self._rule.weights(self._spec)

    async def _write(self, weights: Mapping[BackendName, int]) -> Mapping[BackendName, int]:
        actions = self._rule.with_weights(weights, self._spec)
        response = await self._service.call(
            "ModifyRule", self._what, write=True, repeat=True, RuleArn=self._spec.rule, Actions=actions
        )
        return parse_listener_rule(f"modify {self._what}", response, self._spec).weights(self._spec)

    async def _read(self, *, urgent: bool = False) -> ListenerRule:
        response = await self._service.call(
            "DescribeRules", self._what, write=urgent, repeat=True, RuleArns=[self._spec.rule]
        )
        if not response.get("Rules"):
            raise Unavailable(f"{self._what}: malformed response: it has no rule")
        return parse_listener_rule(self._what, response, self._spec)

    def _actions(self) -> Mapping[str, str]:
        return {
            "cloudwatch:GetMetricData": "*",
            "elasticloadbalancing:DescribeRules": "*",
            "elasticloadbalancing:ModifyRule": self._spec.rule,
        }
