"""Options of the trace readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from simulators.world.rng import RngFor, streams
from simulators.world.traffic.lengths import Lengths

Unit: TypeAlias = Literal["s", "ms", "us", "ns"]
PER_SECOND: Final[Mapping[str, float]] = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
UNITS: Final = get_args(Unit)
UNSEEDED: Final = streams(0)
"""Random streams of readers without a seed: a file reads the same each time."""
Progress: TypeAlias = Callable[[int, int], None]
"""Callback with (done, total), in bytes or requests."""


def no_progress(_done: int, _total: int) -> None:
    """Ignore the progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """Options for reading a file.

    `format` None: the content determines it. `columns` maps arrival, prompt, output (and cached, client) to the columns
    of a table of unknown format; `unit` is the unit of its arrivals. `run` selects one of several runs in a file.
    `model` selects the requests to one model, by name or shell pattern. `prompt` and `output` are the token counts of
    requests for which the file has none. `skip_bad` leaves bad rows out and counts them. `rng_for` spreads quantised
    arrivals and draws token counts.
    """

    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    unit: Unit | None = None
    run: str | None = None
    model: str | None = None
    prompt: Lengths | None = None
    output: Lengths | None = None
    skip_bad: bool = False
    rng_for: RngFor = UNSEEDED
    progress: Progress = no_progress

    def lengths(self, role: str) -> Lengths | None:
        """Return the token counts for requests without any, of the role ``prompt`` or ``output``."""
        return {"prompt": self.prompt, "output": self.output}.get(role)
