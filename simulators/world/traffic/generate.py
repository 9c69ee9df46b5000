"""Generators of traffic.

They are a common base, mixes of generators, and a generator from a trace file.

Time is divided into chunks of `CHUNK_S`, and every random stream is named by its purpose and chunk. A generator draws
whole chunks and cuts them to the requested interval. So an interval has the same requests whether it is generated at
once or in parts, and two runs that generate it at different times get the same requests.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Protocol

import numpy as np

from policies.model.field_metadata import FieldMetadata
from simulators.experiments.spec_loader import Chosen
from simulators.world.rng import RngFor, within
from simulators.world.traffic.arrivals import arrivals
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.lengths import Lengths
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import MAX_ARRIVAL_S, Floats, Ints, RequestTrace, joined

CHUNK_S: Final = 600.0
"""Length of a chunk. Gaps of the arrival process do not extend across chunks."""
STEP_S: Final = 1.0
"""Time for which the rate is constant."""
MAX_RPS: Final = 1e6
MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0

GENERATORS: Final[Mapping[str, str]] = {
    "daily": "simulators.world.traffic.shapes:Daily",
    "flash_crowd": "simulators.world.traffic.shapes:FlashCrowd",
    "mix": "simulators.world.traffic.generate:Mix",
    "on_off": "simulators.world.traffic.shapes:OnOff",
    "poisson": "simulators.world.traffic.shapes:Poisson",
    "ramp": "simulators.world.traffic.shapes:Ramp",
    "rates": "simulators.world.traffic.shapes:Rates",
    "sine": "simulators.world.traffic.shapes:Sine",
    "steps": "simulators.world.traffic.shapes:RateSteps",
    "trace": "simulators.world.traffic.generate:TraceFile",
}
"""Generators by kind, imported on use."""

Duration = Annotated[
    float | None,
    FieldMetadata(
        "Length of the traffic. Default: null, the length of the file or of the longest client, else one hour."
        " Seconds.",
        gt=0,
        le=MAX_ARRIVAL_S,
        example=3600.0,
    ),
]


class Generator(Protocol):
    """Source of generated requests."""

    @property
    def length_s(self) -> float:
        """Duration if no end is requested. Seconds."""
        ...

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the expected rate at times since the start. Requests per second."""
        ...

    def requests(self, rng_for: RngFor, since_s: float = 0.0, until_s: float | None = None) -> RequestTrace:
        """Return the requests from `since_s` to before `until_s`, at their own times.

        An `until_s` of None is the generator's end. The result is deterministic: the requests of [0, 900) and [900,
        1800) are those of [0, 1800).
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Synthetic(ABC):
    """Traffic with a rate over time, random arrivals around it, and random request lengths."""

    duration_s: Duration = None
    gap_cv: Annotated[
        float,
        FieldMetadata(
            "Coefficient of variation of the gaps between arrivals. 0: even. 1: Poisson. Above 1: bursty.", ge=0, le=30
        ),
    ] = 1.0
    prompt: Annotated[Lengths, FieldMetadata("Distribution of prompt lengths.")] = field(
        default_factory=lambda: Lengths(mean_tokens=1000.0, cv=1.0)
    )
    output: Annotated[Lengths, FieldMetadata("Distribution of output lengths.")] = field(
        default_factory=lambda: Lengths(mean_tokens=200.0, cv=1.0, max_tokens=8192)
    )
    lengths_like: Annotated[
        str | None,
        FieldMetadata(
            "Trace file to draw prompt and output lengths from. Default: null, the distributions apply.",
            example="chat.csv.gz",
        ),
    ] = None

    @property
    def length_s(self) -> float:
        """See `Generator.length_s`."""
        return HOUR_S if self.duration_s is None else self.duration_s

    @abstractmethod
    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the expected rate at times since the start. Requests per second."""

    def drawn_rps(self, t_s: Floats, rng_for: RngFor) -> Floats:
        """Return the rate with its noise at times since the start.

        For a shape without noise, it is the expected rate.
        """
        return self.rate_rps(t_s)

    def requests(self, rng_for: RngFor, since_s: float = 0.0, until_s: float | None = None) -> RequestTrace:
        """See `Generator.requests`."""
        end_s = self.length_s if until_s is None else until_s
        chunks = range(math.floor(since_s / CHUNK_S), math.ceil(end_s / CHUNK_S))
        trace = joined([self._chunk(rng_for, k) for k in chunks], kind_of(self), repr(self))
        return trace.between(since_s, end_s)

    def _chunk(self, rng_for: RngFor, number: int) -> RequestTrace:
        """Return the requests of one chunk."""
        edges = number * CHUNK_S + np.arange(0.0, CHUNK_S + STEP_S, STEP_S)
        rates = np.round(self.drawn_rps(edges[:-1] + STEP_S / 2, rng_for), 6)
        times = arrivals(edges, rates, self.gap_cv, rng_for(f"arrivals/{number}"))
        prompt, output = self._lengths(rng_for, number, len(times))
        return RequestTrace(times, prompt, output)

    def _lengths(self, rng_for: RngFor, number: int, count: int) -> tuple[Ints, Ints]:
        if self.lengths_like is not None:
            like = load(self.lengths_like)
            rows = rng_for(f"lengths/{number}").integers(0, len(like), count)
            return like.prompt_tokens[rows], like.output_tokens[rows]
        prompt = self.prompt.draw(count, rng_for(f"prompt/{number}"))
        return prompt, self.output.draw(count, rng_for(f"output/{number}"))


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Several clients with their own traffic at the same time.

    The trace has the client of each request.
    """

    clients: Annotated[
        Mapping[str, Any],
        Chosen(GENERATORS),
        FieldMetadata("Generator of each client, by name.", example={"chat": {"kind": "poisson"}}),
    ]
    duration_s: Duration = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why this is impossible, as (key, rule broken)."""
        if not self.clients:
            yield "clients", "must name at least one client"

    @property
    def length_s(self) -> float:
        """See `Generator.length_s`."""
        return max(c.length_s for c in self.clients.values()) if self.duration_s is None else self.duration_s

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the sum of the clients' rates."""
        return np.asarray(np.sum([client.rate_rps(t_s) for client in self.clients.values()], axis=0), np.float64)

    def requests(self, rng_for: RngFor, since_s: float = 0.0, until_s: float | None = None) -> RequestTrace:
        """See `Generator.requests`. `client` numbers the clients in the order given."""
        end_s = self.length_s if until_s is None else until_s
        parts = []
        for number, (name, client) in enumerate(self.clients.items()):
            parts.append(client.requests(within(rng_for, name), since_s, end_s).sent_by(number))
        return joined(parts, "mix", f"clients {', '.join(self.clients)}")


