"""What must hold of sources that were seen to lie: how long their zeros lower nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh
from policies.signals.zero_suspicion import source_of
from tests.fuzz.worlds.turn import Seen, Turn, asked

PLENTY: Final = 10.0
"""Work told, in whatever: less may be gone a turn later by chance."""
SOON_S, LATELY_S, ENOUGH_S = 300.0, 1800.0, 900.0
"""What is back within so long was never gone; lies are remembered so long; zeros that lasted so long are true."""


def liars_are_outlasted(turn: Turn) -> str | None:
    """Nothing is lowered on zeros of a source that lied lately, before they have lasted twice as long as its lies.

    Lies that can be seen to be some count: zeros between two turns of like work. Half an hour is lately, and a quarter
    of an hour enough.
    """
    if not turn.shrinks() or turn.by_hand():
        return None
    for source in asked(turn.spec) & turn.now.lies:
        lies = list(_lies(source, turn))
        if not lies or lies[-1].until is not None:
            continue
        now = lies[-1]
        lasted_s = [
            lie.until - lie.since for lie in lies if lie.until is not None and lie.until >= now.since - LATELY_S
        ]
        enough_s = min(ENOUGH_S, 2.0 * max(lasted_s, default=0.0))
        if turn.now.at - now.since < enough_s:
            d = turn.decision
            for_s = turn.now.at - now.since
            return f"{d.current} -> {d.target}, {source} lies since {for_s:g} s, and did for {enough_s / 2:g} s"
    return None


@dataclass(frozen=True, slots=True)
class Lying:
    """Zeros of one source after work, since when, and until when: None where they last."""

    since: float
    until: float | None


def _lies(source: str, turn: Turn) -> Iterator[Lying]:
    """The source's lies after plenty of work, oldest first: those followed by like work within 5 minutes, and the one
    that lasts."""
    before: Mapping[str, float] = {}
    worked_at, since = -math.inf, math.inf
    for seen in (*turn.past, turn.now):
        told = _told(source, seen)
        if not told:
            continue
        if source in seen.lies and not any(told.values()):
            since = min(since, seen.at)
        elif any(told.values()):
            if since < math.inf and seen.at - since <= SOON_S and _alike(before, told):
                yield Lying(since, seen.at)
            before, worked_at, since = told, seen.at, math.inf
        else:
            before, since = {}, math.inf  # idle in truth
    if since - worked_at <= SOON_S and sum(before.values()) >= PLENTY:
        yield Lying(since, None)


def _told(source: str, seen: Seen) -> dict[str, float]:
    """What the source told, by signal."""
    readings = seen.tick.observation.readings.items()
    return {s: r.value for s, r in readings if source_of(s) == source and isinstance(r, Fresh)}


def _alike(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether both are plenty, and each part of one is within half of the other's: shares stay shares."""
    pairs = [(value, after.get(signal, 0.0)) for signal, value in before.items()]
    near = all(max(p) <= 1.5 * min(p) and (max(p) <= 1.0 or min(p) > 1.0) for p in pairs)
    return near and before.keys() == after.keys() and min(sum(before.values()), sum(after.values())) >= PLENTY
