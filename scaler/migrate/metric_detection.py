"""Engines' and exporters' metrics in somebody's PromQL: what a preset reads by itself, with its samples' times."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scaler.clouds.engines.presets import PRESETS, Recipe

TERM: Final = re.compile(
    r"""^(?:(?P<by>sum|avg|max|min)\s*\(\s*)?(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{(?P<labels>[^{}]*)\})?\s*(?P<end>\)?)$"""
)
MATCHER: Final = re.compile(r'^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=|!=|=~|!~)\s*"((?:[^"\\])*)"\s*$')
BY: Final = {"sum": {"sum", None}, "mean": {"avg", None}}
"""How a query may sum up what a recipe sums up: bare series are one replica's, or the query fails in KEDA."""


@dataclass(frozen=True, slots=True)
class Read:
    """A preset, which of its quantities, the labels they must have, and the metric's unit per ours."""

    preset: str
    quantities: tuple[str, ...]
    match: Mapping[str, str]
    divisor: float
    across: str


def recognize(query: str) -> Read | None:
    """Return the preset's reading that a query is equal to, or None."""
    text = query.strip()
    inside = re.match(r"^sum\s*\((.*)\)$", text)
    terms = [t.strip() for t in text.split("+")]
    if inside and "(" not in inside[1]:
        terms = [f"sum({t.strip()})" for t in inside[1].split("+")]
    found = [_term(term) for term in terms]
    reads = [read for read in found if read is not None]
    if len(reads) < len(terms) or len({(r.preset, tuple(r.match.items()), r.divisor, r.across) for r in reads}) > 1:
        return None
    quantities = tuple(q for read in reads for q in read.quantities)
    first = reads[0]
    if len(quantities) > 1 and first.across != "sum":
        return None
    return Read(first.preset, quantities, first.match, first.divisor, first.across)


def named_mean(name: str) -> Read | None:
    """Return the share that a preset reads from the metric of this name, whatever it is narrowed to."""
    for preset, recipes in PRESETS.items():
        for quantity, recipe in recipes.items():
            if name in recipe.names and recipe.aggregation == "mean":
                return Read(preset, (quantity,), {}, recipe.divisor, "mean")
    return None


def _term(term: str) -> Read | None:
    parts = TERM.match(term)
    if parts is None or bool(parts["by"]) != bool(parts["end"]):
        return None
    labels: dict[str, str] = {}
    for piece in filter(str.strip, (parts["labels"] or "").split(",")):
        matcher = MATCHER.match(piece)
        if matcher is None or matcher[2] != "=":
            return None
        labels[matcher[1]] = matcher[3]
    for preset, recipes in PRESETS.items():
        for quantity, recipe in recipes.items():
            if parts["name"] in recipe.names and parts["by"] in BY.get(recipe.aggregation, set()):
                return _read(preset, quantity, recipe, labels)
    return None


def _read(preset: str, quantity: str, recipe: Recipe, labels: dict[str, str]) -> Read | None:
    """Return the reading, unless the query fixes labels another way than the preset does."""
    fixed = {name: value for name, value in recipe.labels.items() if value}
    if any(labels.get(name) != value for name, value in fixed.items()):
        return None
    match = {name: value for name, value in sorted(labels.items()) if name not in recipe.labels}
    return Read(preset, (quantity,), match, recipe.divisor, recipe.aggregation)
