"""Search space of one workload: the ranges of `ranges`, changed by the user's document.

A setting is named as ``forescale compare`` names it (``self:policies.chat.target=24``, ``self:.tolerance=0.05``), so
that this command can run every trial again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Final

from policies.model.field_metadata import FieldMetadata
from scaler.config.document import Document, read
from scaler.config.problems import ConfigError, Problem
from scaler.migrate.yaml_writer import flow
from scaler.registry import did_you_mean, resolve
from simulators.experiments import spec_loader
from simulators.experiments.contenders.contenders import SELF, contenders
from simulators.experiments.scenario import Case
from simulators.tune.ranges import POLICIES, VIOLATION_COST, VIOLATION_COST_RANGE, WORKLOAD, Range

DIGITS: Final = 3
"""Significant digits of a tried number: more would be noise."""
Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class SpaceDocument:
    """A document that narrows or extends the search space."""

    search: Annotated[
        Mapping[str, Range | None],
        FieldMetadata(
            "Values to try, by setting; null: keep the present value.", example={"scale_down.window_s": None}
        ),
    ]
    only: Annotated[
        bool, FieldMetadata("Whether to search only the settings listed in search, without the defaults.")
    ] = False


@dataclass(frozen=True, slots=True)
class Dimension:
    """One searched setting: its place, its present value, and the values to try."""

    path: str
    present: Value
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def applied(self, value: Any) -> Value:
        """Return a sampled value rounded to `DIGITS` digits and within the range.

        The present value stays as it is. 23.4567 becomes 23.5.
        """
        if self.choices or value == self.present or isinstance(value, bool | str):
            unchanged: Value = value
            return unchanged
        if self.whole:
            rounded: int = round(value)
            return rounded
        return min(self.high, max(self.low, float(f"{value:.{DIGITS}g}")))


@dataclass(frozen=True, slots=True)
class Space:
    """The searched settings of a workload."""

    dimensions: tuple[Dimension, ...]

    def applied(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Return the settings of sampled values."""
        return {d.path: d.applied(values[d.path]) for d in self.dimensions}

    @property
    def present(self) -> dict[str, Value]:
        """The present settings."""
        return {d.path: d.present for d in self.dimensions}

    def changes(self, settings: Mapping[str, Value]) -> dict[str, tuple[Value, Value]]:
        """Return the changed settings as (present, new)."""
        return {d.path: (d.present, settings[d.path]) for d in self.dimensions if settings[d.path] != d.present}


def contender_text(settings: Mapping[str, Value]) -> str:
    """Return settings as a contender for ``forescale compare --policies``."""
    return f"{SELF}:{';'.join(f'{path}={to_yaml(value)}' for path, value in settings.items())}"


def to_yaml(value: Value) -> str:
    """Return a value as YAML in one line, a whole number without its fraction."""
    return flow(value)


def space_of(case: Case, document: Path | None = None) -> Space:
    """Return the search space of a case's workload.

    Raises `ConfigError` with all problems of `document`.
    """
    source = Document("", {"search": {}}, {}) if document is None else _one_document(document)
    search: SpaceDocument = spec_loader.read(SpaceDocument, source.data, source)
    ranges = {} if search.only else dict(_default_ranges(case.workload.document))
    problems: list[Problem] = []
    for path, searched in search.search.items():
        if searched is None:
            if ranges.pop(path, None) is None:
                rule = "is not in the default search space: remove it"
                problems.append(source.problem(("search", path), rule, did_you_mean(path, list(ranges))))
        else:
            ranges[path] = searched
    dimensions: list[Dimension] = []
    for path, searched in ranges.items():
        dimension = _dimension(case.workload.document, path, searched)
        if path not in search.search:
            dimensions += _within_workload_rules(case, dimension) if isinstance(dimension, Dimension) else ()
        elif isinstance(dimension, Dimension):
            dimensions.append(dimension)
            problems += [source.problem(("search", path), rule) for rule in _refusals(case, dimension)]
        else:
            problems.append(source.problem(("search", path), *dimension))
    if not problems and not dimensions:
        problems.append(Problem(source.file or case.workload.name, 1, "search", "", "names nothing to search", _HINT))
    if problems:
        raise ConfigError(problems)
    return Space(tuple(dimensions))


_HINT: Final = "set a document with --search, as in {search: {scale_down.window_s: {low: 60, high: 600}}}"


