"""KServe: the weights of LLMInferenceServices in a routing group.

Each member states its own weight in ``spec.router.route``, so a split is one write for each member. A larger weight is
written first: between two writes, no member has less than both splits give it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.foreign_writes import ForeignChangeDetector
from scaler.clouds.kubernetes import actions, custom_resources, permissions
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.custom_resources import CustomObject, CustomObjects, ObjectCollection
from scaler.clouds.kubernetes.objects import Path, Writer, written_by
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ATTEMPTS
from scaler.clouds.response_validation import unavailable_if_malformed, validated
from scaler.config.kinds.kserve_group import KServeGroup
from scaler.ports import Conflict, Context, Misconfigured, Permit, Unavailable
from scaler.routes.gateway_traffic import GatewayTraffic, MeasuredTraffic, gateway_traffic
from scaler.routes.route_rule import count_of
from scaler.routes.weighted_entries import split_text, stranger_problem

PLURAL: Final = "llminferenceservices"
WEIGHT: Final[Path] = ("router", "route", "weight")


async def open_kserve_group(
    spec: KServeGroup, context: Context, _workload: WorkloadName, _route: RouteName
) -> KServeGroupActuator:
    """Open the route of a routing group. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    path = f"/apis/{spec.api_version}/namespaces/{spec.namespace}/{PLURAL}"
    collection = ObjectCollection(f"{PLURAL} in namespace {spec.namespace}", path, "", "")
    members = await custom_resources.objects(context, session, spec.cluster, collection)
    traffic = await gateway_traffic(context, spec)
    return KServeGroupActuator(spec, session, members, traffic, context)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of the group as it was read. `writer` is the last writer of its weight."""

    weight: int
    version: str
    writer: Writer | None
    at: float


class KServeGroupActuator:
    """The port of a routing group."""

    def __init__(
        self,
        spec: KServeGroup,
        session: Session,
        members: CustomObjects,
        traffic: GatewayTraffic | None,
        context: Context,
    ) -> None:
        self._spec = spec
        self._session = session
        self._objects = members
        self._traffic = traffic
        self._timeout_s = CALL_SHARE * context.deadline_s
        self._what = f"group {spec.group} in namespace {spec.namespace}"
        self._own_writes = ForeignChangeDetector[str](session.clock, spec.other_writer_yield_s, self._what)
        self._members: Mapping[BackendName, Member] = {}

    @validated("the API server")
    async def status(self) -> Fresh[RouteStatus]:
        members = await self._read()
        traffic = MeasuredTraffic() if self._traffic is None else await self._traffic.read()
        weights = _weights(members)
        other_writer = self._own_writes.observe(split_text(weights), self._written_by(members))
        self._members = members
        used = {name: weight for name, weight in weights.items() if weight > 0}
        status = RouteStatus(used, traffic.backends, traffic.over_s, other_writer, _version(members))
        return Fresh(status, min(member.at for member in members.values()))

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        members = self._members
        if not members or _version(members) != observed.version:
            raise Conflict(f"{self._what} was read again since: the next tick decides by that")
        if not split.weights:
            raise Misconfigured(f"{self._what} cannot reject requests with Retry-After: set zero_replicas to hold")
        weights = _weights(members)
        growth = {name: split.weights.get(name, 0) - weight for name, weight in weights.items()}
        changed = sorted((name for name in growth if growth[name]), key=lambda name: -growth[name])
        for name in changed:  # each split on the way is this process's own
            wanted = {**weights, name: split.weights.get(name, 0)}
            self._own_writes.expect(split_text(wanted))
            await self._set(name, wanted[name], members[name], weights)
            weights = wanted
        self._own_writes.confirm(split_text(weights))

    async def permits(self) -> Sequence[Permit]:
        needed = actions.kserve_group(PLURAL, self._spec.namespace)
        return await permissions.permits(self._session, needed, self._timeout_s)

    # --- calls

    async def _set(self, backend: BackendName, weight: int, member: Member, weights: Mapping[BackendName, int]) -> None:
        """Set a member's weight, unless another writer has changed it. Raises port errors.

        KServe writes the member's status all the time. A conflict with such a write is tried again.
        """
        name = self._spec.member(backend)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                spec = {"router": {"route": {"weight": weight}}}
                return await self._objects.patch(name, spec, member.version, self._timeout_s)
            except Conflict:
                before = member.version
                member = self._member(await self._objects.get(name, self._timeout_s, refresh=True))
                if member.weight == weight:
                    return None
                found = split_text({**weights, backend: member.weight})
                self._own_writes.check(found, split_text(weights), written_by(member.writer, found, member.at))
                if attempt == ATTEMPTS or member.version == before:
                    raise
        return None

    async def _read(self) -> dict[BackendName, Member]:
        """Return the member of each backend. Raises port errors."""
        backends = list(self._spec.backends)
        reads = (self._objects.get(self._spec.member(name), self._timeout_s) for name in backends)
        found = await asyncio.gather(*reads)
        members = [self._member(service) for service in found]
        for service, member in zip(found, members, strict=True):
            self._check_group(service, member)
        return dict(zip(backends, members, strict=True))

    def _member(self, service: CustomObject) -> Member:
        """Return a member. Raises `Misconfigured` where it is in another group, or has no weight."""
        what = f"LLMInferenceService {service.name}"
        with unavailable_if_malformed(what):
            route = (service.spec.get("router") or {}).get("route") or {}
            group, weight = route.get("group"), route.get("weight")
            writer = service.writer(WEIGHT)
        if group != self._spec.group:
            belongs = f"is in the group {group!r}" if group else "is in no group"
            raise Misconfigured(f"{what} {belongs}; set spec.router.route.group to {self._spec.group}")
        if weight is None:
            raise Misconfigured(f"{what} has no weight; set spec.router.route.weight, to 0 for no requests")
        return Member(count_of(what, weight), service.version, writer, self._objects.confirmed_since(service))

    def _check_group(self, service: CustomObject, member: Member) -> None:
        """Check that KServe has applied a member's weight, and that the group has no other member.

        Raises `Unavailable` where it has not yet, and `Misconfigured` where another member gets requests.
        """
        what = f"LLMInferenceService {service.name}"
        with unavailable_if_malformed(f"the status of {what}"):
            group = (service.status.get("router") or {}).get("group") or {}
            applied = {str(m["name"]): (int(m["weight"]), bool(m.get("stopped"))) for m in group.get("members") or ()}
        configured = {self._spec.member(name) for name in self._spec.backends}
        if problem := stranger_problem(configured, ((name, weight) for name, (weight, _) in applied.items())):
            raise Misconfigured(f"{self._what} {problem}")
        weight, stopped = applied.get(service.name, (-1, False))
        if not stopped and weight != member.weight:
            reason = "has not reported the group" if weight < 0 else f"still applies the weight {weight}"
            raise Unavailable(f"{what}: KServe {reason} (status.router.group)")

    def _written_by(self, members: Mapping[BackendName, Member]) -> str:
        """Return the writer of the present weights and its time.

        A writer that was recorded at the last read did not make a change since.
        """
        before = {name: member.writer for name, member in self._members.items()}
        writers = [m.writer for name, m in members.items() if m.writer is not None and m.writer != before.get(name)]
        newest = max(writers, key=lambda writer: writer.at, default=None)
        at = max(member.at for member in members.values())
        return written_by(newest, split_text(_weights(members)), at)


def _weights(members: Mapping[BackendName, Member]) -> dict[BackendName, int]:
    return {name: member.weight for name, member in members.items()}


def _version(members: Mapping[BackendName, Member]) -> str:
    return " ".join(member.version for member in members.values())
