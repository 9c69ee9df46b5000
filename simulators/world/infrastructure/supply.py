"""Capacity of a zone over time.

It is constant, in steps, replayed from a trace, or with random outages.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure.node_lifecycle import Phase
from simulators.world.infrastructure.units import to_ps

Supply = Iterator[tuple[int, int | None]]
"""(time, nodes offered from then on): picoseconds, ascending from 0. None: no limit. May be infinite."""


@dataclass(frozen=True, kw_only=True)
class SupplyStep:
    """A number of nodes from a time on."""

    at_s: Annotated[float, FieldMetadata("Time after the start of the run. Seconds.", ge=0, example=3600.0)]
    nodes: Annotated[int, FieldMetadata("Available nodes from this time on. Nodes.", ge=0, example=4)]


@dataclass(frozen=True, kw_only=True)
class SupplyTrace:
    """A recorded capacity, with one value every G seconds.

    It is JSON: ``{"metadata": {"gap_seconds": G}, "data": [n, ...]}``. The SkyPilot spot traces and the SpotHedge
    artifact have this format.
    """

    file: Annotated[str, FieldMetadata("Trace file, relative to the scenario file.", example="spot/us-east-2a.json")]
    start_s: Annotated[float, FieldMetadata("Offset into the trace at the start of the run. Seconds.", ge=0)] = 0.0
    scale: Annotated[float, FieldMetadata("Factor for the number of nodes, rounded down. Factor.", gt=0)] = 1.0
    repeat: Annotated[
        bool, FieldMetadata("Whether the trace repeats after its end. If false, the last value holds.")
    ] = True


@dataclass(frozen=True, kw_only=True)
class Outages:
    """A zone that offers all its nodes or none, in alternating periods.

    The periods are a semi-Markov process with log-normal times. The zone is available at the start.

    Defaults: AWS V100 spot, 9 zones over 45 days (SkyPilot spot traces): available 0.64 of the time, up for a median
    of about an hour with a mean 3 times that. Up-times are too heavy-tailed for a constant rate.
    """

    up: Annotated[Phase, FieldMetadata("Duration of an available period. Default: AWS V100 spot traces. Seconds.")] = (
        field(default_factory=lambda: Phase(median_s=3600.0, sigma=1.5))
    )
    down: Annotated[Phase, FieldMetadata("Duration of an outage. Default: AWS V100 spot traces. Seconds.")] = field(
        default_factory=lambda: Phase(median_s=2025.0, sigma=1.5)
    )

    @property
    def availability(self) -> float:
        """Long-run available share of time, E[up] / (E[up] + E[down]).

        Defaults: 3600 / (3600 + 2025) = 0.64.
        """
        up_s, down_s = (p.median_s * math.exp(p.sigma**2 / 2) for p in (self.up, self.down))
        return up_s / (up_s + down_s)

    def problems(self) -> Iterator[tuple[str, str]]:
        for key, phase in (("up", self.up), ("down", self.down)):
            if phase.median_s <= 0:
                yield key, "median_s must be above 0"


def constant(nodes: int | None) -> Supply:
    """Yield one capacity for all time."""
    yield 0, nodes


def stepped(first: int | None, steps: Sequence[SupplyStep]) -> Supply:
    """Yield `first`, then each step."""
    if not steps or steps[0].at_s > 0:
        yield 0, first
    for step in steps:
        yield to_ps(step.at_s), step.nodes


def with_outages(nodes: int | None, outages: Outages, rng: np.random.Generator) -> Supply:
    """Yield `nodes` while available, else 0.

    `ZoneOffer.problems` rejects outages without a capacity.
    """
    at_ps = 0
    while True:
        yield at_ps, nodes
        at_ps += max(1, outages.up.ps(rng.standard_normal()))
        yield at_ps, 0
        at_ps += max(1, outages.down.ps(rng.standard_normal()))


def replayed(trace: SupplyTrace, folder: Path) -> Supply:
    """Return the trace from its start offset on, changes only.

    Raises `ValueError` naming file, key and value.
    """
    gap_s, data = read(folder / trace.file)
    factor = Fraction(str(trace.scale))
    nodes = [math.floor(n * factor) for n in data]
    first = math.floor(Fraction(str(trace.start_s)) / gap_s)
    if first >= len(nodes) and not trace.repeat:
        raise ValueError(
            f"{trace.file}: start_s {trace.start_s:g} is after the end of the trace at {float(len(nodes) * gap_s):g} s:"
            " start earlier or set repeat"
        )
    return _changes(nodes, first, gap_s, Fraction(str(trace.start_s)), trace.repeat)


def _changes(nodes: Sequence[int], first: int, gap_s: Fraction, start_s: Fraction, repeat: bool) -> Supply:
    last = nodes[first % len(nodes)]
    yield 0, last
    if len(dict.fromkeys(nodes)) == 1:
        return
    for i in itertools.count(first + 1) if repeat else range(first + 1, len(nodes)):
        if nodes[i % len(nodes)] != last:
            last = nodes[i % len(nodes)]
            yield to_ps(float(i * gap_s - start_s)), last


def read(file: Path) -> tuple[Fraction, Sequence[int]]:
    """Return a trace's gap in seconds and its values.

    Raises `ValueError` naming file, key, value and rule.
    """
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except OSError as e:
        raise ValueError(f"{file}: cannot be read ({e.strerror}): set a path relative to the scenario file") from e
    except ValueError as e:
        raise ValueError(f"{file}: is not valid JSON: {e}") from e
    gap_s = _get(file, content, "metadata", "gap_seconds")
    if isinstance(gap_s, bool) or not isinstance(gap_s, int | float) or not 0.001 <= gap_s < math.inf:
        raise ValueError(f"{file}: metadata.gap_seconds is {gap_s!r}: must be a number of seconds, at least 0.001")
    data = _get(file, content, "data")
    if not isinstance(data, list) or not data:
        raise ValueError(f"{file}: data must be a non-empty list of node counts")
    for i, n in enumerate(data):
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"{file}: data[{i}] is {n!r}: must be a whole number of nodes, 0 or more")
    return Fraction(str(gap_s)), data


def _get(file: Path, content: Any, *keys: str) -> Any:
    for i, key in enumerate(keys):
        if not isinstance(content, dict) or key not in content:
            raise ValueError(
                f"{file}: {'.'.join(keys[: i + 1])} is missing: a spot trace must have metadata.gap_seconds and data"
            )
        content = content[key]
    return content