def _one_document(path: Path) -> Document:
    documents, problems = read(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must contain one document, not {len(documents)}")]
    if problems:
        raise ConfigError(problems)
    return documents[0]


def _default_ranges(workload: Mapping[str, Any]) -> Iterator[tuple[str, Range]]:
    """Yield the default ranges for a workload."""
    kinds = {name: str(policy["kind"]) for name, policy in workload["policies"].items()}
    for name, kind in kinds.items():
        for key, searched in POLICIES.get(kind, {}).items():
            for place in _matching_places(workload["policies"][name], tuple(key.split("."))):
                yield ".".join(map(str, ("policies", name, *place))), searched
    if not all(resolve("policy", kind).owns_stabilization for kind in kinds.values()):
        yield from WORKLOAD.items()
    if any(kind == "predictive" and workload["policies"][name]["quantile"] is None for name, kind in kinds.items()):
        yield VIOLATION_COST, VIOLATION_COST_RANGE


def _matching_places(data: Any, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the places of keys, one for each entry of a list at ``*``; none if a parent is null."""
    if not keys:
        yield ()
    elif keys[0] == "*":
        for number, child in enumerate(data):
            yield from ((number, *place) for place in _matching_places(child, keys[1:]))
    elif isinstance(data, Mapping) and data.get(keys[0]) is not None:
        yield from ((keys[0], *place) for place in _matching_places(data[keys[0]], keys[1:]))


def _dimension(workload: Mapping[str, Any], path: str, searched: Range) -> Dimension | tuple[str, str]:
    """Return the setting at a place, or (rule, hint) if there is none."""
    present: Any = workload
    for key in path.removeprefix(".").split("."):
        if isinstance(present, Mapping) and key in present:
            present = present[key]
        elif isinstance(present, list | tuple) and key.isdigit() and int(key) < len(present):
            present = present[int(key)]
        else:
            keys = list(present) if isinstance(present, Mapping) else []
            return f"the workload has no {key}", did_you_mean(key, keys)
    if "." not in path:
        return "is a top-level setting of the workload", f"write it with a leading dot: .{path}"
    if present is None or isinstance(present, Mapping | list | tuple):
        value = "null" if present is None else "not a single value"
        return f"is {value} in the workload", "set a value there, from which the search starts"
    if searched.choices:
        return Dimension(path, present, choices=tuple(dict.fromkeys((*searched.choices, present))))
    if isinstance(present, bool | str):
        return f"is {to_yaml(present)}, not a number", "set choices instead of low and high"
    return _numeric(path, present, searched)


def _numeric(path: str, present: float, searched: Range) -> Dimension | tuple[str, str]:
    """Return a numeric setting, its range widened to hold the present value.

    A target of 12 with a range of 0.3 to 3 times the present value gives 3.6 to 36, and whole numbers 3 to 36.
    """
    if searched.low is None or searched.high is None:
        return "has no low and high", "set both, or choices"
    factor = float(present) if searched.times else 1.0
    low, high = min(searched.low * factor, present), max(searched.high * factor, present)
    whole = searched.whole or isinstance(present, int)
    if whole:
        low, high = math.floor(low), math.ceil(high)
    if low >= high:
        return f"is an empty range: {low:g} to {high:g}", "set a high above low"
    return Dimension(path, present, low, high, searched.log and low > 0, whole)


def _refusals(case: Case, dimension: Dimension) -> list[str]:
    """Return why the workload's rules refuse an end of the range or a choice."""
    values = dimension.choices or (dimension.applied(dimension.low), dimension.applied(dimension.high))
    return list(dict.fromkeys(rule for value in values for rule in _rejections(case, {dimension.path: value})))


def _within_workload_rules(case: Case, dimension: Dimension) -> Iterator[Dimension]:
    """Yield a default range that the workload's rules accept.

    An end that they refuse is replaced by the present value.
    """
    present = float(dimension.present)
    low = present if any(_rejections(case, {dimension.path: dimension.applied(dimension.low)})) else dimension.low
    high = present if any(_rejections(case, {dimension.path: dimension.applied(dimension.high)})) else dimension.high
    if low < high:
        yield replace(dimension, low=low, high=high)


def _rejections(case: Case, settings: Mapping[str, Value]) -> Iterator[str]:
    try:
        contenders(case, [contender_text(settings)], with_self=False)
    except ConfigError as e:
        for problem in e.problems:
            yield f"{to_yaml(next(iter(settings.values())))} is rejected: {problem.rule}"
