"""The error budget of an SLO: burn rates, what remains, and the states of the SLO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from policies.history.ticks import History
from policies.model import ErrorBudget, PolicyName, Recommendation, RequestCount, SloState
from policies.model.error_budget import DAY_S, HOUR_S, MINUTE_S, window_text
from policies.model.spec import Slo
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from policies.recommend.threshold import QueueDepth
from tests.factories import queue, seen, spec

WINDOWS_S = (5 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 6 * HOUR_S, 3 * DAY_S, 28 * DAY_S)
LIMITS_S = {"ttft_s": 1.0}


def budget(late_shares: Mapping[float, float | None], share: float = 0.99, other: float | None = 0.0) -> ErrorBudget:
    """Return a budget with 10,000 requests in each window, of which these shares were late; None is not measured."""
    shares = {window_s: late_shares.get(window_s, other) for window_s in WINDOWS_S}
    counts = {w: RequestCount(0, 0, 0) if s is None else RequestCount(w, 10_000, 10_000 * s) for w, s in shares.items()}
    return ErrorBudget(share, LIMITS_S, counts)


def test_burn_rate_is_the_late_share_over_the_allowed_share() -> None:
    measured = budget({HOUR_S: 0.02, 28 * DAY_S: 0.0025})
    assert measured.burn_rate(HOUR_S) == pytest.approx(2.0)
    assert measured.remaining == pytest.approx(0.75)
    assert measured.window_s == 28 * DAY_S


def test_unmeasured_window_is_unknown_and_an_idle_one_burns_nothing() -> None:
    unmeasured = budget({}, other=None)
    assert [unmeasured.burn_rate(w) for w in WINDOWS_S] == [None] * 6
    assert (unmeasured.remaining, unmeasured.violated, unmeasured.at_risk) == (None, None, None)
    assert unmeasured.state is SloState.UNKNOWN
    idle = ErrorBudget(0.99, LIMITS_S, {w: RequestCount(w, 0, 0) for w in WINDOWS_S})
    assert (idle.burn_rate(HOUR_S), idle.remaining, idle.attainment(HOUR_S)) == (0.0, 1.0, None)
    assert idle.state is SloState.MET
    assert idle.burn_rate(7.0) is None, "no such window is measured"


@pytest.mark.parametrize(
    ("late_shares", "state"),
    [
        ({}, SloState.MET),
        ({HOUR_S: 0.145, 300: 0.145}, SloState.AT_RISK),
        ({HOUR_S: 0.143, 300: 0.145}, SloState.MET),
        ({HOUR_S: 0.145, 300: 0.143}, SloState.MET),
        ({6 * HOUR_S: 0.061, 1800: 0.061}, SloState.AT_RISK),
        ({6 * HOUR_S: 0.061, 1800: 0.059}, SloState.MET),
        ({3 * DAY_S: 0.5}, SloState.MET),
        ({28 * DAY_S: 0.01}, SloState.VIOLATED),
        ({28 * DAY_S: 0.0099}, SloState.MET),
        ({28 * DAY_S: 0.02, HOUR_S: 0.5, 300: 0.5}, SloState.VIOLATED),
        ({300: None}, SloState.UNKNOWN),
        ({300: None, 6 * HOUR_S: 0.1, 1800: 0.1}, SloState.AT_RISK),
        ({300: None, 28 * DAY_S: 0.1}, SloState.VIOLATED),
        ({28 * DAY_S: None}, SloState.UNKNOWN),
    ],
)
def test_state_follows_burn_rates_and_the_remaining_budget(
    late_shares: Mapping[float, float | None], state: SloState
) -> None:
    assert budget(late_shares).state is state


def test_first_hour_can_be_at_risk_and_not_violated() -> None:
    """59 minutes with 5 % late, then one more minute: the budget was overspent all the time."""
    counts = {w: RequestCount(min(w, 59 * MINUTE_S), 10_000, 500) for w in WINDOWS_S}
    young = ErrorBudget(0.99, LIMITS_S, counts)
    assert young.remaining == pytest.approx(-4.0)
    assert (young.violated, young.state) == (None, SloState.UNKNOWN)
    counts[28 * DAY_S] = RequestCount(HOUR_S, 10_000, 500)
    assert ErrorBudget(0.99, LIMITS_S, counts).state is SloState.VIOLATED
    fast = {w: RequestCount(MINUTE_S, 10_000, 2000) for w in WINDOWS_S}
    assert ErrorBudget(0.99, LIMITS_S, fast).state is SloState.AT_RISK


def test_share_of_one_has_no_budget_and_one_late_request_violates_it() -> None:
    strict = budget({28 * DAY_S: 1e-4}, share=1.0)
    assert (strict.burn_rate(28 * DAY_S), strict.remaining, strict.state) == (None, None, SloState.VIOLATED)
    assert budget({}, share=1.0).state is SloState.MET


def test_budget_counts_for_another_share_and_not_for_other_limits_or_windows() -> None:
    measured = budget({HOUR_S: 0.02})
    limits_s = {"ttft_s": 1.0}
    assert measured.under(0.99, limits_s, 28 * DAY_S) is measured
    stricter = measured.under(0.999, limits_s, 28 * DAY_S)
    assert stricter is not None
    assert stricter.burn_rate(HOUR_S) == pytest.approx(20.0)
    assert measured.under(0.99, {"ttft_s": 2.0}, 28 * DAY_S) is None
    assert measured.under(0.99, limits_s, 7 * DAY_S) is None


def test_window_is_named_in_its_largest_whole_unit() -> None:
    assert [window_text(w) for w in (*WINDOWS_S, 90.0)] == ["5m", "30m", "1h", "6h", "3d", "28d", "90s"]


class Remembering(QueueDepth):
    """A policy that keeps the remaining budget in its memory: -1 where none is measured."""

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        measured = context.error_budget
        remaining = -1.0 if measured is None or measured.remaining is None else measured.remaining
        return Recommendation(
            name, 1.0, super().recommend(name, context).evidence, True, "", memory={"left": remaining}
        )


@pytest.mark.parametrize(
    ("slo", "left"),
    [
        (Slo(ttft_s=1.0, itl_s=None), 0.8),
        (Slo(ttft_s=1.0, itl_s=None, share=0.998), 0.0),
        (Slo(ttft_s=2.0, itl_s=None), -1.0),
        (None, -1.0),
    ],
    ids=["same SLO", "another share", "other limits", "no SLO"],
)
def test_policies_get_the_error_budget_of_their_slo(slo: Slo | None, left: float) -> None:
    workload = spec({"p": Remembering(source="queue")}, slo=slo)
    measured = ErrorBudget(0.99, LIMITS_S, budget({28 * DAY_S: 0.002}).windows)
    decision = decide(workload, History(), replace(seen(queue(10)), error_budget=measured))
    assert decision.recommendations[0].memory["left"] == pytest.approx(left, abs=1e-9)
