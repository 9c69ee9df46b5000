"""Chance for making worlds up: one stream a cause, so that a new draw in one place moves none in another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

from simulators.world.rng import streams

T = TypeVar("T")
DIGITS = 4
"""Kept of every number drawn, so that a world's files can be read."""


class Chance:
    """The draws of one cause under one seed."""

    def __init__(self, seed: int, cause: str) -> None:
        self._rng = streams(seed)(f"swarm/{cause}")

    def happens(self, share: float) -> bool:
        """True in a share of cases."""
        return bool(self._rng.random() < share)

    def share(self, low: float = 0.0, high: float = 1.0) -> float:
        """Uniform from `low` to `high`."""
        return rounded(low + (high - low) * float(self._rng.random()))

    def scale(self, low: float, high: float) -> float:
        """Uniform in the logarithm, for what may be small or large. Both bounds above 0."""
        return rounded(math.exp(math.log(low) + math.log(high / low) * float(self._rng.random())))

    def whole(self, low: int, high: int) -> int:
        """A whole number, both bounds included."""
        return int(self._rng.integers(low, high + 1))

    def one(self, among: Sequence[T]) -> T:
        """One of them, all as likely."""
        return among[self.whole(0, len(among) - 1)]

    def some(self, among: Sequence[T], most: int) -> list[T]:
        """One to `most` of them, none twice, in their order."""
        count = self.whole(1, min(most, len(among)))
        return [among[i] for i in sorted(self._rng.permutation(len(among))[:count].tolist())]


def rounded(value: float) -> float:
    """The value to `DIGITS` digits."""
    return float(f"{value:.{DIGITS}g}")
