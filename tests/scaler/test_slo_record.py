"""The count of an SLO's requests: windows, gaps, clock jumps, and records that the journal restores."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from policies.model import Absent, ErrorBudget, Fresh, Reading, RequestCount, SignalName, Stale, WorkloadName
from policies.model.error_budget import DAY_S, HOUR_S
from policies.model.spec import Slo, WorkloadSpec
from scaler.slo_record import SloRecord, record_of
from tests.servers.dashboard import INTERVAL_S, NOON, spec
from tests.slo import ENGINES

SLO = Slo(ttft_s=1.0, itl_s=0.05, share=0.99)
CHAT = WorkloadName("chat")
WORKLOAD = spec(slo=SLO, sources={"engines": ENGINES})
RATE = 40.0


Readings = dict[SignalName, Reading[float]]


def engines(ttft: float = 0.0, itl: float = 0.0, e2e: float = 0.0) -> Readings:
    values = {"requests_per_s": RATE, "ttft_late_share": ttft, "itl_late_share": itl, "e2e_late_share": e2e}
    return {SignalName(f"engines.{name}"): Fresh(value, NOON) for name, value in values.items()}


def new_record(workload: WorkloadSpec = WORKLOAD) -> SloRecord:
    record = record_of(workload)
    assert record is not None
    return record


def play(record: SloRecord, shares: Iterator[float] | list[float], first: int = 0) -> ErrorBudget:
    """Observe a tick for each share of late requests, an interval apart, and return the last budget."""
    budget = None
    for turn, share in enumerate(shares, first):
        budget = record.observe(NOON + turn * INTERVAL_S, engines(ttft=share))
    assert budget is not None
    return budget


def test_tick_counts_for_the_time_since_the_last_one_and_the_larger_share_is_late() -> None:
    record = new_record()
    first = record.observe(NOON, engines(ttft=0.5))
    assert first.last == RequestCount(0, 0, 0)
    assert first.problem == "no tick before this one"
    second = record.observe(NOON + 15, engines(ttft=0.01, itl=0.04))
    assert second.last == RequestCount(15, 600, 24)
    assert second.windows[HOUR_S] == RequestCount(15, 600, 24)
    assert (second.since, second.problem) == (NOON, "")
    assert second.burn_rate(HOUR_S) == pytest.approx(4.0)


def test_windows_forget_what_is_older() -> None:
    """An hour late, then ten hours on time: it leaves the windows of 1 h and 6 h, and stays in those of days."""
    budget = play(new_record(), [0.5] * 241 + [0.0] * 2400)
    late = {window_s: count.late for window_s, count in budget.windows.items()}
    assert late == {300: 0, 1800: 0, 3600: 0, 21600: 0, 3 * DAY_S: 72_000, 28 * DAY_S: 72_000}
    assert budget.windows[HOUR_S].requests == pytest.approx(RATE * HOUR_S, rel=0.02)
    assert budget.windows[6 * HOUR_S].requests == pytest.approx(RATE * 6 * HOUR_S, rel=0.01)


def test_windows_equal_a_plain_sum_over_the_ticks() -> None:
    rng = random.Random(7)  # noqa: S311 - a test's choices
    record, ticks, at = new_record(), [], NOON
    for _ in range(3000):
        at += rng.choice((5.0, 15.0, 40.0, 280.0))
        ticks.append((at, record.observe(at, engines(ttft=rng.choice((0.0, 0.02, 0.3)))).last))
    budget = record.observe(at + 1, engines())
    ticks.append((at + 1, budget.last))
    for window_s, count in budget.windows.items():
        step_s = 60 if window_s <= 6 * HOUR_S else 3600
        newer = [c for t, c in ticks if t // step_s > (at + 1) // step_s - window_s / step_s]
        assert count.late == pytest.approx(sum(c.late for c in newer), abs=0.1)
        assert count.measured_s == pytest.approx(sum(c.measured_s for c in newer), abs=0.1)


@pytest.mark.slow
def test_record_covers_28_days() -> None:
    record, day = new_record(), round(24 * HOUR_S / 300)
    for turn in range(30 * day):
        budget = record.observe(NOON + 300 * turn, engines(ttft=0.5 if turn < day else 0.0))
    month = budget.windows[28 * DAY_S]
    assert month.late == 0, "the first day is older than 28 days"
    assert month.measured_s == pytest.approx(28 * DAY_S, rel=0.002)
    assert budget.windows[6 * HOUR_S].requests == pytest.approx(RATE * 6 * HOUR_S, rel=0.02)


UNMEASURED: dict[str, tuple[WorkloadSpec, Readings, str]] = {
    "no late share is read": (
        replace(WORKLOAD, sources={}),
        engines(),
        "no source reads ttft_late_share and itl_late_share",
    ),
    "a share is stale": (
        WORKLOAD,
        {**engines(), SignalName("engines.itl_late_share"): Stale(0.0, NOON, 90.0)},
        "engines.itl_late_share is stale, 90 s old",
    ),
    "a share is absent": (
        WORKLOAD,
        {**engines(), SignalName("engines.ttft_late_share"): Absent("no observations in the last 60 s")},
        "engines.ttft_late_share is absent: no observations in the last 60 s",
    ),
    "the rate is a lower bound": (
        WORKLOAD,
        {**engines(), SignalName("engines.requests_per_s"): Fresh(3.0, NOON, "1 of 2 engines")},
        "engines.requests_per_s is a lower bound: 1 of 2 engines",
    ),
    "no rate is read": (
        WORKLOAD,
        {s: r for s, r in engines().items() if not s.endswith("requests_per_s")},
        "engines.requests_per_s is not read by the source",
    ),
    "no share of a limit is read": (
        replace(WORKLOAD, slo=Slo(ttft_s=None, itl_s=None, e2e_s=30.0)),
        {s: r for s, r in engines().items() if not s.endswith("e2e_late_share")},
        "engines.e2e_late_share is not read by the source",
    ),
}


@pytest.mark.parametrize(("workload", "values", "problem"), UNMEASURED.values(), ids=UNMEASURED)
def test_unmeasured_requests_are_unknown_and_named(workload: WorkloadSpec, values: Readings, problem: str) -> None:
    record = new_record(workload)
    for turn in range(4):
        budget = record.observe(NOON + turn * INTERVAL_S, values)
    assert budget.problem == problem
    assert [budget.burn_rate(window_s) for window_s in budget.windows] == [None] * 6
    assert budget.since is None


def test_share_of_a_limit_that_is_not_set_is_not_needed() -> None:
    record = new_record(replace(WORKLOAD, slo=Slo(ttft_s=1.0)))
    values = {**engines(ttft=0.02), SignalName("engines.itl_late_share"): Absent("slo.itl_s is not set")}
    record.observe(NOON, values)
    assert record.observe(NOON + 15, values).attainment(HOUR_S) == pytest.approx(0.98)


def test_end_to_end_limit_counts() -> None:
    record = new_record(replace(WORKLOAD, slo=Slo(ttft_s=None, itl_s=None, e2e_s=30.0)))
    record.observe(NOON, engines())
    assert record.observe(NOON + 15, engines(ttft=0.5, e2e=0.1)).last == RequestCount(15, 600, 60)


def test_gap_counts_as_not_measured() -> None:
    record = new_record()
    for turn in (0, 1, 2, 100):
        budget = record.observe(NOON + turn * INTERVAL_S, engines())
    assert budget.windows[HOUR_S].measured_s == 2 * INTERVAL_S
    assert budget.problem == "no tick in the 1470 s before this one"


def test_rare_ticks_are_no_gaps() -> None:
    record = new_record(replace(WORKLOAD, interval_s=600.0))
    record.observe(NOON, engines())
    assert record.observe(NOON + 600, engines()).last.measured_s == 600


def test_clock_jump_moves_no_request_into_another_window() -> None:
    record, jump_s = new_record(), 48 * HOUR_S
    play(record, [0.0] * 10)
    record.shift(jump_s)
    budget = record.observe(NOON + jump_s + 10 * INTERVAL_S, engines())
    assert budget.windows[HOUR_S].measured_s == 10 * INTERVAL_S
    assert budget.since == NOON + jump_s
    back = record.observe(NOON + jump_s + 5 * INTERVAL_S, engines())
    assert (back.last.measured_s, back.problem) == (0, "no time since the tick before this one")


def test_new_limits_begin_a_new_record_and_a_new_share_does_not() -> None:
    record = new_record()
    play(record, [0.02] * 4)
    stricter = record.adopt(replace(WORKLOAD, slo=replace(SLO, share=0.999)))
    assert stricter is record
    assert stricter.observe(NOON + 60, engines(ttft=0.02)).burn_rate(HOUR_S) == pytest.approx(20.0)
    for changed in (replace(SLO, ttft_s=3.0), replace(SLO, window_s=7 * DAY_S)):
        renewed = record.adopt(replace(WORKLOAD, slo=changed))
        assert renewed is not None
        assert renewed.observe(NOON, engines()).windows[HOUR_S].measured_s == 0
    assert record.adopt(replace(WORKLOAD, slo=None)) is None


def test_short_window_of_the_budget_replaces_longer_ones() -> None:
    record = new_record(replace(WORKLOAD, slo=replace(SLO, window_s=DAY_S)))
    assert [*record.observe(NOON, engines()).windows] == [300, 1800, HOUR_S, 6 * HOUR_S, DAY_S]


@pytest.mark.parametrize("ticks", [1, 2, 500, 4000])
def test_restored_record_goes_on_as_the_original_one(ticks: int) -> None:
    rng = random.Random(ticks)  # noqa: S311 - a test's choices
    original, restored = new_record(), new_record()
    play(original, [rng.choice((0.0, 0.1)) for _ in range(ticks)])
    history = original.history(CHAT)
    assert history is not None
    restored.restore(history)
    for turn in (ticks, ticks + 1, ticks + 15, ticks + 500):
        at, values = NOON + turn * INTERVAL_S, engines(ttft=0.05)
        assert restored.observe(at, values) == original.observe(at, values)


def test_record_of_other_limits_is_not_restored() -> None:
    other, record = new_record(replace(WORKLOAD, slo=replace(SLO, ttft_s=2.0))), new_record()
    assert other.history(CHAT) is None, "it has no tick yet"
    play(other, [0.5] * 4)
    history = other.history(CHAT)
    assert history is not None
    record.restore(history)
    assert record.observe(NOON + 60, engines()).since is None
