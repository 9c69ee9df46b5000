"""Invariants of sources with false zeros: for how long their zeros must not lower a size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh
from policies.signals.zero_suspicion import source_of
from tests.fuzz.worlds.tick_context import RecordedTick, TickContext, read_sources

MIN_WORK: Final = 10.0
"""Minimum sum of readings that counts as work: less may disappear within one tick by chance."""
RETURN_S, MEMORY_S, CERTAIN_S = 300.0, 1800.0, 900.0
"""Work that returns within the first time was never gone. False zeros are remembered for the second. Zeros that last
for the third are true."""


def repeated_false_zeros_lower_nothing(context: TickContext) -> str | None:
    """After false zeros of a source, new zeros lower nothing until they have lasted twice as long.

    Zeros between two ticks of similar work count as false. They are remembered for half an hour, and zeros that last
    for a quarter of an hour are true: after false zeros of 120 s, new zeros must last 240 s.
    """
    if not context.shrinks() or context.override_in_force():
        return None
    for source in read_sources(context.spec) & context.now.injected_zeros:
        zero_runs = list(_zero_runs(source, context))
        if not zero_runs or zero_runs[-1].end is not None:
            continue
        latest = zero_runs[-1]
        durations_s = [
            run.end - run.start for run in zero_runs if run.end is not None and run.end >= latest.start - MEMORY_S
        ]
        required_s = min(CERTAIN_S, 2.0 * max(durations_s, default=0.0))
        if context.now.at - latest.start < required_s:
            d = context.decision
            for_s = context.now.at - latest.start
            return f"{d.current} -> {d.target}, {source} lies since {for_s:g} s, and did for {required_s / 2:g} s"
    return None


@dataclass(frozen=True, slots=True)
class ZeroRun:
    """A period of zeros of one source after work. `end` is None while it lasts."""

    start: float
    end: float | None


def _zero_runs(source: str, context: TickContext) -> Iterator[ZeroRun]:
    """Yield the source's false zeros after work, oldest first: those followed by similar work within `RETURN_S`, and
    the current ones."""
    before: Mapping[str, float] = {}
    last_work, start = -math.inf, math.inf
    for recorded in (*context.past, context.now):
        readings = _readings(source, recorded)
        if not readings:
            continue
        if source in recorded.injected_zeros and not any(readings.values()):
            start = min(start, recorded.at)
        elif any(readings.values()):
            if start < math.inf and recorded.at - start <= RETURN_S and _similar(before, readings):
                yield ZeroRun(start, recorded.at)
            before, last_work, start = readings, recorded.at, math.inf
        else:
            before, start = {}, math.inf  # idle in truth
    if start - last_work <= RETURN_S and sum(before.values()) >= MIN_WORK:
        yield ZeroRun(start, None)


def _readings(source: str, recorded: RecordedTick) -> dict[str, float]:
    """Return the fresh readings of a source, by signal."""
    readings = recorded.tick.observation.readings.items()
    return {s: r.value for s, r in readings if source_of(s) == source and isinstance(r, Fresh)}


def _similar(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Return whether both are work, and each pair of readings differs by at most a factor of 1.5.

    Shares (at most 1) are only similar to shares.
    """
    pairs = [(value, after.get(signal, 0.0)) for signal, value in before.items()]
    near = all(max(p) <= 1.5 * min(p) and (max(p) <= 1.0 or min(p) > 1.0) for p in pairs)
    return near and before.keys() == after.keys() and min(sum(before.values()), sum(after.values())) >= MIN_WORK
