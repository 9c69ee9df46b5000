"""PromQL texts: selectors with escaped label values, and the expressions of a recipe.

`by` names the labels that a query keeps, so that one query reads many workloads. Without them it returns one number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

from scaler.clouds.engines.histogram import P95
from scaler.clouds.engines.presets import Recipe

Match: TypeAlias = Mapping[str, str | tuple[str, ...]]
"""The value of each label that a series must have, or its possible values."""
LABEL: Final = "forescale"
"""Label that distinguishes the parts of one joint query."""
LOST_S: Final = 300
"""Time within which a target that responded before and does not now counts as lost; after it, as gone. It equals
Prometheus's own look-back. Seconds."""
LOST: Final = "lost"
"""Key of the part with the number of lost targets."""
SCRAPES: Final = "scrapes"
"""Key of the part with the number of a target's samples in the last `SEEN_S`."""
SEEN_S: Final = 300
"""Time over which samples are counted to see the scrape interval: 20 at 15 s. Seconds."""
SPECIAL: Final = re.compile(r"[\\.+*?()|\[\]{}^$]")
"""The special characters of RE2, in which Prometheus has its regular expressions."""
STRINGS: Final = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`|#[^\n]*')
LABEL_LISTS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", re.IGNORECASE)
NAMES: Final = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")
KEYWORDS: Final = frozenset(
    {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "atan2"}
    | {"inf", "nan", "start", "end"}
)


def quoted(text: str) -> str:
    """Return a PromQL string literal.

    JSON's escapes are valid in PromQL except surrogates, which are not used here.
    """
    return json.dumps(text, ensure_ascii=False)


def selector(name: str, labels: Match) -> str:
    """Return the selector of metric `name` with exactly these label values."""
    return f"{name}{{{','.join(_matcher(label, value) for label, value in labels.items())}}}"


def preset_queries(
    recipes: Mapping[str, Recipe], match: Match, window_s: float, by: Sequence[str] = (), *, sees_scrapes: bool
) -> dict[str, str]:
    """Return the queries of quantities by the keys of their parts.

    `sees_scrapes`: whether to count the samples of a target.
    """
    queries = {f"value:{q}": value_query(r, match, window_s, by) for q, r in recipes.items()}
    queries |= {f"time:{q}": time_query(r, match, by) for q, r in recipes.items()}
    if recipes:  # one exporter has all of them, so any of them will do
        probe = min(recipes.values(), key=lambda r: r.uses_buckets)
        queries[LOST] = lost_targets_query(probe, match, by)
        if sees_scrapes:
            queries[SCRAPES] = scrapes_query(probe, match, by)
    return queries


def value_query(recipe: Recipe, match: Match, window_s: float, by: Sequence[str] = ()) -> str:
    """Return the query of a quantity.

    For a late share, it is that of the histogram, one series per bucket. PromQL has no function for the share above a
    limit. Replicas may use different names of one metric, as during an upgrade, so the query covers all names.
    """
    if recipe.aggregation == "average":
        numerator, denominator = (
            value_query(part, match, window_s, by) for part in (recipe.numerator, recipe.denominator)
        )
        return f"{numerator} / {denominator}"
    parts = _selectors(recipe, match)
    if recipe.needs_history:
        parts = [f"rate({s}[{round(window_s * 1000)}ms])" for s in parts]
    series = " or ".join(_histograms(parts) if recipe.uses_buckets else parts)
    buckets = f"sum{_by(*by, 'le')} ({series})"
    query = {
        "sum": f"sum{_by(*by)}({series})",
        "mean": f"avg{_by(*by)}({series})",
        "rate": f"sum{_by(*by)}({series})",
        "p95": f"histogram_quantile({P95}, {buckets})",
        "late": buckets,
    }[recipe.aggregation]
    return query if recipe.divisor == 1 or recipe.aggregation == "late" else f"{query} / {recipe.divisor:g}"


def time_query(recipe: Recipe, match: Match, by: Sequence[str] = ()) -> str:
    """Return the query of the oldest sample's time: a total is as old as its oldest part."""
    return f"min{_by(*by)}({' or '.join(f'timestamp({s})' for s in _selectors(recipe, match))})"


def lost_targets_query(recipe: Recipe, match: Match, by: Sequence[str] = ()) -> str:
    """Return the query of the number of lost targets.

    A lost target had the metric within `LOST_S` and cannot be scraped now.

    Prometheus drops the series of such a target at once, and a sum without them looks like less load. A replica that
    is starting has no series yet, and one that was removed is no longer a target: neither counts.
    """
    recent = " or ".join(f"last_over_time({s}[{LOST_S}s])" for s in _selectors(recipe, match))
    targets = f"group{_by(*by, 'job', 'instance')} ({recent})"
    return f"count{_by(*by)}({targets} and on (job, instance) (up == 0))"


def scrapes_query(recipe: Recipe, match: Match, by: Sequence[str] = ()) -> str:
    """Return the query of the samples of the most scraped target within `SEEN_S`.

    A target that has not been scraped for all of this time does not count: it has fewer samples.
    """
    counts = (f"(count_over_time({s}[{SEEN_S}s]) and ({s} offset {SEEN_S}s))" for s in _selectors(recipe, match))
    return f"max{_by(*by)}({' or '.join(counts)})"


def joint_query(terms: Mapping[str, str]) -> str:
    """Return one query for many, with each result labelled by its key.

    Newlines end a comment in a configured query.
    """
    return " or ".join(f'label_replace(\n{query}\n, "{LABEL}", "{key}", "", "")' for key, query in terms.items())


def metric_names(query: str) -> tuple[str, ...]:
    """Return the metrics in a query's text, as far as a pattern finds them."""
    text = STRINGS.sub(" ", query)
    text = re.sub(r"\[[^\]]*\]", " ", re.sub(r"\{[^}]*\}", " ", LABEL_LISTS.sub(" ", text)))
    return tuple(dict.fromkeys(name for name in NAMES.findall(text) if name.lower() not in KEYWORDS))


@lru_cache(maxsize=256)
def _matcher(label: str, value: str | tuple[str, ...]) -> str:
    """Return the matcher of a label. A regular expression in PromQL matches the whole value.

    It is cached: a query for many workloads has the same one in each of its selectors.
    """
    if isinstance(value, str):
        return f"{label}={quoted(value)}"
    escaped = (SPECIAL.sub(r"\\\g<0>", v) for v in value)
    return f"{label}=~{quoted('|'.join(escaped))}"


def _by(*labels: str) -> str:
    return f" by ({', '.join(dict.fromkeys(labels))})" if labels else ""


def _selectors(recipe: Recipe, match: Match) -> list[str]:
    return [selector(name, {**match, **recipe.labels}) for name in recipe.series]


def _histograms(parts: list[str]) -> list[str]:
    """Return each replica's buckets under its first available name only.

    Bucket bounds may differ between names.
    """
    return [
        f"({part}{''.join(f' unless ignoring (le) {earlier}' for earlier in parts[:i])})" if i else part
        for i, part in enumerate(parts)
    ]
