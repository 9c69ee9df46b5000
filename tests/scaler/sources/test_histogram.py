"""Histograms: quantiles as in PromQL, and shares above a limit, confirmed by counting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.clouds.engines.histogram import parse_buckets, quantile, share_above

SECONDS = st.floats(1e-3, 1e3)
OBSERVED = st.lists(SECONDS, min_size=1, max_size=60)
BOUNDS = st.lists(SECONDS, min_size=1, max_size=12, unique=True)


def counted(observed: Sequence[float], bounds: Sequence[float]) -> dict[float, float]:
    """Return the histogram of the observations."""
    return {bound: sum(first <= bound for first in observed) for bound in (*bounds, math.inf)}


@pytest.mark.parametrize(
    ("share", "buckets", "value"),
    [
        (0.95, {1.0: 9, 2.5: 10, math.inf: 10}, 1.75),
        (0.95, {1.0: 10, math.inf: 10}, 0.95),
        (0.95, {1.0: 1, math.inf: 10}, 1.0),
        (0.5, {-1.0: 5, 1.0: 10, math.inf: 10}, -1.0),
        (0.95, {1.0: 0, math.inf: 0}, None),
        (0.95, {math.inf: 10}, None),
        (0.95, {1.0: 10}, None),
        (0.95, {}, None),
    ],
)
def test_quantile_equals_promql_histogram_quantile(
    share: float, buckets: Mapping[float, float], value: float | None
) -> None:
    assert quantile(share, buckets) == (None if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("limit", "share"),
    [
        pytest.param(1.0, 0.6, id="on-a-bound"),
        pytest.param(0.5, 0.8, id="below-the-first-bound"),
        pytest.param(1.75, 0.45, id="between-two"),
        pytest.param(2.5, 0.3, id="on-the-last-bound"),
        pytest.param(9.0, 0.3, id="above-the-last-bound"),
    ],
)
def test_share_above_a_limit(limit: float, share: float) -> None:
    assert share_above(limit, {1.0: 4, 2.5: 7, math.inf: 10}) == pytest.approx(share)


@pytest.mark.parametrize("buckets", [{}, {math.inf: 3}, {1.0: 3}, {1.0: 0, math.inf: 0}])
def test_histogram_without_observations_has_no_share(buckets: Mapping[float, float]) -> None:
    assert share_above(1.0, buckets) is None


@given(OBSERVED, BOUNDS)
def test_share_above_a_bucket_bound_is_exact(observed: list[float], bounds: list[float]) -> None:
    buckets = counted(observed, bounds)
    for bound in bounds:
        assert share_above(bound, buckets) == 1 - sum(first <= bound for first in observed) / len(observed), (
            "to the last bit"
        )


@given(OBSERVED, BOUNDS, st.lists(SECONDS, min_size=2, max_size=8))
def test_share_is_between_0_and_1_and_decreases_with_the_limit(
    observed: list[float], bounds: list[float], limits: list[float]
) -> None:
    buckets = counted(observed, bounds)
    shares = [share for limit in sorted(limits) if (share := share_above(limit, buckets)) is not None]
    assert len(shares) == len(limits)
    assert all(0 <= share <= 1 for share in shares)
    assert all(later <= sooner + 1e-12 for sooner, later in itertools.pairwise(shares))


@given(OBSERVED, BOUNDS, SECONDS)
def test_share_between_two_bounds_is_between_their_shares(
    observed: list[float], bounds: list[float], limit: float
) -> None:
    buckets = counted(observed, bounds)
    share = share_above(limit, buckets)
    above = max((share_above(b, buckets) or 0.0 for b in bounds if b >= limit), default=0.0)
    below = min((share_above(b, buckets) or 0.0 for b in bounds if b <= limit), default=1.0)
    assert share is not None
    assert above - 1e-12 <= share <= below + 1e-12


@pytest.mark.slow
@given(OBSERVED, BOUNDS, OBSERVED, BOUNDS)
def test_merged_histograms_never_underestimate_the_share_above_a_bound(
    first: list[float], bounds: list[float], second: list[float], others: list[float]
) -> None:
    parts = counted(first, bounds), counted(second, others)
    both = {bound: sum(part.get(bound, 0.0) for part in parts) for bound in {*parts[0], *parts[1]}}
    for bound in {*bounds, *others}:
        share = share_above(bound, both)
        assert share is not None
        assert share >= sum(x > bound for x in (*first, *second)) / (len(first) + len(second)) - 1e-12


def test_replica_without_the_limit_s_bound_is_not_counted_as_all_late() -> None:
    old = {1.0: 100, 2.5: 100, math.inf: 100}
    new = {1.0: 100, 2.5: 100, 5.0: 100, math.inf: 100}
    both = {bound: old.get(bound, 0) + count for bound, count in new.items()}
    assert share_above(5.0, both) == 0.0
    assert share_above(1.0, both) == 0.0


def test_two_spellings_of_one_bound_are_merged() -> None:
    assert parse_buckets([("1", "3"), ("1.0", 4), ("+Inf", "5"), ("Inf", 5)]) == {1.0: 7, math.inf: 10}


@pytest.mark.parametrize(
    ("bound", "count"),
    [(None, 3), ("fast", 3), ("NaN", 3), ("-Inf", 3), ("1.0", "NaN"), ("1.0", "+Inf"), ("1.0", "a histogram")],
)
def test_an_invalid_bucket_is_refused(bound: object, count: object) -> None:
    with pytest.raises(ValueError, match=r"bucket .* has count"):
        parse_buckets([("+Inf", 10), (bound, count)])
