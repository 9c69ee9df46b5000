"""Random draws by seed and purpose: a new draw for one purpose changes none for another."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Rng(random.Random):
    """The stream of one purpose under one seed, the same on every machine."""

    def __init__(self, seed: int, purpose: str) -> None:
        super().__init__(f"{seed}/{purpose}")

    def happens(self, share: float) -> bool:
        """Return true with probability `share`."""
        return self.random() < share

    def scale(self, low: float, high: float) -> float:
        """Return a number uniform in its logarithm, to 4 digits. Both bounds are above 0."""
        return float(f"{math.exp(self.uniform(math.log(low), math.log(high))):.4g}")

    def share(self, low: float = 0.0, high: float = 1.0) -> float:
        """Return a number uniform between the bounds, to 4 digits."""
        return float(f"{self.uniform(low, high):.4g}")

    def subset(self, items: Sequence[T], maximum: int) -> list[T]:
        """Return one to `maximum` of the items, none twice, in their order."""
        count = self.randint(1, min(maximum, len(items)))
        return [items[i] for i in sorted(self.sample(range(len(items)), count))]
