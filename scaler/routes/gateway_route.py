"""State, writes and other writers of a rule of a Kubernetes object that splits requests."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from policies.model import Fresh
from policies.model.route import RouteDecision, RouteStatus
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.foreign_writes import ForeignChangeDetector
from scaler.clouds.kubernetes import permissions
from scaler.clouds.kubernetes.actions import ROUTES, routing
from scaler.clouds.kubernetes.objects import Writer, field_manager, written_by
from scaler.clouds.kubernetes.permissions import Action
from scaler.clouds.kubernetes.session import Body, KubeResponse, Session, accepted_body, port_error
from scaler.clouds.kubernetes.sizes import ATTEMPTS
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gateway_routes import GatewayRoute
from scaler.ports import Conflict, Context, Misconfigured, Permit
from scaler.routes.gateway_traffic import GatewayTraffic, MeasuredTraffic
from scaler.routes.route_rule import RouteRule, parse_rule
from scaler.routes.weighted_entries import split_text

CHANGED: Final = frozenset({409, 422})
"""Statuses of a patch whose test failed, because the object has changed since it was read."""


class GatewayRouteActuator(ABC):
    """The port of a route. Subclasses confirm that the gateway has applied the object."""

    plural: ClassVar[str]
    """The resource name of the object's kind."""

    def __init__(self, spec: GatewayRoute, session: Session, traffic: GatewayTraffic | None, context: Context) -> None:
        self._spec = spec
        self._session = session
        self._traffic = traffic
        self._timeout_s = CALL_SHARE * context.deadline_s
        self._what = f"{self.plural} {spec.name} in namespace {spec.namespace}"
        name = f"{spec.object_kind} {spec.namespace}/{spec.name}"
        self._own_writes = ForeignChangeDetector[str](session.clock, spec.other_writer_yield_s, name)
        self._rule: RouteRule | None = None
        self._last_writer: Writer | None = None

    @abstractmethod
    async def confirm(self, body: Mapping[str, Any], rule: RouteRule, traffic: MeasuredTraffic) -> None:
        """Return where the gateway has applied the rule as it is. Raises port errors."""

    def actions(self) -> list[Action]:
        """Return the actions that the route needs."""
        spec = self._spec
        return routing(spec.api_version, self.plural, spec.namespace, spec.name)

    @validated("the API server")
    async def status(self) -> Fresh[RouteStatus]:
        at = self._session.clock.now()
        body, rule = await self._read()
        traffic = MeasuredTraffic() if self._traffic is None else await self._traffic.read()
        await self.confirm(body, rule, traffic)
        weights = rule.weights(self._spec)
        other_writer = self._own_writes.observe(split_text(weights), self._writer(rule, at))
        self._rule, self._last_writer = rule, rule.writer
        used = {name: weight for name, weight in weights.items() if weight > 0}
        return Fresh(RouteStatus(used, traffic.backends, traffic.over_s, other_writer, rule.version), at)

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        rule = self._rule
        if rule is None or rule.version != observed.version:
            raise Conflict(f"{self._what} was read again since: the next tick decides by that")
        if not split.weights:
            raise Misconfigured(f"{self._what} cannot reject requests with Retry-After: set zero_replicas to hold")
        present = split_text(rule.weights(self._spec))
        wanted = split_text({name: split.weights.get(name, 0) for name in self._spec.backends})
        self._own_writes.expect(wanted)
        for attempt in range(1, ATTEMPTS + 1):
            response = await self._patch(rule, split)
            if response.status not in CHANGED:
                accepted_body(f"patch {self._what}", response, ROUTES)
                break
            at, before = self._session.clock.now(), rule
            _, rule = await self._read()
            found = split_text(rule.weights(self._spec))
            if found == wanted:
                break
            self._own_writes.check(found, present, self._writer(rule, at))
            if attempt == ATTEMPTS or rule.version == before.version:
                raise port_error(f"patch {self._what}", response, ROUTES)
        self._own_writes.confirm(wanted)

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, self.actions(), self._timeout_s)

    # --- calls

    async def _read(self) -> tuple[Body, RouteRule]:
        """Return the object and its configured rule. Raises port errors."""
        what = f"get {self._what}"
        body = await self.get(self._spec.api_version, self.plural)
        return body, parse_rule(what, body, self._spec)

    async def get(self, api_version: str, plural: str) -> Body:
        """Return the object of a kind with this route's name. Raises port errors."""
        what = f"get {plural} {self._spec.name} in namespace {self._spec.namespace}"
        response = await self._session.request(what, "GET", self._path(api_version, plural), self._timeout_s)
        return accepted_body(what, response, ROUTES)

    async def _patch(self, rule: RouteRule, split: RouteDecision) -> KubeResponse:
        path = self._path(self._spec.api_version, self.plural)
        query, patch = {"fieldManager": field_manager()}, rule.patch(split.weights, self._spec)
        return await self._session.request(
            f"patch {self._what}", "PATCH", path, self._timeout_s, query=query, body=patch
        )

    def _path(self, api_version: str, plural: str) -> str:
        return f"/apis/{api_version}/namespaces/{self._spec.namespace}/{plural}/{self._spec.name}"

    def _writer(self, rule: RouteRule, at: float) -> str:
        """Return the writer of the present weights and its time.

        The writer recorded at the last read did not make the change since, so then another one did.
        """
        new_writer = rule.writer if rule.writer != self._last_writer else None
        return written_by(new_writer, split_text(rule.weights(self._spec)), at)
