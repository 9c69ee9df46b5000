"""One random decision sequence and its verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.fuzz.sequences.draw import draw
from tests.fuzz.sequences.play import play
from tests.fuzz.sequences.shrink import shrink
from tests.fuzz.sequences.text import describe_story
from tests.fuzz.workers import Verdict

CASE: Final = "tests.fuzz.sequences.case:sequence"


def sequence(seed: int) -> Verdict:
    """Draw and play the sequence of a seed."""
    played = play(draw(seed))
    counts = {"ticks": played.ticks, "grew": played.grew, "shrank": played.shrank}
    if played.violation is None:
        return Verdict(CASE, seed, counts=counts)
    return Verdict(CASE, seed, played.violation.law, str(played.violation), counts)


def story(seed: int, *, smaller: bool) -> Iterator[str]:
    """Yield the description of a seed's sequence; with `smaller`, of the smallest that breaks the same law."""
    drawn = draw(seed)
    played = play(drawn)
    if smaller and played.violation is not None:
        drawn, played = shrink(drawn, played.violation.law)
        yield f"(made smaller: {len(drawn.ticks)} ticks)"
    yield from describe_story(drawn, played)
