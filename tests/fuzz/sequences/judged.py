"""One tick as the laws see it: the decision with its past, and the fleet's limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from policies.allocate import quantum
from policies.model import Fresh, PoolName, PoolStatus, RuleId, SignalName, Tick
from policies.quota.fleet_quota import FleetLimits
from scaler.registry import kind_of
from tests.fuzz.sequences.policies import PEERS
from tests.fuzz.worlds.turn import Turn


@dataclass(frozen=True, slots=True)
class Judged:
    """The tick to be judged, the fleet's limits, and what the fleet holds of each after it, as its ledger knows."""

    turn: Turn
    fleet: FleetLimits | None = None
    fleet_held: Mapping[str, float] = field(default_factory=dict)

    @property
    def tick(self) -> Tick:
        return self.turn.tick

    @property
    def before(self) -> int:
        """The replicas of all serving pools as they were found."""
        found = self.turn.found
        return sum(found[name].desired for name in self.serving)

    @property
    def after(self) -> int:
        """The same as decided."""
        found, targets = self.turn.found, self.turn.decision.targets
        return sum(targets.get(name, found[name].desired) for name in self.serving)

    @property
    def serving(self) -> list[PoolName]:
        """The serving pools whose size is known."""
        found = self.turn.found
        return [name for name, pool in self.turn.spec.pools.items() if pool.tier == "serving" and name in found]

    @property
    def lowered(self) -> bool:
        """Whether less is asked for, by a replica equivalent at least: 111 replicas of worth 0.5 make 55, as 110 do."""
        found, targets, pools = self.turn.found, self.turn.decision.targets, self.turn.spec.pools
        before = sum(found[name].desired * pools[name].work_per_replica for name in self.serving)
        after = sum(targets.get(name, found[name].desired) * pools[name].work_per_replica for name in self.serving)
        return self.after < self.before and math.floor(after) < math.floor(before)

    @property
    def must_empty(self) -> bool:
        """Whether no serving pool has room for one of its quanta within the maximums; or whether more is held than the
        workload's maximum, by pools without such room, and the others lack capacity or quota."""
        spec, found = self.turn.spec, self.turn.found
        roomy = {name for name in self.serving if quantum.bounds(spec.pools[name], spec.max_replicas)[1]}
        lacks = any(step.rule == RuleId.SHORTAGE for step in self.turn.decision.steps)
        over = self.before > spec.max_replicas
        return not roomy or (over and lacks and not any(found[name].desired for name in roomy))

    @property
    def refused_to_shrink(self) -> bool:
        """Whether a pool kept replicas that were to go, as its platform or another writer would not have it."""
        return any(o.result.refused and o.after < o.before for o in self.tick.outcomes)

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each policy, by the policy's name."""
        return {str(name): kind_of("policy", policy) for name, policy in self.turn.spec.policies.items()}

    @property
    def is_peer(self) -> bool:
        """Whether the workload is decided by another autoscaler's rules."""
        return any(kind in PEERS for kind in self.kinds.values())

    @property
    def by_owner(self) -> bool:
        """Whether the owner, and not a policy, may lower the size: by hand, a budget, a grant or a maximum."""
        spec = self.turn.spec
        budget = spec.budget.gpus is not None or spec.budget.usd_per_hour is not None
        granted = self.tick.observation.grant is not None
        over = max(self.before, self.turn.decision.current or 0) > spec.max_replicas or any(
            pool.max_replicas is not None and self.turn.found[name].desired > pool.max_replicas
            for name, pool in spec.pools.items()
            if name in self.turn.found
        )
        return budget or granted or over or self.turn.by_hand() is not None

    def statuses(self, tick: Tick) -> dict[str, PoolStatus]:
        """Return the sizes that a tick saw fresh, of the pools that serve."""
        pools, now = tick.observation.pools, self.turn.spec.pools
        serving = {name for name, pool in now.items() if pool.tier == "serving"} | (pools.keys() - now.keys())
        return {str(name): r.value for name, r in pools.items() if name in serving and isinstance(r, Fresh)}

    def reading(self, signal: str) -> float | None:
        """Return the value of a fresh and whole reading; None where it is not one."""
        return fresh(self.tick, signal)

    def earlier(self) -> Iterator[Tick]:
        """Yield the ticks before this one, the latest first."""
        return (seen.tick for seen in reversed(self.turn.past))


def fresh(tick: Tick, signal: str) -> float | None:
    """Return the value of a reading that is fresh, whole and believed; None where it is not one."""
    reading = tick.observation.readings.get(SignalName(signal))
    if not isinstance(reading, Fresh) or reading.missing or signal.partition(".")[0] in tick.decision.suspected_zeros:
        return None
    return reading.value
