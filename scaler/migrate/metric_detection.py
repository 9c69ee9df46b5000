"""Recognizes metrics of engines and exporters in PromQL that a preset reads by itself."""

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
AGGREGATIONS: Final = {"sum": {"sum", None}, "mean": {"avg", None}}
"""Aggregations of a query that equal a recipe's. None stands for a bare series, which KEDA accepts of one replica."""


@dataclass(frozen=True, slots=True)
class PresetReading:
    """A preset, and the settings to read it.

    The settings are the quantities to read, their labels, the metric's unit per ours, and how replicas are aggregated.
    """

    preset: str
    quantities: tuple[str, ...]
    match: Mapping[str, str]
    divisor: float
    across: str


def recognize(query: str) -> PresetReading | None:
    """Return the preset's reading that equals a query; None where there is none."""
    text = query.strip()
    sum_of_terms = re.match(r"^sum\s*\((.*)\)$", text)
    terms = [t.strip() for t in text.split("+")]
    if sum_of_terms and "(" not in sum_of_terms[1]:
        terms = [f"sum({t.strip()})" for t in sum_of_terms[1].split("+")]
    readings = [reading for term in terms if (reading := _recognize_term(term)) is not None]
    kinds = {(r.preset, tuple(r.match.items()), r.divisor, r.across) for r in readings}
    if len(readings) < len(terms) or len(kinds) > 1:
        return None
    quantities = tuple(q for reading in readings for q in reading.quantities)
    first = readings[0]
    if len(quantities) > 1 and first.across != "sum":
        return None
    return PresetReading(first.preset, quantities, first.match, first.divisor, first.across)


def named_mean(name: str) -> PresetReading | None:
    """Return the mean that a preset reads from the metric of this name, with any labels."""
    for preset, recipes in PRESETS.items():
        for quantity, recipe in recipes.items():
            if name in recipe.names and recipe.aggregation == "mean":
                return PresetReading(preset, (quantity,), {}, recipe.divisor, "mean")
    return None


def _recognize_term(term: str) -> PresetReading | None:
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
            if parts["name"] in recipe.names and parts["by"] in AGGREGATIONS.get(recipe.aggregation, set()):
                return _read(preset, quantity, recipe, labels)
    return None


def _read(preset: str, quantity: str, recipe: Recipe, labels: dict[str, str]) -> PresetReading | None:
    """Return the reading; None where the query's labels contradict those of the preset."""
    fixed = {name: value for name, value in recipe.labels.items() if value}
    if any(labels.get(name) != value for name, value in fixed.items()):
        return None
    match = {name: value for name, value in sorted(labels.items()) if name not in recipe.labels}
    return PresetReading(preset, (quantity,), match, recipe.divisor, recipe.aggregation)
