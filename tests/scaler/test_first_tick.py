"""First ticks of a fleet: spread over the interval, in slots."""

from __future__ import annotations

from collections import Counter

from policies.model import WorkloadName
from scaler.first_tick import SLOT_S, first_tick_s

NOW = 1_000_000.1


def first_ticks(workloads: int, interval_s: float) -> list[float]:
    names = (WorkloadName(f"llm-{number}") for number in range(workloads))
    return [first_tick_s(name, interval_s, workloads, NOW) for name in names]


def test_a_small_fleet_spreads_without_slots() -> None:
    ticks = first_ticks(20, 15.0)
    assert all(NOW <= tick <= NOW + 0.19 for tick in ticks)
    assert len(set(ticks)) == 20


def test_a_large_fleet_has_slots_over_the_whole_interval() -> None:
    slots = Counter(first_ticks(2000, 15.0))
    assert all(slot % SLOT_S == 0.0 for slot in slots)
    assert min(slots) >= NOW
    assert max(slots) <= NOW + 15.0 + SLOT_S
    assert len(slots) >= 60
    assert max(slots.values()) < 3 * 2000 / 60
