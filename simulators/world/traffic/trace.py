"""A trace: arrivals, prompt tokens and output tokens of requests."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int32]

MAX_ARRIVAL_S: Final = 1e8
"""Three years. A later arrival is a time of day in the wrong unit, not an offset from the start of a trace."""
MAX_TOKENS: Final = 100_000_000
"""Ten times the longest context window of any model: a larger value is from the wrong column."""
COLUMNS: Final = ("prompt_tokens", "output_tokens", "cached_tokens", "client")
"""Integer columns."""
REQUIRED: Final = COLUMNS[:2]
MINIMUM: Final = {"prompt_tokens": 1, "output_tokens": 1, "cached_tokens": 0, "client": 0}


class TraceError(Exception):
    """Unusable traffic: file, place, value, the rule broken, and the remedy."""


@dataclass(frozen=True, slots=True, eq=False)
class RequestTrace:
    """Requests in order of arrival.

    Arrays are read-only: 16 bytes per request, 24 with every column.

    `arrival_s` counts from the trace's start. `cached_tokens` are prompt tokens in a prefix cache (fewer than the
    prompt), `client` is the number of the sender. `repairs` counts rows that the reader repaired or left out, by kind.
    """

    arrival_s: Floats
    prompt_tokens: Ints
    output_tokens: Ints
    cached_tokens: Ints | None = None
    client: Ints | None = None
    name: str = "trace"
    origin: str = ""
    repairs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        arrival = _read_only(self.arrival_s, np.float64)
        object.__setattr__(self, "arrival_s", arrival)
        if arrival.ndim != 1:
            raise TraceError(f"{self.name}: arrival_s has {arrival.ndim} dimensions; must have one")
        if not np.isfinite(arrival).all():
            raise TraceError(f"{self.name}: arrival_s has a value that is not finite")
        if (arrival[1:] < arrival[:-1]).any():
            raise TraceError(f"{self.name}: arrival_s is not sorted")
        if len(arrival) and not 0 <= arrival[0] <= arrival[-1] <= MAX_ARRIVAL_S:
            raise TraceError(f"{self.name}: arrival_s must lie within 0 to {MAX_ARRIVAL_S:g} s")
        for column in COLUMNS:
            self._check_column(column)
        if self.cached_tokens is not None and (self.cached_tokens >= self.prompt_tokens).any():
            raise TraceError(f"{self.name}: cached_tokens must be below prompt_tokens")
        object.__setattr__(self, "repairs", {k: int(n) for k, n in self.repairs.items() if n})

    def _check_column(self, column: str) -> None:
        values = getattr(self, column)
        if values is None:
            return
        values = np.asarray(values)
        if values.shape != self.arrival_s.shape:
            raise TraceError(f"{self.name}: {column} has {values.size} values for {len(self)} requests")
        if values.size:
            maximum = MAX_TOKENS if column != "client" else np.iinfo(np.int32).max
            if not MINIMUM[column] <= values.min() <= values.max() <= maximum:
                raise TraceError(f"{self.name}: {column} must lie within {MINIMUM[column]} to {maximum}")
        object.__setattr__(self, column, _read_only(values, np.int32))

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """Time from 0 to the last arrival."""
        return float(self.arrival_s[-1]) if len(self) else 0.0

    def speed(self, factor: float) -> RequestTrace:
        """Return the same requests `factor` times as fast."""
        if not 0 < factor < float("inf"):
            raise TraceError(f"{self.name}: speed {factor} must be above 0 and finite")
        return dataclasses.replace(self, arrival_s=self.arrival_s / factor)

    def window(self, start_s: float = 0.0, end_s: float = float("inf")) -> RequestTrace:
        """Return the requests of a window, with `start_s` as the new time 0.

        The requests arrive from `start_s` on and before `end_s`.
        """
        if not 0 <= start_s < end_s:
            raise TraceError(f"{self.name}: window {start_s:g} to {end_s:g} s must start at 0 or later, before its end")
        return self.between(start_s, end_s).shifted(-start_s)

    def between(self, since_s: float, until_s: float) -> RequestTrace:
        """Return the requests of a window, at their own times.

        The requests arrive from `since_s` on and before `until_s`.
        """
        first, last = np.searchsorted(self.arrival_s, (since_s, until_s), side="left")
        return self._rows(slice(int(first), int(last)))

    def shifted(self, by_s: float) -> RequestTrace:
        """Return the same requests, `by_s` later."""
        return dataclasses.replace(self, arrival_s=self.arrival_s + by_s)

    def with_prefix_hits(self, share: float) -> RequestTrace:
        """Return the requests with `share` of each prompt in a prefix cache.

        Recorded hits stay as they are.
        """
        if not 0 <= share < 1:
            raise TraceError(f"{self.name}: hit share {share} must be 0 or more and below 1")
        if not share or self.cached_tokens is not None:
            return self
        return dataclasses.replace(self, cached_tokens=np.floor(self.prompt_tokens * share).astype(np.int32))

    def sent_by(self, client: int) -> RequestTrace:
        """Return the same requests, all from one client."""
        return dataclasses.replace(self, client=np.full(len(self), client, np.int32))

    def thin(self, share: float, rng: np.random.Generator) -> RequestTrace:
        """Keep each request independently with probability `share`. A Poisson process stays one."""
        if not 0 <= share <= 1:
            raise TraceError(f"{self.name}: share {share} must lie within 0 to 1")
        return self._rows(np.flatnonzero(rng.random(len(self)) < share))

    def scale(self, factor: float, rng: np.random.Generator, spread_s: float = 1.0) -> RequestTrace:
        """Return `factor` times as many requests in the same time, with the same shape.

        A factor of 2.3 gives each request one copy, and a second copy with probability 0.3. Copies arrive up to
        `spread_s` after the original (uniform, to a millisecond). A factor below 1 thins.
        """
        if not 0 <= factor <= 1e6:
            raise TraceError(f"{self.name}: factor {factor} must lie within 0 to 1e6")
        if factor <= 1:
            return self.thin(factor, rng)
        counts = np.full(len(self), int(factor)) + (rng.random(len(self)) < factor - int(factor))
        rows = np.repeat(np.arange(len(self)), counts)
        copies = np.diff(rows, prepend=-1) == 0
        delay = np.where(copies, np.round(rng.random(len(rows)) * spread_s, 3), 0.0)
        return ordered(self._columns(rows), self.arrival_s[rows] + delay, self.name, self.origin, self.repairs)

    def digest(self) -> str:
        """Return the SHA-256 of the requests, without name and origin. Equal on every machine."""
        digest = hashlib.sha256(f"trace 1, {len(self)} requests\n".encode())
        digest.update(np.ascontiguousarray(self.arrival_s, "<f8").data)
        for column in COLUMNS:
            values = getattr(self, column)
            if values is not None:
                digest.update(f"\n{column}\n".encode())
                digest.update(np.ascontiguousarray(values, "<i4").data)
        return digest.hexdigest()

    def _rows(self, rows: Any) -> RequestTrace:
        return dataclasses.replace(self, arrival_s=self.arrival_s[rows], **self._columns(rows))

    def _columns(self, rows: Any) -> dict[str, Any]:
        return {c: getattr(self, c)[rows] for c in COLUMNS if getattr(self, c) is not None}


def ordered(
    columns: Mapping[str, Ints],
    arrival_s: Floats,
    name: str,
    origin: str = "",
    repairs: Mapping[str, int] | None = None,
) -> RequestTrace:
    """Return a trace from rows in any order. Rows of the same time keep their order."""
    if (arrival_s[1:] < arrival_s[:-1]).any():
        rows = np.argsort(arrival_s, kind="stable")
        arrival_s, columns = arrival_s[rows], {c: values[rows] for c, values in columns.items()}
    return RequestTrace(arrival_s, **columns, name=name, origin=origin, repairs=repairs or {})


def joined(traces: Sequence[RequestTrace], name: str, origin: str = "") -> RequestTrace:
    """Return all requests of `traces` on one clock.

    If some have `cached_tokens`, the others have 0. `client` is kept if all have it.
    """
    full = [t for t in traces if len(t)]
    present = [c for c in COLUMNS if c in REQUIRED or any(getattr(t, c) is not None for t in full)]
    if any(t.client is None for t in full):
        present = [c for c in present if c != "client"]
    columns = {c: np.concatenate([np.zeros(0, np.int32), *(_column(t, c) for t in full)]) for c in present}
    repairs: dict[str, int] = {}
    for trace in traces:
        for what, count in trace.repairs.items():
            repairs[what] = repairs.get(what, 0) + count
    return ordered(columns, np.concatenate([np.zeros(0), *(t.arrival_s for t in full)]), name, origin, repairs)


def _column(trace: RequestTrace, column: str) -> Ints:
    values: Ints | None = getattr(trace, column)
    return np.zeros(len(trace), np.int32) if values is None else values


def _read_only(values: Any, dtype: type[np.generic]) -> Any:
    """Return a read-only view of `values`. The caller's array stays writable."""
    array = np.asarray(values, dtype).view()
    array.flags.writeable = False
    return array
