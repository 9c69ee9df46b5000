"""Observed tokens: hours of the week, weights, and the load in units."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from scaler.config.problems import ConfigError
from simulators.provisioned.plan import require_week
from simulators.provisioned.samples import TokenSamples, unit_load
from tests.simulators.provisioned.inputs import MONDAY, named, samples


def without(observed: TokenSamples, *hours: int) -> TokenSamples:
    """Return the samples without these hours of the week."""
    return observed.taken(~np.isin(observed.hour_of_week, hours))


def test_hours_of_the_week_start_on_monday_in_utc() -> None:
    observed = samples(1)
    assert observed.at[0] == MONDAY
    assert observed.hour_of_week.tolist() == list(range(168))
    assert (observed.hours_seen, observed.span_h, observed.seen_h) == (168, 168.0, 168.0)


def test_each_seen_hour_of_the_week_has_the_same_weight() -> None:
    """The first hour is seen in three weeks, and all others in one."""
    observed = samples(3, lambda hour: 300.0 if hour % 168 == 0 else 100.0)
    once = observed.taken((observed.hour_of_week == 0) | (np.arange(504) < 168))
    assert float(once.input @ once.weights) == pytest.approx((300.0 + 167 * 100.0) / 168)


def test_an_unseen_hour_is_unknown_and_not_zero() -> None:
    observed = without(samples(2), 5, 6)
    by_hour = observed.mean_by_hour(observed.tokens)
    assert np.flatnonzero(np.isnan(by_hour)).tolist() == [5, 6]
    assert observed.hours_seen == 166
    assert float(observed.input @ observed.weights) == pytest.approx(150_000.0)


def test_an_hour_seen_for_a_minute_does_not_count_as_a_whole_one() -> None:
    observed = samples(1, lambda hour: 1e6 if hour == 3 else 100.0)
    brief = dataclasses.replace(observed, seconds=np.where(np.arange(168) == 3, 60.0, 3600.0))
    assert brief.hours_seen == 167
    assert float(brief.weights[3]) == pytest.approx((60 / 1800) / (167 + 60 / 1800))


@pytest.mark.parametrize(
    ("observed", "rule"),
    [
        (samples(1).taken(np.arange(168) < 100), "cover 100 of the 168 hours of a week"),
        (without(samples(3), *range(40)), "cover 128 of the 168 hours of a week"),
    ],
    ids=["four days", "every Monday missing"],
)
def test_less_than_a_week_is_refused_unless_allowed(observed: TokenSamples, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule) as refused:
        require_week(observed, allow_short=False)
    assert "--allow-short" in str(refused.value)
    require_week(observed, allow_short=True)
    require_week(without(samples(1), 5, 6, 7), allow_short=False)


@pytest.mark.parametrize(
    ("offer", "units", "usd_per_hour"),
    [
        ({}, (12_000 - 2000 + 4 * 1000) / 3000, (10_000 * 2 + 2000 * 0.5 + 1000 * 8) * 60 / 1e6),
        ({"output_weight": 5.0, "cached_weight": 0.5}, (11_000 + 5000) / 3000, 1.74),
        ({"units": "bedrock-reserved-input"}, 10.0, (10_000 * 2 + 2000 * 0.5) * 60 / 1e6),
        ({"units": "bedrock-reserved-output"}, 1.0, 1000 * 8 * 60 / 1e6),
        (
            {"units": "bedrock-model-unit", "input_tokens_per_minute": 6000.0, "output_tokens_per_minute": 250.0},
            4.0,
            1.74,
        ),
    ],
    ids=["Azure", "own weights", "reserved input", "reserved output", "two limits"],
)
def test_load_in_units_by_hand(tmp_path: Path, offer: dict[str, object], units: float, usd_per_hour: float) -> None:
    """12,000 prompt tokens per minute, of which 2,000 are cached, and 1,000 output tokens."""
    count = 168
    observed = samples(1, lambda _hour: 12_000.0, output=np.full(count, 1000.0), cached=np.full(count, 2000.0))
    one = named(tmp_path, **offer)
    load = unit_load(observed, one.unit, one.offer.pay_as_you_go)
    assert load.peak == pytest.approx(units)
    assert load.pay_as_you_go == pytest.approx(usd_per_hour)
