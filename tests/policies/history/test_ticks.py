"""History: its bounds, windows, gaps, lead times, signals and memory."""

from __future__ import annotations

import numpy as np
import pytest

from policies.history.ticks import AT, CAPPED_NEED, MAY_SCALE_IN, MIN_FREE_ROWS, TARGET, History
from policies.model import Absent, Decision, Evidence, Fresh, PolicyName, Reading, Recommendation, SignalName
from tests.factories import seen, stale, tick_of

LOAD = SignalName("e.load")
POLICY = PolicyName("me")


def append_tick(
    history: History, at: float, *, target: int | None = 1, may_scale_in: bool = True, ready: int = 1
) -> None:
    decision = Decision(at, (), 1.0, target, True, may_scale_in, target, ready, target, ())
    history.append(tick_of(seen({}, at=at), decision))


def test_column_since_a_time_includes_that_time() -> None:
    history = History()
    for at in (0, 15, 30, 45):
        append_tick(history, at, target=at)
    assert history.column(TARGET, since=15).tolist() == [15, 30, 45]
    assert history.column(TARGET, since=46).tolist() == []


def test_column_to_now_ends_with_the_value_of_this_tick() -> None:
    history = History()
    for at in (0.0, 15.0, 30.0):
        append_tick(history, at)
    values = history.column_to_now(AT, 15.0, 45.0)
    values[0] = -1.0
    assert values.tolist() == [-1.0, 30.0, 45.0]
    assert history.column(AT).tolist() == [0.0, 15.0, 30.0]


@pytest.mark.slow
def test_history_keeps_its_span() -> None:
    history = History(span_s=600)
    for i in range(10_000):
        append_tick(history, 15.0 * i)
    at = history.column(AT)
    assert at[0] == at[-1] - 600
    assert len(history) == 41


def test_history_keeps_at_most_max_rows() -> None:
    history = History(span_s=1e9, max_rows=100)
    for i in range(1000):
        append_tick(history, float(i), target=i)
    assert history.column(TARGET).tolist() == list(range(900, 1000))


def test_array_of_a_history_has_an_eighth_of_free_rows() -> None:
    history = History(span_s=600)  # 41 rows at 15 s
    for i in range(200):
        append_tick(history, 15.0 * i, target=i)
        assert history._rows.shape[1] <= 41 + 41 // 8 + MIN_FREE_ROWS + 1
    assert history.column(TARGET).tolist() == [float(i) for i in range(159, 200)]


def test_history_ignores_a_row_that_is_not_after_the_last() -> None:
    history = History()
    append_tick(history, 100)
    append_tick(history, 100)
    append_tick(history, 50)
    assert history.column(AT).tolist() == [100]


def test_unknown_values_are_nan() -> None:
    history = History()
    append_tick(history, 1, target=5)
    append_tick(history, 2, target=None)
    assert np.isnan(history.column(CAPPED_NEED)[-1])


def test_longest_gap_includes_both_ends_of_the_window() -> None:
    history = History()
    for at in (0, 15, 30, 90, 105):
        append_tick(history, at)
    assert history.longest_gap_s(MAY_SCALE_IN, 0, 120) == 60
    assert history.longest_gap_s(MAY_SCALE_IN, 95, 120) == 15
    assert history.longest_gap_s(MAY_SCALE_IN, 100, 400) == 295
    assert history.longest_gap_s(MAY_SCALE_IN, -50, 120) == np.inf, "no tick covers the start of the window"


def test_ticks_without_full_evidence_are_gaps() -> None:
    history = History()
    for at in (0, 15, 30, 45, 60):
        append_tick(history, at, may_scale_in=at not in {15, 30, 45})
    assert history.longest_gap_s(MAY_SCALE_IN, 0, 60) == 60


def test_clock_jump_shifts_the_whole_history() -> None:
    history = History()
    append_tick(history, 10, target=5, ready=1)
    history.shift(3600)
    assert history.column(AT).tolist() == [3610]
    append_tick(history, 3625, target=5, ready=5)
    assert history.lead_times.quantile_s(0.5) == 15


# --- signals and memory


def append_reading(
    history: History,
    at: float,
    reading: Reading[float],
    *,
    retained: tuple[SignalName, ...] = (LOAD,),
    memory: dict[str, float] | None = None,
) -> None:
    recommendation = Recommendation(
        POLICY, 1.0, Evidence.FULL, True, "", retained_signals=retained, memory=memory or {}
    )
    decision = Decision(at, (recommendation,), 1.0, 1, True, True, 1, 1, 1, ())
    history.append(tick_of(seen({LOAD: reading}, at=at), decision))


def test_signal_is_retained_from_the_first_tick_that_requests_it() -> None:
    history = History()
    append_reading(history, 0, Fresh(1.0, 0), retained=())
    assert [a.tolist() for a in history.signal(LOAD, 0)] == [[], []]
    append_reading(history, 15, Fresh(2.0, 15))
    append_reading(history, 30, Fresh(3.0, 30), retained=())
    assert [a.tolist() for a in history.signal(LOAD, 0)] == [[15, 30], [2, 3]]
    assert [a.tolist() for a in history.signal(LOAD, 30)] == [[30], [3]]


def test_stale_absent_or_partial_readings_are_not_retained() -> None:
    history = History()
    readings: tuple[Reading[float], ...] = (
        Fresh(1.0, 0),
        stale(9.0),
        Absent("gone"),
        Fresh(9.0, 3, "one is missing"),
        Fresh(0.0, 4),
    )
    for at, reading in enumerate(readings):
        append_reading(history, float(at), reading)
    assert [a.tolist() for a in history.signal(LOAD, 0)] == [[0, 4], [1, 0]]


def test_retained_signal_is_bounded_and_shifted_with_the_rows() -> None:
    history = History(span_s=600)
    for i in range(1000):
        append_reading(history, 15.0 * i, Fresh(float(i), 15.0 * i))
    at, values = history.signal(LOAD, 0)
    assert (len(values), values[0], values[-1]) == (41, 959, 999)
    history.shift(-100)
    assert history.signal(LOAD, 0)[0].tolist() == (at - 100).tolist()


def test_policy_memory_is_that_of_its_last_recommendation() -> None:
    history = History()
    assert history.memory(POLICY) == {}
    append_reading(history, 0, Fresh(1.0, 0), memory={"agreed_s": 15.0})
    assert history.memory(POLICY) == {"agreed_s": 15.0}
    append_reading(history, 15, Fresh(1.0, 15))
    assert history.memory(POLICY) == {}
