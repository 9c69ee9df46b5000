"""The series of a recipe on engines' metrics pages, and their aggregation over many engines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from policies.model import Absent
from scaler.clouds.engines.histogram import P95, parse_buckets, quantile, share_above
from scaler.clouds.engines.metrics_page import Page, Series
from scaler.clouds.engines.presets import Recipe

MAX_GAP_S: Final = 300.0
"""Maximum time between two samples; over a longer time the mean rate says little about now. Seconds."""
MOMENT: Final = ""
SUM: Final = "sum"
COUNT: Final = "count"
"""The label that distinguishes a mean's sum and count, and its values. No page can have an empty label name."""


def series_of(recipe: Recipe, match: Mapping[str, str], page: Page) -> Series | None:
    """Return the series of the first of the recipe's names on the page.

    Returns None where the page has none of the names. The series of a mean are its sum and count, since a restarted
    engine resets both.
    """
    if recipe.aggregation == "average":
        return _sum_and_count(recipe, match, page)
    labels = {**match, **recipe.labels}
    present = [page.metrics[name] for name in recipe.series if name in page.metrics]
    for series in present:
        if matching := {
            series_labels: value for series_labels, value in series.items() if _matches(labels, dict(series_labels))
        }:
            return matching
    return {} if present else None


def _sum_and_count(recipe: Recipe, match: Mapping[str, str], page: Page) -> Series | None:
    empty: Series | None = None
    for name in recipe.names:
        single = replace(recipe, names=(name,))
        numerator, denominator = series_of(single.numerator, match, page), series_of(single.denominator, match, page)
        if numerator and denominator:
            return {
                labels | {(MOMENT, moment)}: value
                for moment, series in ((SUM, numerator), (COUNT, denominator))
                for labels, value in series.items()
            }
        if numerator is not None and denominator is not None:
            empty = {}
    return empty


def _matches(required: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(label, "") == value for label, value in required.items())


def gauge_value(recipe: Recipe, pages: Sequence[Series]) -> float | None:
    """Return a gauge's sum or mean over the engines; None without series."""
    values = [value for series in pages for value in series.values()]
    if not values:
        return None
    total = exact_sum(values)
    return (total if recipe.aggregation == "sum" else total / len(values)) / recipe.divisor


def exact_sum(values: Iterable[float]) -> float:
    """Return the exact sum; NaN where it overflows a float or is undefined.

    Every reading rejects NaN.
    """
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan


def rate_or_latency(
    recipe: Recipe, pages: Iterable[tuple[Series, Series, float]], limit: float = math.nan
) -> float | Absent | None:
    """Return a rate or a latency from each engine's series before and now.

    The third item of each page is the time between the two series in seconds. An observation beyond `limit` is late.
    Example: a counter that grew from 100 to 130 in 15 s has the rate 2 per s.
    """
    rate, label, increases = 0.0, MOMENT if recipe.aggregation == "average" else "le", list[tuple[str | None, float]]()
    for before, now, gap_s in pages:
        if not 0 < gap_s <= MAX_GAP_S:
            return Absent(f"two samples {gap_s:.0f} s apart give no rate")
        for labels, increase in counter_growth(before, now).items():
            rate += increase / gap_s
            increases.append((dict(labels).get(label), increase))
    if not increases:
        return None
    if recipe.aggregation == "rate":
        return rate / recipe.divisor
    value = _mean(recipe, increases) if recipe.aggregation == "average" else _histogram_value(recipe, increases, limit)
    return Absent("no observations between the last two samples") if value is None else value


def _mean(recipe: Recipe, increases: Sequence[tuple[str | None, float]]) -> float | None:
    numerator, denominator = (
        exact_sum(increase for part, increase in increases if part == moment) for moment in (SUM, COUNT)
    )
    return numerator / denominator / recipe.divisor if denominator > 0 else None


def _histogram_value(recipe: Recipe, counts: Iterable[tuple[str | None, float]], limit: float) -> float | Absent | None:
    """Return a late share or percentile from a histogram; None without observations.

    `counts` contains bounds (metric units) and cumulative counts.
    """
    try:
        buckets = parse_buckets(counts)
    except ValueError as e:
        return Absent(f"{recipe.series[0]} is not a valid histogram: {e}")
    if recipe.aggregation == "late":
        return share_above(limit * recipe.divisor, buckets)
    value = quantile(P95, buckets)
    return None if value is None else value / recipe.divisor


def counter_growth(before: Series, now: Series) -> Series:
    """Return the increases of counters.

    If one shrank, its process restarted, so all count from zero.

    Example: 100 to 130 is an increase of 30; 100 to 20 is one of 20, and another counter that went from 50 to 70 then
    increased by 70.
    """
    restarted = any(value < before.get(labels, 0.0) for labels, value in now.items())
    return {labels: value if restarted else value - before.get(labels, 0.0) for labels, value in now.items()}
