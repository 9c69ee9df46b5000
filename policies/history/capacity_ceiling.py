"""Ceiling of a pool's capacity: after a refusal, requests exceed it only step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

FIRST_MARGIN: Final = 1
"""Replicas requested beyond the ceiling after a refusal; each success doubles them."""
FORGET_S: Final = 900.0
"""A ceiling is forgotten this long after it was last confirmed: for that time requests beyond it are likely to fail
again."""


@dataclass(frozen=True, slots=True)
class CapacityCeiling:
    """A pool's ready and pending replicas when it granted no more (`held`), or None.

    `margin` is how many replicas beyond it may be requested, `age_s` the time since it was last confirmed.

    Example: the pool held 8 and refused more, so up to 9 are requested. When 9 serve, up to 11 are; when 11 serve, 15.
    """

    held: int | None = None
    margin: int = FIRST_MARGIN
    age_s: float = 0.0

    def hit(self, held: int) -> CapacityCeiling:
        """Return the ceiling after all beyond `held` was refused or interrupted."""
        return CapacityCeiling(held)

    def passed(self, ready: int) -> CapacityCeiling:
        """Return the ceiling while `ready` serve: above it, it rises and its margin doubles.

        A ceiling of zero is forgotten as soon as a replica serves: most zones have all or nothing.
        """
        if self.held is None or ready <= self.held:
            return self
        return CapacityCeiling(ready, 2 * self.margin) if self.held else CapacityCeiling()

    def aged(self, passed_s: float) -> CapacityCeiling:
        """Return the ceiling `passed_s` later; after `FORGET_S` it is forgotten."""
        if self.held is None:
            return self
        age_s = self.age_s + passed_s
        return CapacityCeiling() if age_s > FORGET_S else replace(self, age_s=age_s)

    @property
    def max_supply(self) -> float:
        """The supply up to which replicas are requested; infinite where no ceiling is known."""
        return math.inf if self.held is None else self.held + self.margin