@dataclass(frozen=True, kw_only=True)
class TraceFile:
    """The requests of a trace file, or of a window of it.

    They can have another speed or volume, and run once or over and over.
    """

    file: Annotated[
        str, FieldMetadata("Trace in any format that `forescale trace describe` reads.", example="chat.csv.gz")
    ]
    run: Annotated[
        str | None, FieldMetadata("Run to read. Default: null, the only run of the file.", example="conv_a")
    ] = None
    model_name: Annotated[
        str | None,
        FieldMetadata(
            "Keep only requests to this model, a name or a shell pattern. Default: null, the only model of the file.",
            example="llama-*",
        ),
    ] = None
    start_s: Annotated[float, FieldMetadata("Start of the window in the file. Seconds.", ge=0, le=MAX_ARRIVAL_S)] = 0.0
    end_s: Annotated[
        float | None,
        FieldMetadata(
            "End of the window in the file. Default: null, the end of the file. Seconds.", gt=0, example=3600.0
        ),
    ] = None
    speed: Annotated[float, FieldMetadata("Replay speed; 2 halves all gaps. Factor.", gt=0, le=1000)] = 1.0
    scale: Annotated[
        float, FieldMetadata("Factor for the number of requests in the same time. Factor.", gt=0, le=1000)
    ] = 1.0
    repeat: Annotated[bool, FieldMetadata("Whether the traffic repeats without end.")] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why this is impossible, as (key, rule broken)."""
        if self.end_s is not None and self.end_s <= self.start_s:
            yield "end_s", f"must be above start_s, {self.start_s:g}"

    @property
    def length_s(self) -> float:
        """Duration of the window at its speed.

        Without `end_s`, one mean gap follows the last arrival.

        11 arrivals from 0 to 100 s last 110 s, so that a repeated trace keeps its rate.
        """
        if self.end_s is not None:
            return (self.end_s - self.start_s) / self.speed
        trace = load(self.file, self.run, self.model_name)
        remaining_s = trace.duration_s * (1 + 1 / max(len(trace) - 1, 1)) - self.start_s
        return max(round(remaining_s / self.speed, 3), 0.001)

    def _window(self) -> RequestTrace:
        return load_window(self)

    def rate_rps(self, t_s: Floats) -> Floats:
        """Return the mean rate in the minute of the file around each time."""
        window = self._window()
        file_s = np.mod(t_s, self.length_s) if self.repeat else t_s
        first, last = (np.searchsorted(window.arrival_s, file_s + side) for side in (-MINUTE_S / 2, MINUTE_S / 2))
        return np.asarray((last - first) * self.scale / MINUTE_S, np.float64)

    def requests(self, rng_for: RngFor, since_s: float = 0.0, until_s: float | None = None) -> RequestTrace:
        """See `Generator.requests`.

        With `scale`, each round of a repeated trace draws its own copies.
        """
        length = self.length_s
        end_s = length if until_s is None else until_s
        window = self._window()
        last = math.ceil(end_s / length) if self.repeat else min(1, math.ceil(end_s / length))
        parts = []
        # a copy may arrive up to a second after its round, so the previous round is generated too
        for number in range(max(math.floor(since_s / length) - 1, 0), last):
            part = window.scale(self.scale, rng_for(f"scale/{number}")) if self.scale != 1 else window
            parts.append(part.shifted(number * length))
        return joined(parts, window.name, window.origin).between(since_s, end_s)


def kind_of(generator: Generator) -> str:
    """Return the kind of the generator's class in `GENERATORS`."""
    path = f"{type(generator).__module__}:{type(generator).__name__}"
    return next(kind for kind, registered in GENERATORS.items() if registered == path)


@lru_cache(maxsize=8)
def load_window(source: TraceFile) -> RequestTrace:
    """Return the requests of a window of a file, at another speed. Cached per process."""
    trace = load(source.file, source.run, source.model_name)
    return trace.window(source.start_s, math.inf if source.end_s is None else source.end_s).speed(source.speed)


@lru_cache(maxsize=8)
def load(file: str, run: str | None = None, model: str | None = None) -> RequestTrace:
    """Return the trace in a file. Cached per process."""
    return read(Path(file), ReadOptions(run=run, model=model))
