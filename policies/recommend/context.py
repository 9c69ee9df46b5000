"""What a policy and a rule see of one turn."""

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
    """What a policy sees of one tick.

    `ready` and `desired` are sums over the pools, None when a pool's size is not known. `demand` is None for policies
    that measure demand; a post-demand policy (`Policy.post_demand`) runs after them and sees the largest need.
    `min_replicas` is the workload's: 0 where it may scale to zero. `pools` are the statuses of the pools, `spec` the
    workload's specification.
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
        """Since when what was asked for, and may still be counted on, is awaited; first asked for first."""
        return self.history.pool_memories.pending_since(self.spec.pools, self.at) if self.spec else []


class Policy(Protocol):
    """A rule that turns readings into a recommendation: a frozen dataclass of its parameters.

    `post_demand` is False for a policy that measures demand and True for one that shapes the demand others measured;
    `can_activate` says whether it can tell work at zero replicas; `needs` are the quantities of its source that it
    reads, `source` the name of that source (filled in by the loader where only one fits).

    `owns_stabilization` is True for a policy with a tolerance, windows and limits of its own: it is then the only
    policy of its workload, and of the rules between need and size only the guard's apply. `lookback_s` is how far back
    in the history it looks; equal histories over that span give equal recommendations.
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
    """A policy whose outlook gains from a past that no turn saw (`Recommendation.work` is what it notes).

    `past_needs` are the quantities of its source that such a past is made of. `past_work` makes replicas' worth of work
    of their means over even steps, as it would have measured it, by what it has learnt (`memory`, its last
    recommendation's; empty: the priors); NaN where one of them is not known, or is no measurement.
    """

    @property
    def source(self) -> str | None: ...
    def past_needs(self) -> tuple[str, ...]: ...
    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class RuleContext:
    """What the rules between a need and a size look at.

    `need` is the largest recommendation in replicas' worth of work, None when every policy is blind;
    `current` is the size found; `lacking` names the policies and pools without fresh evidence, empty where `may_lower`.
    `seen` is what the turn saw, `sizes` the serving pools' desired sizes in it and `held` all pools',
    `ready` what can serve, `recommendations` what each policy wants. `full` says why the replicas that are not ready
    may be needed; empty where nothing says so. `abandoned` are the pending replicas that the allocation does not count,
    `planned` the replica equivalents that it gives the serving pools, the size at the most. `need_without_latency` is
    the need without replicas that are recommended because users wait; None where none are.
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
"""A rule on the way from a need to a size: takes the size so far, gives the next one, or None without an effect."""


def apply_rules(rules: Iterable[SizeRule], size: int, s: RuleContext, steps: list[Step]) -> int:
    """Return the size after these rules; those that had an effect are added to `steps`."""
    for rule in rules:
        step = rule(size, s)
        if step is not None and step.replicas is not None:
            size = int(step.replicas)
            steps.append(step)
    return size
