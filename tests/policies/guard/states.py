"""Random states of one workload in one tick: pools, limits, grant, and past sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from policies.allocate.quantum import round_up
from policies.history.ticks import History
from policies.model import (
    Decision,
    Fresh,
    Grant,
    Observation,
    PoolName,
    PoolStatus,
    Quota,
    Reading,
    Shortfall,
    WorkloadName,
)
from policies.model.limits import BlastRadius, Budget, Maintenance, MaintenanceWindow, Override
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from tests.factories import ABSENT, NOW, fresh, seen, spec, tick_of

MARKETS = ("on_demand", "on_demand", "spot", "reserved")
UNTIL = "2027-01-15T09:00:00Z"  # NOW is 2027-01-15T08:00:00Z


@dataclass(frozen=True)
class State:
    """A workload, its observation in one tick, and the sizes of the ticks before."""

    spec: WorkloadSpec
    observation: Observation
    history: History

    @property
    def desired(self) -> dict[PoolName, int]:
        return {n: r.value.desired for n, r in self.observation.pools.items() if isinstance(r, Fresh)}

    @property
    def serving(self) -> dict[PoolName, int]:
        return {n: size for n, size in self.desired.items() if self.spec.pools[n].tier == "serving"}


@st.composite
def pools(draw: st.DrawFn, high: int) -> dict[PoolName, Pool]:
    """Draw one to four pools that may differ in everything that the guard reads; the last may be headroom."""
    result: dict[PoolName, Pool] = {}
    priced = draw(st.booleans())
    for name in "abcd"[: draw(st.integers(1, 4))]:
        minimum, quantum = draw(st.sampled_from((0, 0, 0, 1, 3))), draw(st.sampled_from((1, 1, 2, 4, 8)))
        result[PoolName(name)] = Pool(
            min_replicas=minimum,
            max_replicas=draw(
                st.none() | st.integers(round_up(minimum, quantum), max(high, round_up(minimum, quantum)))
            ),
            quantum=quantum,
            market=draw(st.sampled_from(MARKETS)) if priced else "on_demand",
            price_usd_per_hour=draw(st.sampled_from((0.0, 1.0, 1.0, 3.3))) if priced else None,
            gpus_per_replica=draw(st.sampled_from((1, 1, 2, 8))),
        )
    if len(result) > 1 and draw(st.booleans()):
        last = list(result)[-1]
        result[last] = dataclasses.replace(result[last], tier="awake_spare", serves=PoolName("a"))
    return result


@st.composite
def workloads(draw: st.DrawFn) -> WorkloadSpec:
    """Draw a workload with any limits."""
    high = draw(st.integers(1, 40))
    drawn_pools = draw(pools(high))
    money = st.none() | st.sampled_from((0.0, 7.0, 20.0, 61.5))
    priced = drawn_pools[PoolName("a")].price_usd_per_hour is not None
    limits: dict[str, Any] = {
        "budget": Budget(gpus=draw(st.none() | st.integers(0, 60)), usd_per_hour=draw(money) if priced else None),
        "blast_radius": BlastRadius(share=draw(st.sampled_from((1.0, 0.05, 0.1, 0.25, 0.5))), window_s=600.0),
    }
    mode: Any = draw(st.sampled_from((None, None, "hold", "no_scale_in", "no_scale_out")))
    if mode is not None:
        limits["maintenance"] = Maintenance(windows=(MaintenanceWindow(start="00:00", end="00:00", mode=mode),))
    if draw(st.integers(0, 5)) == 5:
        limits["override"] = Override(replicas=draw(st.integers(0, 60)), until=UNTIL, beyond_bounds=draw(st.booleans()))
    return spec(
        pools={str(n): p for n, p in drawn_pools.items()},
        max_replicas=high,
        min_replicas=draw(st.integers(0, high)),
        **limits,
    )


@st.composite
def grants(draw: st.DrawFn) -> Grant | None:
    """Draw a grant of the fleet, or none."""
    if draw(st.booleans()):
        return None
    amounts = st.none() | st.integers(0, 60).map(lambda n: Quota(float(n), "the fleet's"))
    removed = draw(st.integers(0, 4))
    removable = draw(st.none() | st.integers(0, 5).map(lambda n: Quota(float(n), "the fleet's radius")))
    return Grant(draw(amounts), draw(amounts), removable, removed)


def history_of(sizes: list[int]) -> History:
    """Return a history with these sizes, one tick per minute, the last one a minute ago."""
    history = History()
    for i, size in enumerate(sizes):
        at = NOW - 60.0 * (len(sizes) - i)
        decision = Decision(at, (), 1.0, size, True, True, size, size, size, ())
        history.append(tick_of(seen({}, size, at=at), decision))
    return history


@st.composite
def states(draw: st.DrawFn) -> State:
    """Draw a workload in any state: blind or not, with failed replicas, sized by another writer, within a past."""
    workload = draw(workloads())
    statuses: dict[PoolName, Reading[PoolStatus]] = {}
    for name in workload.pools:
        desired = draw(st.integers(0, 30))
        ready = draw(st.integers(0, desired))
        failed = draw(st.sampled_from((0, desired - ready)))
        shortfall = Shortfall(NOW, "no capacity") if failed else None
        other_writer = draw(st.sampled_from((None, None, None, None, "HPA llm")))
        statuses[name] = Fresh(PoolStatus(desired, ready, other_writer, failed=failed, shortfall=shortfall), NOW)
    messages = draw(st.sampled_from((0.0, 5.0, 50.0, 100.0, 390.0, 5000.0)))
    blind = draw(st.integers(0, 4)) == 4
    readings: Mapping[str, Any] = {
        "queue.visible": ABSENT if blind else fresh(messages),
        "queue.in_flight": fresh(0.0),
    }
    observation = dataclasses.replace(
        seen(readings, pools={str(n): r for n, r in statuses.items()}),
        workload=WorkloadName("llm"),
        grant=draw(grants()),
    )
    past_sizes = draw(st.lists(st.integers(0, 60), max_size=4))
    return State(workload, observation, history_of(past_sizes))
