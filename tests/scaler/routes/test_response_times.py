"""Latency from two readings of a histogram."""

from __future__ import annotations

import math

import pytest

from scaler.routes.response_times import Histogram, by_lower_bound, latency_s

FAST, SLOW = 400.0, 10_000.0


@pytest.mark.parametrize(
    ("before", "now", "latency"),
    [
        ({}, {FAST: 79, SLOW: 21}, 10.0),
        ({}, {FAST: 80, SLOW: 20}, 0.4),
        ({SLOW: 500}, {FAST: 5, SLOW: 500}, 0.4),
        ({FAST: 900}, {FAST: 905, SLOW: 2}, 10.0),
        ({FAST: 900}, {FAST: 904}, None),
        ({FAST: 900}, {FAST: 900}, None),
        ({FAST: 900, SLOW: 3}, {FAST: 950}, None),
        ({FAST: 900}, {FAST: 20, SLOW: 20}, None),
        ({}, {}, None),
        ({}, {FAST: math.nan}, None),
    ],
    ids=["more", "as_many", "old_late", "new_late", "too_few", "none", "bucket_gone", "restarted", "empty", "nan"],
)
def test_latency_is_the_quantile_of_new_responses(before: Histogram, now: Histogram, latency: float | None) -> None:
    assert latency_s([(before, now)], 0.2) == latency


def test_processes_count_together_and_a_restarted_one_leaves_the_latency_unknown() -> None:
    changes = [({FAST: 1}, {FAST: 9}), ({}, {FAST: 1, SLOW: 3})]
    assert latency_s(changes, 0.2) == 10.0
    assert latency_s([*changes, ({FAST: 9}, {FAST: 8})], 0.2) is None


def test_share_of_1_tolerates_every_latency() -> None:
    assert latency_s([({}, {SLOW: 50})], 1.0) is None


def test_cumulative_buckets_count_by_their_lower_bound() -> None:
    assert by_lower_bound({10.0: 2, 5.0: 2, math.inf: 3}) == {0.0: 2, 5.0: 0, 10.0: 1}
    assert by_lower_bound({}) == {}
