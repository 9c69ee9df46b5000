"""The settings of one workload that are searched: by the table of `ranges`, and by what the user's document says.

A setting is a place in the workload's file as ``forescale compare`` names it (``self:policies.chat.target=24``,
``self:.tolerance=0.05``), so that every trial can be run again by that command.
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
from simulators.tune.ranges import LATENESS, LATENESS_RANGE, POLICIES, WORKLOAD, Range

DIGITS: Final = 3
"""Of a number tried: more would be noise, and nobody would want to read it in a file."""
Value = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class SpaceDocument:
    """A document that narrows or extends what is searched."""

    search: Annotated[
        Mapping[str, Range | None],
        FieldMetadata(
            "Settings and the values to try; null: leave it as it is.", example={"scale_down.window_s": None}
        ),
    ]
    only: Annotated[bool, FieldMetadata("Whether nothing is searched but what stands here.")] = False


@dataclass(frozen=True, slots=True)
class Dimension:
    """One setting that is searched: where it stands, what is there now, and what is tried."""

    path: str
    present: Value
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Value, ...] = ()

    def applied(self, value: Any) -> Value:
        """Return a value as it is written down: few digits, within the range, the present one as it is."""
        if self.choices or value == self.present or isinstance(value, bool | str):
            kept: Value = value
            return kept
        if self.whole:
            whole: int = round(value)
            return whole
        return min(self.high, max(self.low, float(f"{value:.{DIGITS}g}")))


@dataclass(frozen=True, slots=True)
class Space:
    """All that is searched."""

    dimensions: tuple[Dimension, ...]

    def applied(self, values: Mapping[str, Any]) -> dict[str, Value]:
        """Return the settings that sampled values stand for."""
        return {d.path: d.applied(values[d.path]) for d in self.dimensions}

    @property
    def present(self) -> dict[str, Value]:
        """The settings as they are."""
        return {d.path: d.present for d in self.dimensions}

    def changes(self, settings: Mapping[str, Value]) -> dict[str, tuple[Value, Value]]:
        """Return what settings change: before and after."""
        return {d.path: (d.present, settings[d.path]) for d in self.dimensions if settings[d.path] != d.present}


def word(settings: Mapping[str, Value]) -> str:
    """Return settings as ``forescale compare --policies`` takes them."""
    return f"{SELF}:{';'.join(f'{path}={written(value)}' for path, value in settings.items())}"


def written(value: Value) -> str:
    """Return a value as YAML has it in a line, a whole number without its fraction."""
    return flow(value)


def space_of(case: Case, told: Path | None = None) -> Space:
    """Return the search space of a case's workload. Raises `ConfigError` with all problems of `told`."""
    source = Document("", {"search": {}}, {}) if told is None else _only(told)
    search: SpaceDocument = spec_loader.read(SpaceDocument, source.data, source)
    ranges = {} if search.only else dict(_usual(case.workload.document))
    problems: list[Problem] = []
    for path, wanted in search.search.items():
        if wanted is None:
            if ranges.pop(path, None) is None:
                rule = "is not searched anyway: leave it out"
                problems.append(source.problem(("search", path), rule, did_you_mean(path, list(ranges))))
        else:
            ranges[path] = wanted
    found: list[Dimension] = []
    for path, wanted in ranges.items():
        made = _dimension(case.workload.document, path, wanted)
        if path not in search.search:
            found += _allowed(case, made) if isinstance(made, Dimension) else ()
        elif isinstance(made, Dimension):
            found.append(made)
            problems += [source.problem(("search", path), rule) for rule in _refused(case, made)]
        else:
            problems.append(source.problem(("search", path), *made))
    if not problems and not found:
        problems.append(Problem(source.file or case.workload.name, 1, "search", "", "names nothing to search", _HELP))
    if problems:
        raise ConfigError(problems)
    return Space(tuple(found))


_HELP: Final = "give a document with --search, such as {search: {scale_down.window_s: {low: 60, high: 600}}}"


