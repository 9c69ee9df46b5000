"""One tick as input of the laws: the decision with its past, and the fleet's limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from policies.allocate import quantum
from policies.model import Fresh, PoolName, PoolStatus, RuleId, SignalName, Tick
from policies.quota.fleet_quota import FleetLimits
from scaler.registry import kind_of
from tests.fuzz.sequences.policies import PEERS
from tests.fuzz.worlds.tick_context import TickContext


@dataclass(frozen=True, slots=True)
class Judged:
    """The tick to be judged, the fleet's limits, and the fleet's use of each after it by its ledger."""

    context: TickContext
    fleet: FleetLimits | None = None
    fleet_held: Mapping[str, float] = field(default_factory=dict)

    @property
    def tick(self) -> Tick:
        return self.context.tick

    @property
    def before(self) -> int:
        """Observed replicas of all serving pools."""
        statuses = self.context.statuses
        return sum(statuses[name].desired for name in self.serving)

    @property
    def after(self) -> int:
        """Decided replicas of all serving pools."""
        statuses, targets = self.context.statuses, self.context.decision.targets
        return sum(targets.get(name, statuses[name].desired) for name in self.serving)

    @property
    def serving(self) -> list[PoolName]:
        """The serving pools whose size is known."""
        statuses = self.context.statuses
        return [name for name, pool in self.context.spec.pools.items() if pool.tier == "serving" and name in statuses]

    @property
    def lowered(self) -> bool:
        """True if at least one replica equivalent less is requested.

        111 replicas of 0.5 equivalents each are 55, as are 110.
        """
        statuses, targets, pools = self.context.statuses, self.context.decision.targets, self.context.spec.pools
        before = sum(statuses[name].desired * pools[name].work_per_replica for name in self.serving)
        after = sum(targets.get(name, statuses[name].desired) * pools[name].work_per_replica for name in self.serving)
        return self.after < self.before and math.floor(after) < math.floor(before)

    @property
    def must_empty(self) -> bool:
        """True if no serving pool has room for one of its quanta within the maximums; or if the size is above the
        workload's maximum, no pool with such room holds replicas, and the other pools lack capacity or quota."""
        spec, statuses = self.context.spec, self.context.statuses
        roomy = {name for name in self.serving if quantum.bounds(spec.pools[name], spec.max_replicas)[1]}
        lacks = any(step.rule == RuleId.SHORTAGE for step in self.context.decision.steps)
        over = self.before > spec.max_replicas
        return not roomy or (over and lacks and not any(statuses[name].desired for name in roomy))

    @property
    def refused_to_shrink(self) -> bool:
        """True if a platform or another writer refused to remove replicas of a pool."""
        return any(o.result.refused and o.after < o.before for o in self.tick.outcomes)

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each policy, by name."""
        return {str(name): kind_of("policy", policy) for name, policy in self.context.spec.policies.items()}

    @property
    def is_peer(self) -> bool:
        """True if the workload uses another autoscaler's rules."""
        return any(kind in PEERS for kind in self.kinds.values())

    @property
    def by_owner(self) -> bool:
        """True if an operator's limit may lower the size: an override, a budget, a grant or a maximum."""
        spec = self.context.spec
        budget = spec.budget.gpus is not None or spec.budget.usd_per_hour is not None
        granted = self.tick.observation.grant is not None
        over = max(self.before, self.context.decision.current or 0) > spec.max_replicas or any(
            pool.max_replicas is not None and self.context.statuses[name].desired > pool.max_replicas
            for name, pool in spec.pools.items()
            if name in self.context.statuses
        )
        return budget or granted or over or self.context.override_in_force() is not None

    def statuses(self, tick: Tick) -> dict[str, PoolStatus]:
        """Return the sizes that a tick saw fresh, of the pools that serve."""
        pools, now = tick.observation.pools, self.context.spec.pools
        serving = {name for name, pool in now.items() if pool.tier == "serving"} | (pools.keys() - now.keys())
        return {str(name): r.value for name, r in pools.items() if name in serving and isinstance(r, Fresh)}

    def reading(self, signal: str) -> float | None:
        """Return the value of a reading that is fresh, complete and trusted, or None."""
        return fresh(self.tick, signal)

    def earlier(self) -> Iterator[Tick]:
        """Yield the ticks before this one, the latest first."""
        return (recorded.tick for recorded in reversed(self.context.past))


def fresh(tick: Tick, signal: str) -> float | None:
    """Return the value of a reading that is fresh, complete and trusted at a tick, or None."""
    reading = tick.observation.readings.get(SignalName(signal))
    if not isinstance(reading, Fresh) or reading.missing or signal.partition(".")[0] in tick.decision.suspected_zeros:
        return None
    return reading.value
