"""Fault injection: the affected calls, their errors, and the controller's decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from policies.model import Absent, Fresh, PoolStatus, Tick
from scaler.ports import Misconfigured, OutOfCapacity, PortError, Source, Unavailable
from scaler.setup import Setup
from simulators.experiments import run
from simulators.world.faults import Fault, FaultSettings, with_faults
from simulators.world.infrastructure.market import PoolOffer
from tests.simulators.world.makers import POOL, case, offer, trace, workload

BLINDING_FAULTS = ("unavailable", "throttled", "hang", "garble", "misconfigured")
"""Faults that leave a source without readings."""
QUIET = trace((0.0, 10, 2))
BUSY = trace(*[(0.5 * k, 10, 1000) for k in range(240)])
"""Twenty requests at a time: more than the capacity of the workload's maximum of four replicas."""
READ = Fresh(7.0, 1000.0)


class SettableClock:
    """A clock that tests set."""

    def __init__(self, now: float = 1000.0) -> None:
        self.at = now

    def now(self) -> float:
        return self.at

    async def sleep_until(self, t: float) -> None:
        self.at = t

    def step_s(self) -> float:
        return 0.0


class FixedSource:
    """A source that always reads 7."""

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        return {"waiting": READ, "running": Absent("no ready engine")}


class FakePool:
    """A pool that accepts every size."""

    def __init__(self) -> None:
        self.replicas = 3

    async def status(self) -> Fresh[PoolStatus]:
        return Fresh(PoolStatus(self.replicas, self.replicas), 1000.0)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self.replicas = replicas


def ports(
    *faults: FaultSettings, clock: SettableClock | None = None, seed: int = 1, sources: tuple[str, ...] = ("a",)
) -> Setup:
    setup = Setup(workload(), {name: FixedSource() for name in sources}, {POOL: FakePool()})
    return with_faults(setup, faults, clock or SettableClock(), 1000.0, seed)


def read(source: Source) -> dict[str, Any] | str:
    """Return a source's readings, or the name of its error."""
    try:
        return dict(asyncio.run(source.sample()))
    except (PortError, TimeoutError) as e:
        return type(e).__name__


def simulated_ticks(
    *faults: FaultSettings, requests: Any = QUIET, pool: PoolOffer | None = None, **options: Any
) -> list[Tick]:
    """Return the ticks of ten minutes with faults, from four replicas or `begin`."""
    ticks: list[Tick] = []
    begin = {POOL: options.pop("begin", 4)}
    scenario = case(initial_replicas=begin, faults=faults, duration_s=600.0, pools={POOL: pool or offer()}, **options)
    run.simulate(scenario, 1, requests, record=[ticks.append])
    return ticks


# --- affected calls


def test_ports_without_matching_faults_are_unchanged() -> None:
    assert isinstance(ports().sources["a"], FixedSource)
    assert isinstance(ports(FaultSettings(fault="hang", where="pools")).sources["a"], FixedSource)
    assert isinstance(ports(FaultSettings(fault="hang", where="sources")).actuators[POOL], FakePool)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("unavailable", "Unavailable"),
        ("throttled", "Unavailable"),
        ("hang", "TimeoutError"),
        ("misconfigured", "Misconfigured"),
        ("garble", dict.fromkeys(("waiting", "running"), Absent("simulated: nan is not finite"))),
        ("zero", {"waiting": Fresh(0.0, 1000.0), "running": Absent("no ready engine")}),
        ("out_of_capacity", {"waiting": READ, "running": Absent("no ready engine")}),
    ],
)
def test_a_source_raises_or_returns_its_fault(fault: Fault, expected: dict[str, Any] | str) -> None:
    assert read(ports(FaultSettings(fault=fault, share=1)).sources["a"]) == expected


def test_a_throttled_call_has_a_retry_after() -> None:
    source = ports(FaultSettings(fault="throttled", share=1)).sources["a"]
    with pytest.raises(Unavailable) as e:
        asyncio.run(source.sample())
    assert e.value.retry_after_s == 5.0


@pytest.mark.parametrize(
    ("fault", "reading", "growing", "shrinking"),
    [
        ("unavailable", Unavailable, Unavailable, Unavailable),
        ("throttled", Unavailable, Unavailable, Unavailable),
        ("hang", TimeoutError, TimeoutError, TimeoutError),
        ("misconfigured", Misconfigured, Misconfigured, Misconfigured),
        ("garble", None, Unavailable, Unavailable),
        ("zero", None, None, None),
        ("out_of_capacity", None, OutOfCapacity, None),
    ],
)
def test_a_pool_raises_the_error_of_its_fault(
    fault: Fault, reading: type[Exception] | None, growing: type[Exception] | None, shrinking: type[Exception] | None
) -> None:
    pool = ports(FaultSettings(fault=fault, share=1)).actuators[POOL]
    three = PoolStatus(3, 3)
    for call, error in (
        (pool.status, reading),
        (lambda: pool.resize(5, three), growing),
        (lambda: pool.resize(1, three), shrinking),
    ):
        if error is None:
            asyncio.run(call())
        else:
            with pytest.raises(error):
                asyncio.run(call())


@pytest.mark.slow
def test_faults_affect_their_share_of_calls() -> None:
    source = ports(FaultSettings(fault="unavailable", share=0.3)).sources["a"]
    failed_calls = sum(read(source) == "Unavailable" for _ in range(1000))
    assert 250 < failed_calls < 350


