"""The margin falls as far as the SLO allows, and rises faster than it falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model.spec import Slo
from policies.recommend.predictive.policy import Predictive
from policies.recommend.predictive.slo_margin import SloMargin
from tests.laws import LAW
from tests.policies.recommend.engines import Day, recommendation_of

HOUR = 240
"""Turns of 15 s."""


def after(margin: SloMargin, late_share: float | None, ticks: int) -> SloMargin:
    for _ in range(ticks):
        margin = margin.after(late_share, 0.01, 15.0)
    return margin


def test_long_calm_lowers_the_quantile_to_the_median_then_fills_replicas() -> None:
    fresh = SloMargin()
    assert (fresh.quantile(0.95), fresh.fill_factor) == (0.95, 1.0)
    calm = after(fresh, 0.0, 24 * HOUR)
    assert (calm.level, calm.quantile(0.95), calm.fill_factor) == (-1.0, 0.5, 1.1)


def test_half_an_hour_without_violations_hardly_lowers_the_margin() -> None:
    assert after(SloMargin(), 0.0, HOUR // 2).level > 0.98


@pytest.mark.slow
def test_slo_violations_restore_the_margin_faster_than_it_fell() -> None:
    calm = after(SloMargin(), 0.0, 24 * HOUR)
    ticks = next(k for k in range(1, 24 * HOUR) if after(calm, 0.2, k).level >= 1.0)
    assert ticks <= 3 * HOUR


def test_margin_is_stable_at_the_target_late_share() -> None:
    at_aim = SloMargin(0.3, 0.007)
    assert after(at_aim, 0.007, HOUR).level == pytest.approx(0.3)


def test_outage_counts_at_most_30_times_the_allowed_late_share() -> None:
    assert SloMargin(0.0, 0.0).after(1.0, 0.01, 15.0) == SloMargin(0.0, 0.0).after(0.3, 0.01, 15.0)


def test_unknown_late_share_does_not_change_the_margin() -> None:
    assert after(SloMargin(0.4, 0.002), None, HOUR) == SloMargin(0.4, 0.002)


def test_quantile_below_the_median_is_unchanged() -> None:
    assert SloMargin(-1.0).quantile(0.3) == 0.3
    assert SloMargin(0.0).quantile(0.9) == 0.5


@LAW
@given(st.lists(st.floats(0.0, 1.0), max_size=200), st.floats(1e-4, 0.5), st.floats(0.1, 3600.0))
def test_margin_stays_within_bounds_and_survives_a_memory_round_trip(
    late: list[float], allowed: float, took_s: float
) -> None:
    margin = SloMargin()
    for share in late:
        margin = margin.after(share, allowed, took_s)
        assert -1.0 <= margin.level <= 1.0
        assert math.isfinite(margin.late_share)
        assert SloMargin.from_memory(margin.memory()) == margin


BY_PRICE = Predictive(source="e", rate_window_s=60.0)


@pytest.mark.slow
def test_calm_day_lowers_the_margin_and_reports_it() -> None:
    last = Day(policy=BY_PRICE).run([50.0] * 8 * HOUR)[-1]
    without_correction = Day(policy=replace(BY_PRICE, slo_correction=False)).run([50.0] * 8 * HOUR)[-1]
    assert (last.target, without_correction.target) == (4, 5)
    assert recommendation_of(last).memory["margin.late_share"] < 0.005
    assert "(P50)" in recommendation_of(last).reason
    assert "replicas filled 10% more" in recommendation_of(last).reason


@pytest.mark.slow
def test_fixed_quantile_or_disabled_correction_keeps_the_margin() -> None:
    for policy in (replace(BY_PRICE, quantile=0.9), replace(BY_PRICE, slo_correction=False)):
        assert recommendation_of(Day(policy=policy).run([50.0] * 4 * HOUR)[-1]).memory["margin"] == 1.0


@pytest.mark.slow
def test_unmeasured_latency_keeps_the_margin() -> None:
    """The whole margin stays where an SLO latency is not measured, or only as a percentile."""
    for missing in ("ttft_late_share", "itl_late_share"):
        day = Day(policy=BY_PRICE, transform=without(missing))
        assert recommendation_of(day.run([50.0] * 4 * HOUR)[-1]).memory["margin"] == 1.0
    day = Day(policy=BY_PRICE, slo=Slo(itl_s=0.05), transform=without("ttft_mean_s", "ttft_late_share", "ttft_p95_s"))
    assert recommendation_of(day.run([50.0] * 4 * HOUR)[-1]).memory["margin"] < 0.8


def without(*missing: str) -> Callable[[dict[str, float]], dict[str, float]]:
    return lambda values: {quantity: value for quantity, value in values.items() if quantity not in missing}
