"""Random draws for worlds: one stream per purpose, so that a new draw in one place changes none in another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from simulators.world.rng import streams

T = TypeVar("T")
DIGITS = 4
"""Significant digits of every number drawn, so that a world's files are readable."""


class WorldRng:
    """The random draws of one purpose under one seed."""

    def __init__(self, seed: int, cause: str) -> None:
        self._rng = streams(seed)(f"swarm/{cause}")

    def happens(self, share: float) -> bool:
        """Return true with probability `share`."""
        return bool(self._rng.random() < share)

    def share(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number uniform from `low` to `high`."""
        return rounded(low + (high - low) * float(self._rng.random()))

    def scale(self, low: float, high: float) -> float:
        """Return a number uniform in its logarithm. Both bounds are above 0."""
        return rounded(math.exp(math.log(low) + math.log(high / low) * float(self._rng.random())))

    def integer(self, low: int, high: int) -> int:
        """Return a whole number, both bounds included."""
        return int(self._rng.integers(low, high + 1))

    def choice(self, items: Sequence[T]) -> T:
        """Return one of the items, all with the same probability."""
        return items[self.integer(0, len(items) - 1)]

    def subset(self, items: Sequence[T], maximum: int) -> list[T]:
        """Return one to `maximum` of the items, none twice, in their order."""
        count = self.integer(1, min(maximum, len(items)))
        return [items[i] for i in sorted(self._rng.permutation(len(items))[:count].tolist())]


def rounded(value: float) -> float:
    """Return the value with `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")