def test_faults_apply_from_since_s_until_before_until_s() -> None:
    clock = SettableClock()
    source = ports(FaultSettings(fault="hang", share=1, since_s=60, until_s=120), clock=clock).sources["a"]
    failed = []
    for time_s in (0.0, 59.0, 60.0, 119.0, 120.0, 999.0):
        clock.at = 1000.0 + time_s
        failed.append(read(source) == "TimeoutError")
    assert failed == [False, False, True, True, False, False]


def test_the_first_of_two_faults_takes_precedence() -> None:
    both = FaultSettings(fault="hang", share=1), FaultSettings(fault="zero", share=1)
    assert read(ports(*both).sources["a"]) == "TimeoutError"
    assert read(ports(*reversed(both)).sources["a"]) == {
        "waiting": Fresh(0.0, 1000.0),
        "running": Absent("no ready engine"),
    }


def test_each_port_has_its_own_random_stream() -> None:
    half = FaultSettings(fault="hang", share=0.5)

    def failures(setup: Setup, name: str, other_sources: tuple[str, ...] = ()) -> list[bool]:
        failed = []
        for _ in range(50):
            for other in other_sources:
                read(setup.sources[other])
            failed.append(read(setup.sources[name]) == "TimeoutError")
        return failed

    single = failures(ports(half), "a")
    among_others = failures(ports(half, sources=("b", "a", "c")), "a", ("b", "c"))
    assert single == among_others
    assert failures(ports(half, sources=("b",)), "b") != single
    assert failures(ports(half, seed=2), "a") != single


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        (FaultSettings(fault="hang", since_s=60, until_s=60), "until_s"),
        (FaultSettings(fault="out_of_capacity", where="sources"), "where"),
        (FaultSettings(fault="zero", where="pools"), "where"),
    ],
)
def test_faults_without_effect_are_reported(fault: FaultSettings, key: str) -> None:
    assert [k for k, _ in fault.problems()] == [key]
    assert not list(FaultSettings(fault="hang").problems())


# --- decisions of the controller


def sizes(ticks: list[Tick]) -> list[int | None]:
    return [t.decision.target for t in ticks]


def test_without_faults_an_idle_pool_scales_in_and_a_busy_one_scales_out() -> None:
    assert sizes(simulated_ticks())[-1] == 1
    assert max(s or 0 for s in sizes(simulated_ticks(requests=BUSY, begin=1))) == 4


@pytest.mark.parametrize("fault", BLINDING_FAULTS)
def test_a_workload_without_readings_never_scales_in(fault: Fault) -> None:
    ticks = simulated_ticks(FaultSettings(fault=fault, share=1, where="sources"))
    assert set(sizes(ticks)) == {4}
    assert not any(t.decision.may_scale_in for t in ticks)


@pytest.mark.slow
@pytest.mark.parametrize("fault", BLINDING_FAULTS)
def test_a_temporary_source_fault_only_delays_scale_in(fault: Fault) -> None:
    ticks = simulated_ticks(FaultSettings(fault=fault, share=1, where="sources", until_s=200), settle_s=1200)
    storm = [t.decision.target for t in ticks if t.at < ticks[0].at + 200]
    assert set(storm) == {4}
    assert sizes(ticks)[-1] == 1


@pytest.mark.parametrize("fault", ["unavailable", "throttled", "hang", "misconfigured"])
def test_a_pool_without_responses_keeps_its_size(fault: Fault) -> None:
    ticks = simulated_ticks(FaultSettings(fault=fault, share=1, where="pools"))
    assert not any(o for t in ticks for o in t.outcomes)


def test_permanent_false_zeros_scale_in_a_busy_pool() -> None:
    """Every reading is 0, fresh and finite: the workload looks idle. Only a second source could show otherwise."""
    ticks = simulated_ticks(FaultSettings(fault="zero", share=1, where="sources"), requests=BUSY)
    assert sizes(ticks)[-1] == 1


def test_occasional_false_zeros_do_not_scale_in_a_busy_pool() -> None:
    ticks = simulated_ticks(
        FaultSettings(fault="zero", share=0.3, where="sources", until_s=110), requests=BUSY, settle_s=0
    )
    busy = [t.decision.target for t in ticks if t.at - ticks[0].at < 110]
    assert any(r.value == 0 for t in ticks[2:8] for r in t.observation.readings.values() if isinstance(r, Fresh))
    assert set(busy) == {4}


@pytest.mark.slow
def test_frequent_false_zeros_never_scale_in_a_busy_pool() -> None:
    """False zeros repeatedly last longer than a window of a minute; the source becomes suspected."""
    ticks: list[Tick] = []
    busy = trace(*[(0.7 * k, 10, 1000) for k in range(7800)])
    zero = FaultSettings(fault="zero", share=0.5, where="sources")
    scenario = case(
        workload(scale_down={"window_s": 60.0}), initial_replicas={POOL: 4}, faults=(zero,), duration_s=5400.0
    )
    run.simulate(scenario, 1, busy, record=[ticks.append])
    assert {t.decision.target for t in ticks if t.at - ticks[0].at < 5400.0} == {4}
    assert sum(bool(t.decision.suspected_zeros) for t in ticks) > 150


def test_scale_out_is_retried_until_capacity_returns() -> None:
    ticks = simulated_ticks(
        FaultSettings(fault="out_of_capacity", share=1, where="pools", until_s=60), requests=BUSY, begin=1
    )
    outcomes = [(t.at - ticks[0].at, o.result.value) for t in ticks for o in t.outcomes]
    assert {result for at, result in outcomes if 15 <= at < 60} == {"out_of_capacity"}
    assert (60.0, "accepted") in outcomes
