"""How many a pool had when it gave no more: afterwards a little more is asked for, and soon more if that comes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

FIRST: Final = 1
"""Replicas asked for beyond what a pool held when it refused; what comes doubles it."""
FORGET_S: Final = 900.0
"""How long it is remembered after it was last found true: as long as asks for all at once are likely to fail again."""


@dataclass(frozen=True, slots=True)
class CapacityCeiling:
    """`held` is what the pool had, ready or on its way, when it gave no more; None where that is not known.

    `more` is how many beyond it are worth asking for, `age_s` how long ago it was last found true.
    """

    held: int | None = None
    more: int = FIRST
    age_s: float = 0.0

    def hit(self, held: int) -> CapacityCeiling:
        """More than `held` was asked for and not given, or everything above it was taken."""
        return CapacityCeiling(held)

    def passed(self, ready: int) -> CapacityCeiling:
        """So many serve: if they are more than were known to be had, twice as many more may be.

        A pool that had none and has some is as good as never asked: most zones have all or nothing.
        """
        if self.held is None or ready <= self.held:
            return self
        return CapacityCeiling(ready, 2 * self.more) if self.held else CapacityCeiling()

    def faded(self, passed_s: float) -> CapacityCeiling:
        """After a time; what is too old is forgotten."""
        age_s = self.age_s + passed_s
        return CapacityCeiling() if age_s > FORGET_S else replace(self, age_s=age_s)

    @property
    def most(self) -> float:
        """The supply up to which it is worth asking; without limit where none is known."""
        return math.inf if self.held is None else self.held + self.more
