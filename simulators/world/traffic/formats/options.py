"""What a reader is told besides the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from simulators.world.rng import RngFor, streams

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
PER_SECOND: Final[Mapping[str, float]] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
UNITS: Final = get_args(Unit)
UNSEEDED: Final = streams(0)
"""The chance of readers that were given none: a file reads the same each time."""
Progress: TypeAlias = Callable[[int, int], None]
"""Told (done, total), in bytes or requests, as long work goes on."""


def silent(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """How to read a file.

    `format` names one, None lets the content tell. `columns` maps arrival, prompt, output (and cached, client) to the
    columns of a table of no known format; `unit` is that of its arrivals. `run` chooses one of several runs in a file.
    `skip_bad` leaves bad rows out and counts them. `rng_for` gives the chance to spread quantised arrivals with.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: Unit | None = None
    run: str | None = None
    skip_bad: bool = False
    rng_for: RngFor = UNSEEDED
    progress: Progress = silent
