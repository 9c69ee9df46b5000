"""LiteLLM's proxy: the weights of the deployments of one model group.

A weight of 0 does not stop requests: while all deployments with a weight are cooling down after failures, LiteLLM
selects among the others. So a backend that gets none is also blocked, which excludes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from yarl import URL

from policies.model import Fresh, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from scaler.clouds.foreign_writes import ForeignChangeDetector
from scaler.clouds.json_pages import JsonPages, json_pages
from scaler.clouds.response_validation import validated
from scaler.config.kinds.litellm import LiteLlm
from scaler.ports import Context, Misconfigured, Permit, Unavailable
from scaler.routes.gateway_traffic import MeasuredTraffic
from scaler.routes.litellm_group import LiteLlmDeployment, parse_group, strategy_problem, weights_of
from scaler.routes.litellm_traffic import LiteLlmTraffic, litellm_traffic
from scaler.routes.weighted_entries import split_text

RELOAD_S: Final = 60.0
"""Time within which every proxy has read a write of another one: twice its default interval of 30 s. Seconds."""


async def open_litellm(spec: LiteLlm, context: Context, _workload: WorkloadName, _route: RouteName) -> LiteLlmRoute:
    """Open the route of a model group. Raises `Misconfigured`."""
    pages = await json_pages(context, spec.url, spec.access)
    return LiteLlmRoute(spec, pages, await litellm_traffic(context, spec), context)


class LiteLlmRoute:
    """The port of a model group.

    A write takes one request for each deployment. The states before and between them are remembered for `RELOAD_S`, in
    which another proxy may still report them.
    """

    def __init__(self, spec: LiteLlm, pages: JsonPages, traffic: LiteLlmTraffic | None, context: Context) -> None:
        self._spec = spec
        self._pages = pages
        self._traffic = traffic
        self._clock = context.clock
        self._what = f"model group {spec.model_group!r} of {spec.url}"
        self._own_writes = ForeignChangeDetector[str](context.clock, spec.other_writer_yield_s, self._what)
        self._earlier: set[str] = set()
        self._written_at = float("-inf")

    @validated("LiteLLM")
    async def status(self) -> Fresh[RouteStatus]:
        at, group = await self._read()
        await self._check_strategy()
        traffic = MeasuredTraffic() if self._traffic is None else await self._traffic.read()
        weights = weights_of(group)
        other_writer = None if self._is_earlier(weights) else self._own_writes.observe(split_text(weights))
        return Fresh(RouteStatus(weights, traffic.backends, traffic.over_s, other_writer), at)

    @validated("LiteLLM")
    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        if not split.weights:
            raise Misconfigured(f"{self._what} cannot reject requests with Retry-After: set zero_replicas to hold")
        _, group = await self._read()
        present = weights_of(group)
        self._own_writes.check(split_text(present), split_text(observed.weights))
        wanted = {name: split.weights.get(name, 0) for name in self._spec.backends}
        self._earlier, self._written_at = set(), self._clock.now()
        for name in sorted(wanted, key=lambda name: present.get(name, 0) - wanted[name]):  # the largest rise first
            self._earlier.add(split_text(present))
            present = {n: w for n, w in {**present, name: wanted[name]}.items() if w > 0}
            self._own_writes.expect(split_text(present))
            await self._write(group[name], wanted[name])
        self._own_writes.confirm(split_text(present))
        _, group = await self._read()
        written = weights_of(group)
        if written != present and not self._is_earlier(written):
            found = f"{self._what} has {split_text(written)} after a write of {split_text(present)}"
            raise Unavailable(f"{found}; the next tick reads it again")

    @validated("LiteLLM")
    async def permits(self) -> Sequence[Permit]:
        """Return whether the key may read the group.

        LiteLLM has no way to check a right to write without a write.
        """
        await self._read()
        await self._check_strategy()
        remedy = "LiteLLM cannot check it without a write; the key must be that of a proxy admin"
        return [
            Permit("GET /model/info", granted=True),
            Permit("GET /router/settings", granted=True),
            Permit("PATCH /model/{id}/update", granted=None, detail=remedy),
        ]

    def _is_earlier(self, weights: Mapping[BackendName, int]) -> bool:
        """Return whether a proxy still reports a state before the last write."""
        return split_text(weights) in self._earlier and 0.0 <= self._clock.now() - self._written_at < RELOAD_S

    # --- calls

    async def _read(self) -> tuple[float, Mapping[BackendName, LiteLlmDeployment]]:
        url = URL(self._spec.url) / "model" / "info"
        at, body = await self._pages.get(f"get {self._what}", url)
        return at, parse_group(self._what, body, self._spec)

    async def _check_strategy(self) -> None:
        url = URL(self._spec.url) / "router" / "settings"
        _, body = await self._pages.get(f"get {url}", url)
        if problem := strategy_problem(body, self._spec.model_group):
            raise Misconfigured(f"{self._spec.url}: {problem}")

    async def _write(self, deployment: LiteLlmDeployment, weight: int) -> None:
        """Set the weight of a deployment. One of weight 0 is also blocked."""
        is_blocked = weight == 0
        if (deployment.weight, deployment.is_blocked) == (weight, is_blocked):
            return
        url = URL(self._spec.url) / "model" / deployment.id / "update"
        body = {"litellm_params": {"weight": weight}, "blocked": is_blocked}
        await self._pages.patch(f"patch deployment {deployment.id!r} of {self._what}", url, body)
