"""False zeros: when and for how long zeros are suspected; true zeros are believed at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from policies.history.ticks import History
from policies.model import Absent, Decision, Fresh, Observation
from policies.model.spec import ScaleDown, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.threshold import Concurrency, QueueDepth
from policies.signals.zero_suspicion import MAX_SUSPICION_S, SuspicionLimits, ZeroSuspicion
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.explain import paragraphs
from tests.factories import NOW, seen, spec, tick_of

STEP_S = 15.0
LIMITS = SuspicionLimits(300.0, STEP_S)
BUSY = [100.0] * 20
WITH_FALSE_ZERO = [*BUSY, 0.0, 100.0, 100.0]
"""A queue with a false zero."""


def observation(at: float, **values: float | None) -> Observation:
    """Return one tick of one source; None is an absent reading."""
    readings = {f"queue.{q}": Absent("gone") if v is None else Fresh(v, at) for q, v in values.items()}
    return seen(readings, desired=4, at=at)


def reasons_for(ticks: Sequence[Mapping[str, float | None]], limits: SuspicionLimits = LIMITS) -> list[str]:
    """Return why each tick was suspected, or an empty text."""
    suspicion, reasons = ZeroSuspicion(), []
    for k, values in enumerate(ticks):
        observed = observation(NOW + STEP_S * k, **values)
        reasons.append(suspicion.suspected(observed, limits).get("queue", ""))
        suspicion.note(observed)
    return reasons


def suspected(visible: Sequence[float | None], limits: SuspicionLimits = LIMITS) -> list[bool]:
    """Return whether each tick of a queue with these messages was suspected."""
    return [
        bool(why)
        for why in reasons_for([{"visible": v, "in_flight": 0.0 if v is not None else v} for v in visible], limits)
    ]


@pytest.mark.parametrize(
    "before",
    [
        [],
        BUSY,
        [100.0, 60.0, 20.0],
        [0.0] * 20,
        [100.0, 0.0, 300.0, 100.0],
        [3.0, 0.0, 3.0],
        [100.0] + [0.0] * 30 + BUSY,
    ],
    ids=["nothing", "work", "drained", "idle", "another batch", "hardly any work", "a long pause"],
)
def test_source_without_past_false_zeros_is_believed_at_once(before: list[float]) -> None:
    assert not any(suspected([*before, 0.0, 0.0, 0.0]))


def test_suspicion_lasts_longer_with_more_past_false_zeros() -> None:
    once = suspected([*WITH_FALSE_ZERO, *[0.0] * 40])
    often = suspected([100.0, *[0.0, 100.0] * 20, *[0.0] * 40])
    assert 0 < sum(once[23:]) * STEP_S < 120.0
    assert sum(often[41:]) * STEP_S == pytest.approx(300.0, rel=0.2), "every second tick, twenty times in a row"
    assert not once[-1]
    assert not often[-1]


def test_suspicion_lasts_twice_as_long_as_past_false_zeros() -> None:
    suspicions = suspected([*BUSY, *([0.0] * 12 + BUSY) * 2, *[0.0] * 40])
    assert sum(suspicions[84:]) * STEP_S >= 2 * 12 * STEP_S
    assert not suspicions[-1]


def test_past_false_zeros_are_forgotten() -> None:
    assert not any(suspected([*WITH_FALSE_ZERO, *[100.0] * 130, 0.0, 0.0]))


def test_suspicion_is_bounded_in_time() -> None:
    suspicions = suspected([*BUSY, *([0.0] * 18 + [100.0]) * 12, *[0.0] * 80])
    assert suspicions[-80]
    assert sum(suspicions[-80:]) * STEP_S <= MAX_SUSPICION_S


@pytest.mark.parametrize("rate", [5.0, 0.0], ids=["rates", "a rate that was 0"])
def test_rates_that_vanish_within_one_tick_are_suspected_at_once(rate: float) -> None:
    ticks = [{"running": 40.0, "prompt_tokens_per_s": 1000.0, "requests_per_s": rate}] * 10
    reasons = reasons_for([*ticks, *[dict.fromkeys(ticks[0], 0.0)] * 30])
    assert [bool(why) for why in reasons[10:]] == [STEP_S * k < LIMITS.window_s for k in range(30)]
    assert "rates fade over minutes, not within one tick" in reasons[10]


def test_rates_that_fade_to_zero_are_believed() -> None:
    fading = [{"running": 0.0, "prompt_tokens_per_s": 1000.0 * share} for share in (0.75, 0.5, 0.25, 0.0, 0.0)]
    assert not any(reasons_for([*[{"running": 40.0, "prompt_tokens_per_s": 1000.0}] * 10, *fading]))


def test_absent_readings_neither_end_nor_count_as_false_zeros() -> None:
    assert suspected([*WITH_FALSE_ZERO, 0.0, None, 0.0])[-3:] == [True, False, True]
    assert not any(suspected([*BUSY, None, 100.0, 0.0]))


def test_clock_jump_does_not_change_the_suspicion() -> None:
    steady, moved = ZeroSuspicion(), ZeroSuspicion()
    for k, visible in enumerate([*WITH_FALSE_ZERO, 0.0]):
        steady.note(observation(NOW + STEP_S * k, visible=visible))
        moved.note(observation(NOW + STEP_S * k, visible=visible))
    moved.shift(3600.0)
    at = NOW + STEP_S * len(WITH_FALSE_ZERO) + 15.0
    assert (
        moved.suspected(observation(at + 3600.0, visible=0.0), LIMITS)
        == steady.suspected(observation(at, visible=0.0), LIMITS)
        != {}
    )


# --- effect on decisions


TWO = {"queue": QueueDepth(source="queue"), "requests": Concurrency(source="engines")}
QUICK: dict[str, Any] = {
    "scale_down": ScaleDown(window_s=30.0, max_replicas=100),
    "min_replicas": 0,
    "cooldown_s": 30.0,
}


def decisions_for(workload: WorkloadSpec, visible: Sequence[float], history: History) -> list[Decision]:
    """Return the decisions for a queue with these messages; each takes effect at once and enters the history."""
    size, decisions = 10, []
    for k, messages in enumerate(visible):
        at = NOW + STEP_S * k
        readings = {"queue.visible": Fresh(messages, at), "queue.in_flight": Fresh(0.0, at)}
        observed = seen({**readings, "engines.running": Fresh(0.0, at), "engines.waiting": Fresh(0.0, at)}, size, at=at)
        decisions.append(decide(workload, history, observed))
        history.append(tick_of(observed, decisions[-1], history_len=len(history)))
        size = decisions[-1].target or 0
    return decisions


def test_suspected_zero_does_not_scale_in_and_a_true_zero_does() -> None:
    workload = spec({"queue": QueueDepth(source="queue")}, **QUICK)
    believed = decisions_for(workload, [*BUSY, *[0.0] * 4], History())
    assert believed[-1].target == 0, "no past false zero: zero after the cooldown"
    held = decisions_for(workload, [*WITH_FALSE_ZERO, *[0.0] * 4], History())
    assert held[-1].target == 10
    assert not held[-1].may_scale_in
    expired = decisions_for(workload, [*WITH_FALSE_ZERO, *[0.0] * 14], History())
    assert expired[-1].target == 0


def test_other_source_may_scale_out_during_a_suspicion() -> None:
    history = History()
    decisions_for(spec(TWO, **QUICK), WITH_FALSE_ZERO, history)
    at = NOW + STEP_S * len(WITH_FALSE_ZERO)
    queue = {"queue.visible": Fresh(0.0, at), "queue.in_flight": Fresh(0.0, at)}
    observed = seen({**queue, "engines.running": Fresh(4000.0, at), "engines.waiting": Fresh(0.0, at)}, 10, at=at)
    decision = decide(spec(TWO, **QUICK), history, observed)
    assert decision.target == 40
    assert set(decision.suspected_zeros) == {"queue"}


def test_suspicion_appears_in_the_journal_and_its_explanation() -> None:
    history = History()
    workload = spec({"queue": QueueDepth(source="queue")}, **QUICK)
    decisions_for(workload, WITH_FALSE_ZERO, history)
    observed = observation(NOW + STEP_S * len(WITH_FALSE_ZERO), visible=0.0, in_flight=0.0)
    tick = tick_of(observed, decide(workload, history, observed))
    assert tick.decision.suspected_zeros["queue"].startswith("suspected false zero, ignored for ")
    assert decode_tick(encode_tick(tick)) == tick
    assert any("source queue: suspected false zero, ignored for " in line for line in paragraphs(tick))


def test_suspected_zero_is_not_recorded_as_a_reading() -> None:
    history = History()
    decisions = decisions_for(spec({"queue": QueueDepth(source="queue")}), [*WITH_FALSE_ZERO, 0.0], history)
    assert decisions[-1].suspected_zeros
    assert np.isnan(history.column(1)[-1])
