"""One random decision sequence, judged: what a seed comes to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tests.fuzz.sequences.draw import draw
from tests.fuzz.sequences.play import play
from tests.fuzz.sequences.shrink import shrunken
from tests.fuzz.sequences.text import tell
from tests.fuzz.workers import Verdict

CASE: Final = "tests.fuzz.sequences.case:sequence"


def sequence(seed: int) -> Verdict:
    """Draw and play the sequence of a seed."""
    played = play(draw(seed))
    counts = {"ticks": played.ticks, "grew": played.grew, "shrank": played.shrank}
    if played.broken is None:
        return Verdict(CASE, seed, counts=counts)
    return Verdict(CASE, seed, played.broken.law, str(played.broken), counts)


def story(seed: int, *, smaller: bool) -> Iterator[str]:
    """Yield the words of a seed's sequence; with `smaller`, of the smallest that breaks the same law."""
    drawn = draw(seed)
    played = play(drawn)
    if smaller and played.broken is not None:
        drawn, played = shrunken(drawn, played.broken.law)
        yield f"(made smaller: {len(drawn.moments)} ticks)"
    yield from tell(drawn, played)
