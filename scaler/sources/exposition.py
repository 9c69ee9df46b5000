"""The text that an engine serves under /metrics: the series a recipe wants, and many engines' as one quantity."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from policies.model import Absent
from scaler.sources.presets import Recipe
from scaler.sources.promql import QUANTILE

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, float]
MAX_GAP_S: Final = 300.0
"""Between two looks; over more the mean rate says little about now."""
NAME: Final = re.compile(r"^[a-zA-Z_:][\w:]*", re.MULTILINE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Page:
    """What one engine showed: when, the series wanted by metric, and the names of all metrics there."""

    at: float
    metrics: Mapping[str, Series]
    names: frozenset[str]


def page(text: str, wanted: frozenset[str], at: float) -> Page:
    """The wanted part of a page. Raises `ValueError` where that part can't be read or the page was cut off."""
    if text and not text.endswith("\n"):
        raise ValueError("the page ends in the middle of a line")
    lines = text.split("\n")
    kept = [line for line in lines if (name := NAME.match(line)) and name.group() in wanted]
    metrics: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families("\n".join([*kept, ""])):
        for sample in family.samples:
            metrics.setdefault(sample.name, {})[frozenset(sample.labels.items())] = float(sample.value)
    return Page(at, metrics, frozenset(name.group() for line in lines if (name := NAME.match(line))))


def series_of(recipe: Recipe, match: Mapping[str, str], shown: Page) -> Series | None:
    """The series of the first of the recipe's names that the page has; None where it has none of them."""
    labels = {**match, **recipe.labels}
    present = [shown.metrics[name] for name in recipe.series if name in shown.metrics]
    for series in present:
        if chosen := {have: value for have, value in series.items() if _fits(labels, dict(have))}:
            return chosen
    return {} if present else None


def _fits(wanted: Mapping[str, str], have: Mapping[str, str]) -> bool:
    return all(have.get(label, "") == value for label, value in wanted.items())


def level(recipe: Recipe, pages: Sequence[Series]) -> float | None:
    """A gauge over the engines; None where there are no series."""
    values = [value for series in pages for value in series.values()]
    if not values:
        return None
    total = math.fsum(values)
    return (total if recipe.across == "sum" else total / len(values)) / recipe.divisor


def change(recipe: Recipe, pages: Iterable[tuple[Series, Series, float]]) -> float | Absent | None:
    """A rate or a latency from each engine's series before and now, and the seconds between."""
    rate, buckets, seen = 0.0, dict[float, float](), False
    for before, now, gap_s in pages:
        if not 0 < gap_s <= MAX_GAP_S:
            return Absent(f"two looks {gap_s:.0f} s apart give no rate")
        for labels, grown in growth(before, now).items():
            seen = True
            rate += grown / gap_s
            bound = float(dict(labels).get("le", "inf"))
            buckets[bound] = buckets.get(bound, 0.0) + grown
    if not seen:
        return None
    if recipe.across == "rate":
        return rate / recipe.divisor
    found = quantile(QUANTILE, buckets)
    return Absent("nothing was observed between the last two looks") if found is None else found / recipe.divisor


def growth(before: Series, now: Series) -> Series:
    """By how much counters grew. When one shrank, its process began anew, and they all counted from zero."""
    restarted = any(value < before.get(labels, 0.0) for labels, value in now.items())
    return {labels: value if restarted else value - before.get(labels, 0.0) for labels, value in now.items()}


def quantile(share: float, buckets: Mapping[float, float]) -> float | None:
    """A histogram's quantile as PromQL's histogram_quantile has it; None without observations.

    `buckets` are cumulative, by their upper bounds.
    """
    bounds = sorted(buckets)
    total = buckets.get(math.inf, 0.0)
    if not total > 0 or len(bounds) < 2:
        return None
    rank = share * total
    i = next(i for i, bound in enumerate(bounds) if buckets[bound] >= rank)
    if math.isinf(bounds[i]):
        return bounds[i - 1]
    if i == 0 and bounds[0] <= 0:
        return bounds[0]
    below, start = (buckets[bounds[i - 1]], bounds[i - 1]) if i else (0.0, 0.0)
    return start + (bounds[i] - start) * (rank - below) / (buckets[bounds[i]] - below)
