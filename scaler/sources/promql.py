"""Texts in PromQL: selectors that no label value can break out of, and a recipe's expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from scaler.clouds.engines.histogram import P95
from scaler.clouds.engines.presets import Recipe

LABEL: Final = "forescale"
"""The label that tells the parts of one joint query apart."""
LOST_S: Final = 300
"""A target that answered within this time and does not now is missed; after it, it counts as gone. Prometheus's own
look-back."""
LOST: Final = "lost"
"""The key of the part that tells how many targets are missed."""
STRINGS: Final = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|`[^`]*`|#[^\n]*')
LABEL_LISTS: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", re.IGNORECASE)
NAMES: Final = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?![\w:]|\s*\()")
WORDS: Final = frozenset(
    {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right", "atan2"}
    | {"inf", "nan", "start", "end"}
)


def quoted(text: str) -> str:
    """Return a string literal.

    JSON's escapes are a subset of PromQL's, short of surrogates, which UTF-8 has no need of.
    """
    return json.dumps(text, ensure_ascii=False)


def selector(name: str, labels: Mapping[str, str]) -> str:
    """Return the series of metric `name` with exactly these label values."""
    return f"{name}{{{','.join(f'{label}={quoted(value)}' for label, value in labels.items())}}}"


def value_of(recipe: Recipe, match: Mapping[str, str], window_s: float) -> str:
    """The quantity itself; of late ones the histogram, a series a bucket, for PromQL knows of no share beyond a limit.

    Replicas may use different names of one metric, as they do during an upgrade.
    """
    if recipe.across == "average":
        return f"{value_of(recipe.over, match, window_s)} / {value_of(recipe.under, match, window_s)}"
    parts = _selectors(recipe, match)
    if recipe.needs_history:
        parts = [f"rate({s}[{round(window_s * 1000)}ms])" for s in parts]
    series = " or ".join(_histograms(parts) if recipe.buckets else parts)
    whole = {
        "sum": f"sum({series})",
        "mean": f"avg({series})",
        "rate": f"sum({series})",
        "p95": f"histogram_quantile({P95}, sum by (le) ({series}))",
        "late": f"sum by (le) ({series})",
    }[recipe.across]
    return whole if recipe.divisor == 1 or recipe.across == "late" else f"{whole} / {recipe.divisor:g}"


def time_of(recipe: Recipe, match: Mapping[str, str]) -> str:
    """Return when its oldest sample was taken: a total is as old as its oldest part."""
    return f"min({' or '.join(f'timestamp({s})' for s in _selectors(recipe, match))})"


def missing_metrics(recipe: Recipe, match: Mapping[str, str]) -> str:
    """Return how many targets gave the metric lately and cannot be scraped now; no series, where there are none.

    Prometheus drops the series of such a target at once, and a sum without them looks like less work. A replica that
    is starting has given nothing yet, and one that was removed is no target any more: neither is counted.
    """
    lately = " or ".join(f"last_over_time({s}[{LOST_S}s])" for s in _selectors(recipe, match))
    return f"count((up == 0) and on (job, instance) ({lately}))"


def joint(terms: Mapping[str, str]) -> str:
    """Return one query for many, each answer labelled with its key.

    New lines end a comment in a query that was given.
    """
    return " or ".join(f'label_replace(\n{query}\n, "{LABEL}", "{key}", "", "")' for key, query in terms.items())


def metric_names(query: str) -> tuple[str, ...]:
    """Return the metrics a query reads, as far as its text tells."""
    bare = STRINGS.sub(" ", query)
    bare = re.sub(r"\[[^\]]*\]", " ", re.sub(r"\{[^}]*\}", " ", LABEL_LISTS.sub(" ", bare)))
    return tuple(dict.fromkeys(name for name in NAMES.findall(bare) if name.lower() not in WORDS))


def _selectors(recipe: Recipe, match: Mapping[str, str]) -> list[str]:
    return [selector(name, {**match, **recipe.labels}) for name in recipe.series]


def _histograms(parts: list[str]) -> list[str]:
    """Return each replica's buckets under the first name that it has, and no others.

    Bounds may differ from name to name.
    """
    return [
        f"({part}{''.join(f' unless ignoring (le) {earlier}' for earlier in parts[:i])})" if i else part
        for i, part in enumerate(parts)
    ]
