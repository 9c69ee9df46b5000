"""The inputs of policies and rules in one tick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from policies.history.ticks import History
from policies.model import Observation, PolicyName, PoolName, PoolStatus, Reading, Recommendation, SignalName, Step
from policies.model.spec import WorkloadSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """The input of a policy in one tick.

    `at` is the time (Unix seconds). `ready` and `desired` are sums over the pools, None if a pool's size is unknown.
    `demand` is None for policies that measure demand; a post-demand policy (`Policy.post_demand`) runs after them and
    receives the largest need. `min_replicas` is 0 if the workload may scale to zero. `pools` are the statuses of the
    pools, `spec` is the workload's specification.
    """

    at: float
    readings: Mapping[SignalName, Reading[float]]
    ready: int | None
    desired: int | None
    demand: float | None
    history: History
    min_replicas: int = 0
    pools: Mapping[PoolName, Reading[PoolStatus]] = field(default_factory=dict)
    spec: WorkloadSpec | None = None

    def pending_since(self) -> list[float]:
        """Return the request time of each pending replica that still counts as supply, oldest first (Unix seconds)."""
        return self.history.pool_memories.pending_since(self.spec.pools, self.at) if self.spec else []


class Policy(Protocol):
    """A rule that turns readings into a recommendation: a frozen dataclass of its parameters.

    `post_demand` is False for a policy that measures demand and True for one that shapes the measured demand.
    `can_activate` is whether it detects work at zero replicas. `needs` are the quantities that it reads of its source,
    and `source` is the name of that source (the loader fills it in if only one fits).

    `owns_stabilization` is True for a policy with its own tolerance, windows and limits. It is then the only policy of
    its workload, and only the guard's rules apply to its size. `lookback_s` is the span of the history that it reads:
    equal histories over that span give equal recommendations. Seconds.
    """

    @property
    def post_demand(self) -> bool: ...
    @property
    def can_activate(self) -> bool: ...
    @property
    def owns_stabilization(self) -> bool: ...
    @property
    def lookback_s(self) -> float: ...
    def needs(self) -> tuple[str, ...]: ...
    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation: ...


@runtime_checkable
class LooksFarBack(Protocol):
    """A policy whose forecast of `Recommendation.work` can start from a history that no tick recorded.

    `past_needs` are the quantities of its source that such a history needs. `past_work` converts their means over even
    steps to replica equivalents, with the models in `memory` (of its last recommendation; empty for the priors). The
    result is NaN where a value is unknown or not plausible.
    """

    @property
    def source(self) -> str | None: ...
    def past_needs(self) -> tuple[str, ...]: ...
    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class RuleContext:
    """The input of the rules between a need and a size.

    `need` is the largest recommendation in replica equivalents, None if no policy has a need; `current` is the current
    size and `ready` the ready capacity. `missing_evidence` names the policies and pools without fresh evidence, empty
    if `may_scale_in`. `sizes` are the desired sizes of the serving pools in `observation`, `desired` those of all
    pools. `full` is the reason why replicas that are not ready may be needed, or empty. `abandoned` are the pending
    replicas that the allocation does not count, `planned` the replica equivalents that it gives the serving pools, at
    most the size. `need_without_latency` is the need without replicas for late requests; None if there are none.
    """

    spec: WorkloadSpec
    history: History
    now: float
    need: float | None
    current: int
    active: bool
    may_scale_in: bool
    missing_evidence: str
    observation: Observation
    sizes: Mapping[PoolName, int]
    desired: Mapping[PoolName, int]
    ready: int | None
    recommendations: tuple[Recommendation, ...]
    full: str = ""
    abandoned: Mapping[PoolName, int] = field(default_factory=dict)
    planned: float = 0.0
    need_without_latency: float | None = None


SizeRule = Callable[[int, RuleContext], Step | None]
"""A rule between a need and a size: it receives the size so far and returns the next one, or None for no effect."""


def apply_rules(rules: Iterable[SizeRule], size: int, context: RuleContext, steps: list[Step]) -> int:
    """Return the size after these rules; the step of each rule with an effect is added to `steps`."""
    for rule in rules:
        step = rule(size, context)
        if step is not None and step.replicas is not None:
            size = int(step.replicas)
            steps.append(step)
    return size
