"""Draws the story of a seed: load of each workload, faults of sources and platforms, reloads, clock jumps."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.model import Grant, Quota
from policies.model.limits import BlastRadius
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload
from tests.fuzz.rng import Rng
from tests.fuzz.sequences.policies import COUNTS, ENGINES, LATENCIES, PER_REPLICA, QUEUE, SHARES, TOTALS
from tests.fuzz.sequences.story import PoolEvent, Readings, Scene, SourceValue, Story, StoryTick, WriteResult
from tests.fuzz.sequences.workloads import workload

NAMES: Final = ("chat", "code", "batch")
TICKS: Final = (6, 26)
LONG: Final = (40, 60)
"""Ticks of one story in eight, long enough for a workload to reach zero."""
ABSURD: Final = (1e7, 1e9, 1e12, 1e15, 1e18, 1e100, 1e308, sys.float_info.max, 5e-324, 2.0**63)
"""Finite readings that no engine reports."""
FAULTS: Final = ("absent", "old", "ahead", "partial")
ERRORS: Final = ("unavailable", "misconfigured", "raises_wait")


@dataclass(frozen=True, slots=True)
class FaultRates:
    """Probabilities of each kind of fault, for a whole story."""

    reading_faults: float
    source_errors: float
    pool_errors: float
    platform: float
    absurd: float
    reloads: float
    steps: float


def draw(seed: int) -> Story:
    """Return the story of a seed."""
    rng = Rng(seed, "story")
    names = NAMES[: rng.choice((1, 1, 1, 1, 2, 3))]
    workloads = {name: workload(seed, name) for name in names}
    sizes = {name: _sizes(rng, config) for name, config in workloads.items()}
    fleet = _fleet(rng, workloads) if len(names) > 1 or rng.happens(0.1) else None
    ticks = _ticks(seed, rng, workloads, fleet)
    return Story(seed, workloads, sizes, tuple(ticks), fleet)


def _fault_rates(rng: Rng) -> FaultRates:
    def pick_rate(*shares: float) -> float:
        return rng.choice(shares)

    return FaultRates(
        reading_faults=pick_rate(0.0, 0.0, 0.05, 0.3),
        source_errors=pick_rate(0.0, 0.0, 0.05, 0.3),
        pool_errors=pick_rate(0.0, 0.0, 0.05, 0.2),
        platform=pick_rate(0.0, 0.1, 0.3, 0.6),
        absurd=pick_rate(0.0, 0.0, 0.0, 0.02, 0.2),
        reloads=pick_rate(0.0, 0.0, 0.05, 0.2),
        steps=pick_rate(0.0, 0.0, 0.0, 0.1),
    )


def _sizes(rng: Rng, config: Workload) -> dict[str, int]:
    """Return initial sizes: mostly within the bounds, not always whole quanta."""
    maximum = config.spec.max_replicas + rng.choice((0, 0, 0, 3))
    return {name: rng.randint(0, max(1, maximum // len(config.spec.pools))) for name in config.spec.pools}


def _fleet(rng: Rng, workloads: Mapping[str, Workload]) -> FleetLimits:
    total = sum(w.spec.max_replicas for w in workloads.values())
    radius = BlastRadius(share=rng.choice((0.1, 0.3, 1.0, 1.0)), window_s=rng.choice((60.0, 600.0)))
    gpus = rng.choice((None, rng.randint(0, total)))
    usd = rng.choice((None, None, rng.scale(1.0, 10.0 * total)))
    return FleetLimits(max_gpus=gpus, max_usd_per_hour=usd, blast_radius=radius)


def _ticks(seed: int, rng: Rng, workloads: Mapping[str, Workload], fleet: FleetLimits | None) -> list[StoryTick]:
    rates, count = _fault_rates(rng), rng.randint(*(LONG if rng.happens(0.125) else TICKS))
    interval_s = max(w.spec.interval_s for w in workloads.values())
    courses = {
        name: WorkloadCourse(seed, config, rates, count, fleet is not None) for name, config in workloads.items()
    }
    current = dict[str, Workload | None](workloads)
    ticks = []
    for number in range(count):
        edits = _edits(seed, rng, rates, current, workloads, number) if number else {}
        current |= edits
        scenes = {name: courses[name].scene(number, config) for name, config in current.items() if config is not None}
        after_s = interval_s * rng.choice((1.0, 1.0, 1.0, 1.0, 1.0, 1.01, 2.0)) if number else 0.0
        after_s += rng.choice((600.0, 5000.0)) if rng.happens(0.005) else 0.0
        step_s = rng.choice((-3600.0, -30.0, 30.0, 3600.0, 86_400.0)) if number and rng.happens(rates.steps) else 0.0
        ticks.append(StoryTick(after_s, scenes, step_s, edits))
    return ticks


def _edits(
    seed: int,
    rng: Rng,
    rates: FaultRates,
    current: Mapping[str, Workload | None],
    originals: Mapping[str, Workload],
    number: int,
) -> dict[str, Workload | None]:
    """Return reloads: a workload edited, removed or added again. At least one stays."""
    if not rng.happens(rates.reloads):
        return {}
    name = rng.choice(sorted(current))
    present = current[name]
    if present is None:
        return {name: originals[name]}
    if sum(config is not None for config in current.values()) > 1 and rng.happens(0.3):
        return {name: None}
    return {name: workload(seed + 1_000_003 * number, name, present.document)}


class WorkloadCourse:
    """The course of one workload's load and platforms through a story."""

    def __init__(self, seed: int, config: Workload, rates: FaultRates, ticks: int, in_fleet: bool) -> None:
        self._rng = rng = Rng(seed, f"cast/{config.name}")
        self._rates = rates
        self._in_fleet = in_fleet
        self._unit = rng.choice((0.2, 1.0, 1.0, 3.0))
        self._load = rng.scale(0.1, config.spec.max_replicas)
        idle_tick = rng.choice((ticks, ticks, rng.randint(0, ticks)))
        self._idle_from = idle_tick if rng.happens(0.6) else ticks
        self._has_faint_load = rng.happens(0.5)
        outage = rng.randint(1, ticks) if rng.happens(0.35) else ticks + 1
        self._outage = range(outage, outage + rng.randint(1, ticks))
        self._lost_share = rng.choice((1.0, 1.0, 0.9, 0.8, 0.5))
        self._saturated = rng.happens(0.6)
        self._is_fault_free = rng.happens(0.35)
        """True if sources and platforms have no fault except the outage."""

    def scene(self, number: int, config: Workload) -> Scene:
        rng = self._rng
        if rng.happens(0.15):
            self._load = rng.choice((self._load * rng.scale(0.2, 5.0), rng.scale(0.05, 2.0 * config.spec.max_replicas)))
        in_outage = number in self._outage
        readings = {name: self._readings(name, number) for name in (ENGINES, QUEUE)}
        pools = {str(name): self._event(config, number) for name in config.spec.pools}
        saturated = in_outage and self._saturated
        return Scene(readings, pools, share_served=in_outage, saturated=saturated, grant=self._grant(config))

    def _readings(self, source: str, number: int) -> Readings:
        rng, rates = self._rng, self._rates
        if not self._is_fault_free and rng.happens(rates.source_errors):
            return Readings({}, rng.choice(ERRORS))
        quantities = COUNTS if source == QUEUE else (*SHARES, *TOTALS, *LATENCIES)
        return Readings({quantity: self._level(quantity, number) for quantity in quantities})

    def _level(self, quantity: str, number: int) -> SourceValue:
        rng, rates = self._rng, self._rates
        value = self._value(quantity, idle=number >= self._idle_from)
        if rng.happens(rates.absurd):
            value = rng.choice(ABSURD)
        fault: Any = rng.choice(FAULTS) if not self._is_fault_free and rng.happens(rates.reading_faults) else ""
        return SourceValue(value, fault)

    def _value(self, quantity: str, *, idle: bool) -> float:
        rng = self._rng
        noise = rng.share(0.8, 1.25)
        if quantity in PER_REPLICA:
            if idle:
                return (
                    PER_REPLICA[quantity] * rng.share(0.0, 0.05) if self._has_faint_load and rng.happens(0.5) else 0.0
                )
            busy = PER_REPLICA[quantity] * self._load * self._unit * noise
            return float(round(busy)) if quantity in {*COUNTS, "running", "waiting"} else busy
        if quantity in SHARES:
            return rng.share(0.0, 0.03) if idle else min(1.0, rng.share(0.1, 1.2))
        return rng.scale(0.001, 0.05) if idle else rng.scale(0.01, 5.0)

    def _event(self, config: Workload, number: int) -> PoolEvent:
        rng = self._rng
        if number in self._outage:
            return PoolEvent(starts=0.0, loses=self._lost_share if number == self._outage.start else 0.0)
        starts = rng.choice((1.0, 1.0, 0.5, 0.2, 0.0))
        if self._is_fault_free or not rng.happens(self._rates.platform):
            error: Any = rng.choice(ERRORS) if not self._is_fault_free and rng.happens(self._rates.pool_errors) else ""
            return PoolEvent(starts=starts, error=error)
        return replace(self._random_fault(config), starts=starts)

    def _random_fault(self, config: Workload) -> PoolEvent:
        rng = self._rng
        match rng.randint(0, 7):
            case 0:
                return PoolEvent(loses=rng.choice((0.2, 0.5, 1.0)))
            case 1:
                return PoolEvent(interrupts=rng.randint(1, 4))
            case 2:
                return PoolEvent(interruption_pending=rng.randint(1, 4))
            case 3:
                return PoolEvent(fails=rng.randint(1, 5), shortage=rng.choice(("", "capacity", "capacity", "quota")))
            case 4:
                return PoolEvent(sets=rng.randint(0, config.spec.max_replicas + 5), other_writer=rng.happens(0.5))
            case 5:
                return PoolEvent(other_writer=True)
            case _:
                write_result: tuple[WriteResult, ...] = (
                    "lost",
                    "refused",
                    "capacity",
                    "quota",
                    "conflict",
                    "misconfigured",
                )
                return PoolEvent(write_result=rng.choice(write_result))

    def _grant(self, config: Workload) -> Grant | None:
        """Return a random grant, if no ledger computes one."""
        rng, maximum = self._rng, config.spec.max_replicas
        if self._in_fleet or not rng.happens(0.1):
            return None

        def quota(limit: float) -> Quota | None:
            return Quota(float(rng.randint(0, maximum)) * limit, "granted at random") if rng.happens(0.6) else None

        removable = Quota(float(rng.randint(0, 3)), "granted at random") if rng.happens(0.6) else None
        return Grant(quota(rng.choice((1.0, 8.0))), quota(rng.choice((1.0, 4.0))), removable)
