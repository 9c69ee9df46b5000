"""A past that an outlook is sown with at its start: work in even steps, compact enough to be written down whole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.quantile_forecast import QuantileForecast

HALF: Final[Any] = np.dtype("<f2")
"""Three digits, up to 65,504: what is beyond that is nobody's work. Two weeks of it are 9 kB."""


@dataclass(frozen=True, slots=True)
class HistorySeed:
    """Replicas' worth of work, a mean for every step of `step_s` seconds from `start_s` (Unix epoch) on.

    `halves` are the means in two bytes each, NaN where nothing is known. What is used is what is kept here, so that
    whoever reads it again starts from the same.
    """

    start_s: float
    step_s: float
    halves: bytes

    def __post_init__(self) -> None:
        if len(self.halves) % HALF.itemsize:
            raise ValueError(f"{len(self.halves)} bytes are no whole number of steps")

    @staticmethod
    def of(start_s: float, step_s: float, work: NDArray[np.float64]) -> HistorySeed:
        """From means; those that are no work (NaN, infinite, negative, beyond any size) are gaps."""
        with np.errstate(over="ignore", invalid="ignore"):
            halves = np.where(work >= 0.0, work, np.nan).astype(HALF)
        return HistorySeed(start_s, step_s, np.where(np.isfinite(halves), halves, np.nan).astype(HALF).tobytes())

    @property
    def work(self) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.frombuffer(self.halves, HALF).astype(np.float64)
        return found

    @property
    def at(self) -> NDArray[np.float64]:
        """The middle of every step, in seconds since the Unix epoch."""
        return self.start_s + self.step_s * (np.arange(len(self.halves) // HALF.itemsize) + 0.5)

    @property
    def known_s(self) -> float:
        """How much of it is known. Seconds."""
        return float(np.count_nonzero(~np.isnan(self.work))) * self.step_s

    def apply(self, outlook: QuantileForecast) -> None:
        """Give the outlook its seasons. Who forecasts best, and how far off, is learnt from turns alone."""
        outlook.seed(self.at.tolist(), self.work.tolist(), learn_s=0.0)
