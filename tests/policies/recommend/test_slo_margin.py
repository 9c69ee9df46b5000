"""The planned share of late requests falls while the error budget burns too fast, and rises slowly afterwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import ErrorBudget, Recommendation, RequestCount
from policies.model.error_budget import DAY_S, HOUR_S
from policies.recommend.predictive.policy import Predictive
from policies.recommend.predictive.slo_margin import MAX_LEVEL, MIN_LEVEL, SloMargin
from tests.factories import CHAT_SLO
from tests.laws import LAW
from tests.policies.recommend.engines import Day, recommendation_of

HOUR = 240
"""Turns of 15 s."""


def budget(late_in_hour: float, late_in_window: float = 0.0, measured_s: float = HOUR_S) -> ErrorBudget:
    """Return a budget of 1 % with these late shares in the last hour and in its window of 28 days."""
    counts = {
        HOUR_S: RequestCount(measured_s, 1000.0, 1000.0 * late_in_hour),
        28 * DAY_S: RequestCount(measured_s, 1e6, 1e6 * late_in_window),
    }
    return ErrorBudget(0.99, {"ttft_s": 1.0, "itl_s": 0.05}, counts)


def after(margin: SloMargin, spent: ErrorBudget | None, ticks: int) -> SloMargin:
    for _ in range(ticks):
        margin = margin.after(spent, 15.0)
    return margin


def test_full_budget_plans_for_a_fifth_of_the_allowed_late_requests() -> None:
    assert SloMargin().planned_share(0.01) == pytest.approx(0.002)


def test_budget_that_stays_full_for_hours_is_planned_for_but_never_all_of_it() -> None:
    young = after(SloMargin(), budget(0.0, 0.001, measured_s=3 * HOUR_S), 24 * HOUR)
    assert young.level == pytest.approx(-0.4), "(1 - 0.9 / 0.5) * 3 / 6"
    calm = after(SloMargin(), budget(0.0, measured_s=6 * HOUR_S), 24 * HOUR)
    assert calm.level == MIN_LEVEL
    assert calm.planned_share(0.01) == pytest.approx(0.008)
    assert after(calm, budget(0.02, measured_s=6 * HOUR_S), HOUR).level == pytest.approx(0.05, abs=0.01)


def test_fast_burn_raises_the_level_within_an_hour_and_calm_lowers_it_slowly() -> None:
    burning = after(SloMargin(), budget(0.1), HOUR)
    assert burning.level == pytest.approx(MAX_LEVEL)
    assert burning.planned_share(0.01) == pytest.approx(0.002 / 16)
    assert after(burning, budget(0.0), HOUR).level == pytest.approx(MAX_LEVEL - 1.0)


def test_level_is_steady_at_the_target_burn_rate() -> None:
    assert after(SloMargin(0.3), budget(0.007), HOUR).level == pytest.approx(0.3)


def test_little_budget_left_keeps_the_margin_up() -> None:
    assert after(SloMargin(), budget(0.0, 0.005), HOUR).level == 0.0, "half of the budget is left"
    assert after(SloMargin(), budget(0.0, 0.008), HOUR).level == pytest.approx(0.6)
    assert after(SloMargin(), budget(0.0, 0.05), HOUR).level == pytest.approx(1.0), "overspent"


def test_unknown_burn_rate_does_not_change_the_margin() -> None:
    assert after(SloMargin(0.4), None, HOUR) == SloMargin(0.4)
    assert after(SloMargin(0.4), budget(0.5, measured_s=0.0), HOUR) == SloMargin(0.4)


@LAW
@given(st.lists(st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)), max_size=50), st.floats(0.1, 3600.0))
def test_margin_stays_within_bounds_and_survives_a_memory_round_trip(
    late: list[tuple[float, float]], took_s: float
) -> None:
    margin = SloMargin()
    for in_hour, in_window in late:
        margin = margin.after(budget(in_hour, in_window), took_s)
        assert MIN_LEVEL <= margin.level <= MAX_LEVEL
        assert SloMargin.from_memory(margin.memory()) == margin


def test_recorded_level_out_of_bounds_is_ignored() -> None:
    assert SloMargin.from_memory({"margin.level": 1e9}) == SloMargin()
    assert SloMargin.from_memory({"margin.level": float("nan")}) == SloMargin()


NO_QUANTILE = Predictive(source="e", rate_window_s=60.0)


def last(policy: Predictive, spent: ErrorBudget | None) -> Recommendation:
    return recommendation_of(Day(policy=policy, budget=spent).run([50.0] * 40)[-1])


def test_fast_burn_makes_the_size_larger_up_to_the_largest_quantile() -> None:
    calm, burning = (last(NO_QUANTILE, budget(late, 0.005)) for late in (0.0, 1.0))
    assert (burning.replicas or 0.0) > (calm.replicas or 0.0) > 0.0
    assert "(0.20% late requests)" in calm.reason
    assert "(P95 of the demand)" in burning.reason
    assert burning.memory["margin.level"] > 0.3


def test_fixed_quantile_and_disabled_correction_ignore_the_burn_rate() -> None:
    fixed, corrected_not = replace(NO_QUANTILE, quantile=0.9), replace(NO_QUANTILE, slo_correction=False)
    assert "(P90 of the demand)" in last(fixed, budget(1.0)).reason
    assert "(0.20% late requests)" in last(corrected_not, budget(1.0)).reason


def test_budget_of_another_slo_is_ignored() -> None:
    other = replace(budget(1.0), limits_s={"ttft_s": 3.0})
    assert last(NO_QUANTILE, other).memory["margin.level"] == 0.0


def test_surge_is_ready_for_a_multiple_of_the_load() -> None:
    usual, ready = (
        recommendation_of(Day(policy=NO_QUANTILE, slo=replace(CHAT_SLO, surge=surge)).run([50.0] * 40)[-1])
        for surge in (None, 3.0)
    )
    assert ready.replicas == pytest.approx(3.0 * (ready.work or 0.0))
    assert (usual.replicas or 0.0) < 1.5 * (usual.work or 0.0)
