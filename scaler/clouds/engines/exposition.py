"""The series that a recipe wants of engines' pages, and many engines' as one quantity."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from policies.model import Absent
from scaler.clouds.engines.histogram import P95, beyond, bounded_by, quantile
from scaler.clouds.engines.metrics_page import Page, Series
from scaler.clouds.engines.presets import Recipe

MAX_GAP_S: Final = 300.0
"""Between two looks; over more the mean rate says little about now."""
PART: Final = ""
OVER: Final = "sum"
UNDER: Final = "count"
"""The label, which no page can have, that tells a mean's sum and its count apart; and its values."""


def series_of(recipe: Recipe, match: Mapping[str, str], shown: Page) -> Series | None:
    """Return the series of the first of the recipe's names that the page has; None where it has none of them.

    A mean's are its sum and its count: an engine that began anew did so with both.
    """
    if recipe.across == "average":
        return _moments(recipe, match, shown)
    labels = {**match, **recipe.labels}
    present = [shown.metrics[name] for name in recipe.series if name in shown.metrics]
    for series in present:
        if chosen := {have: value for have, value in series.items() if _fits(labels, dict(have))}:
            return chosen
    return {} if present else None


def _moments(recipe: Recipe, match: Mapping[str, str], shown: Page) -> Series | None:
    found: Series | None = None
    for name in recipe.names:
        one = replace(recipe, names=(name,))
        over, under = series_of(one.over, match, shown), series_of(one.under, match, shown)
        if over and under:
            return {
                labels | {(PART, part)}: value
                for part, series in ((OVER, over), (UNDER, under))
                for labels, value in series.items()
            }
        if over is not None and under is not None:
            found = {}
    return found


def _fits(wanted: Mapping[str, str], have: Mapping[str, str]) -> bool:
    return all(have.get(label, "") == value for label, value in wanted.items())


def level(recipe: Recipe, pages: Sequence[Series]) -> float | None:
    """Return a gauge over the engines; None where there are no series."""
    values = [value for series in pages for value in series.values()]
    if not values:
        return None
    total = exact_sum(values)
    return (total if recipe.across == "sum" else total / len(values)) / recipe.divisor


def exact_sum(values: Iterable[float]) -> float:
    """Return the exact sum; NaN, which no reading passes, where it is beyond a float (1e308 + 1e308) or none."""
    try:
        return math.fsum(values)
    except (OverflowError, ValueError):
        return math.nan


def change(
    recipe: Recipe, pages: Iterable[tuple[Series, Series, float]], limit: float = math.nan
) -> float | Absent | None:
    """Return a rate or a latency from each engine's series before and now, and the seconds between.

    Late is beyond `limit`.
    """
    rate, label, grew = 0.0, PART if recipe.across == "average" else "le", list[tuple[str | None, float]]()
    for before, now, gap_s in pages:
        if not 0 < gap_s <= MAX_GAP_S:
            return Absent(f"two looks {gap_s:.0f} s apart give no rate")
        for labels, grown in growth(before, now).items():
            rate += grown / gap_s
            grew.append((dict(labels).get(label), grown))
    if not grew:
        return None
    if recipe.across == "rate":
        return rate / recipe.divisor
    found = _mean(recipe, grew) if recipe.across == "average" else _reported(recipe, grew, limit)
    return Absent("nothing was observed between the last two looks") if found is None else found


def _mean(recipe: Recipe, grew: Sequence[tuple[str | None, float]]) -> float | None:
    over, under = (exact_sum(grown for part, grown in grew if part == one) for one in (OVER, UNDER))
    return over / under / recipe.divisor if under > 0 else None


def _reported(recipe: Recipe, counts: Iterable[tuple[str | None, float]], limit: float) -> float | Absent | None:
    """Return what a histogram's bounds (in the metric's unit) and cumulative counts tell; None without observations."""
    try:
        buckets = bounded_by(counts)
    except ValueError as e:
        return Absent(f"{recipe.series[0]} is no histogram: {e}")
    if recipe.across == "late":
        return beyond(limit * recipe.divisor, buckets)
    found = quantile(P95, buckets)
    return None if found is None else found / recipe.divisor


def growth(before: Series, now: Series) -> Series:
    """By how much counters grew. When one shrank, its process began anew, and they all counted from zero."""
    restarted = any(value < before.get(labels, 0.0) for labels, value in now.items())
    return {labels: value if restarted else value - before.get(labels, 0.0) for labels, value in now.items()}