def _only(path: Path) -> Document:
    documents, problems = read(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must hold one document, not {len(documents)}")]
    if problems:
        raise ConfigError(problems)
    return documents[0]


def _usual(workload: Mapping[str, Any]) -> Iterator[tuple[str, Range]]:
    """Yield the table's ranges for a workload."""
    kinds = {name: str(policy["kind"]) for name, policy in workload["policies"].items()}
    for name, kind in kinds.items():
        for key, wanted in POLICIES.get(kind, {}).items():
            for place in _places(workload["policies"][name], tuple(key.split("."))):
                yield ".".join(map(str, ("policies", name, *place))), wanted
    if not all(resolve("policy", kind).owns_stabilization for kind in kinds.values()):
        yield from WORKLOAD.items()
    if any(kind == "predictive" and workload["policies"][name]["quantile"] is None for name, kind in kinds.items()):
        yield LATENESS, LATENESS_RANGE


def _places(data: Any, keys: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield where keys lead, with each entry of a list for a ``*``; nowhere where something on the way is null."""
    if not keys:
        yield ()
    elif keys[0] == "*":
        for number, below in enumerate(data):
            yield from ((number, *place) for place in _places(below, keys[1:]))
    elif isinstance(data, Mapping) and data.get(keys[0]) is not None:
        yield from ((keys[0], *place) for place in _places(data[keys[0]], keys[1:]))


def _dimension(workload: Mapping[str, Any], path: str, wanted: Range) -> Dimension | tuple[str, str]:
    """Return the setting at a place, or why there is none: what is wrong, and what to do."""
    present: Any = workload
    for key in path.removeprefix(".").split("."):
        if isinstance(present, Mapping) and key in present:
            present = present[key]
        elif isinstance(present, list | tuple) and key.isdigit() and int(key) < len(present):
            present = present[int(key)]
        else:
            among = list(present) if isinstance(present, Mapping) else []
            return f"there is no {key!r} in this workload", did_you_mean(key, among)
    if "." not in path:
        return "is a setting of the workload itself", f"name it with a leading dot: .{path}"
    if present is None or isinstance(present, Mapping | list | tuple):
        what = "null" if present is None else "no single value"
        return f"is {what} in the workload", "give it a value there: the search begins at it"
    if wanted.choices:
        return Dimension(path, present, choices=tuple(dict.fromkeys((*wanted.choices, present))))
    if isinstance(present, bool | str):
        return f"is {written(present)}, no number", "give choices, not low and high"
    return _numeric(path, present, wanted)


def _numeric(path: str, present: float, wanted: Range) -> Dimension | tuple[str, str]:
    """Return a range of numbers, widened to hold the present one."""
    if wanted.low is None or wanted.high is None:
        return "has no low and high", "give both, or choices"
    factor = float(present) if wanted.times else 1.0
    low, high = min(wanted.low * factor, present), max(wanted.high * factor, present)
    whole = wanted.whole or isinstance(present, int)
    if whole:
        low, high = math.floor(low), math.ceil(high)
    if low >= high:
        return f"spans nothing: {low:g} to {high:g}", "give low and high apart"
    return Dimension(path, present, low, high, wanted.log and low > 0, whole)


def _refused(case: Case, made: Dimension) -> list[str]:
    """Why the workload would not take what is tried: the ends of a range, every choice."""
    tried = made.choices or (made.applied(made.low), made.applied(made.high))
    return list(dict.fromkeys(rule for value in tried for rule in _why_not(case, {made.path: value})))


def _allowed(case: Case, made: Dimension) -> Iterator[Dimension]:
    """Yield a range of the table, without the end that this workload would not take."""
    present = float(made.present)
    low = present if any(_why_not(case, {made.path: made.applied(made.low)})) else made.low
    high = present if any(_why_not(case, {made.path: made.applied(made.high)})) else made.high
    if low < high:
        yield replace(made, low=low, high=high)


def _why_not(case: Case, settings: Mapping[str, Value]) -> Iterator[str]:
    try:
        contenders(case, [word(settings)], with_self=False)
    except ConfigError as e:
        for problem in e.problems:
            yield f"{written(next(iter(settings.values())))} is refused: {problem.rule}"
