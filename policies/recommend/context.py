"""The context of one tick, for policies and for rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

import numpy as np

from policies.history.ticks import History
from policies.model import (
    ErrorBudget,
    Observation,
    PolicyName,
    PoolName,
    PoolStatus,
    Reading,
    Recommendation,
    SignalName,
    Step,
)
from policies.model.spec import WorkloadSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

SOURCE: Final = (
    "Name of the source to read. null selects the only source that provides every quantity of this policy; set it if"
    " several do."
)
"""The description of a policy's setting `source`."""


@dataclass(frozen=True, slots=True)
class PolicyContext:
    """The context of a policy in one tick.

    `ready` and `desired` are sums over the pools in replica equivalents, None when a pool's size is not known. `demand`
    is None for policies that measure demand; a post-demand policy (`Policy.post_demand`) runs after them, and its
    `demand` is their largest need. `min_replicas` is the workload's: 0 where it may scale to zero. `pools` are the
    statuses of the pools, `spec` the workload's specification. `error_budget` is the error budget of its SLO, this
    tick's requests included; None without an SLO, and where another SLO was measured.
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
    error_budget: ErrorBudget | None = None

    def pending_since(self) -> list[float]:
        """Return the request times of pending replicas that may still arrive, oldest first."""
        return self.history.pool_memories.pending_since(self.spec.pools, self.at) if self.spec else []


class Policy(Protocol):
    """A rule that computes a recommendation from readings: a frozen dataclass of its parameters.

    - `post_demand`: False for a policy that measures demand, True for one that shapes the demand that others measured.
    - `can_activate`: whether it detects work at zero replicas.
    - `needs`: the quantities that it reads of its source. `source` is the name of that source; the loader sets it where
      only one fits.
    - `owns_stabilization`: True for a policy with a tolerance, windows and limits of its own. It is then the only
      policy of its workload, and of the rules between need and size only the guard's apply.
    - `lookback_s`: the span of the history that it reads. Equal histories over it give equal recommendations.
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
    """A policy whose forecast can be seeded with a history from before the first tick.

    `past_needs` are the quantities of its source that such a history consists of. `past_work` returns the work in
    replica equivalents for their means over equal steps, as `Recommendation.work` would have reported it; NaN where a
    mean is not known or implausible. `memory` is the memory of the policy's last recommendation; empty: the priors.
    """

    @property
    def source(self) -> str | None: ...
    def past_needs(self) -> tuple[str, ...]: ...
    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]: ...


@dataclass(frozen=True, slots=True)
class RuleContext:
    """The context of the rules between a need and the pools' targets.

    - `need`: the largest need in replica equivalents; None when every policy is blind.
    - `current`: the observed size in replica equivalents; `ready`: those that can serve.
    - `missing_evidence`: the policies and pools without fresh evidence; empty where `may_scale_in`.
    - `sizes`: the desired sizes of the serving pools; `desired`: those of all pools.
    - `full_reason`: why replicas that are not ready may be needed; empty where the ready ones are not full.
    - `abandoned`: the requests that the allocation does not count as supply; `planned`: the replica equivalents that it
      gives the serving pools, at most the size.
    - `need_without_latency`: the need without replicas that are recommended because users wait; None where none are.
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
    full_reason: str = ""
    abandoned: Mapping[PoolName, int] = field(default_factory=dict)
    planned: float = 0.0
    need_without_latency: float | None = None


SizeRule = Callable[[int, RuleContext], Step | None]
"""A rule between a need and a size: it takes the size so far and returns a step, or None without an effect."""


def apply_rules(rules: Iterable[SizeRule], size: int, context: RuleContext, steps: list[Step]) -> int:
    """Return the size after these rules, and append the steps that had an effect to `steps`."""
    for rule in rules:
        step = rule(size, context)
        if step is not None and step.replicas is not None:
            size = int(step.replicas)
            steps.append(step)
    return size
