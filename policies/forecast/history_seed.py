"""A history of work in even steps that seeds a forecast, compact enough for the journal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.quantile_forecast import QuantileForecast

FLOAT16: Final[Any] = np.dtype("<f2")
"""16-bit floats have three digits and hold up to 65,504 replicas. 15 days at 5 min are 4,320 values, 9 kB."""


@dataclass(frozen=True, slots=True)
class HistorySeed:
    """Past work in replica equivalents, as one mean for each step.

    A step lasts `step_s` seconds. The first one starts at `start_s` (Unix seconds). `halves` are the means as 16-bit
    floats, NaN where unknown. The forecast uses these rounded values, so that a replay from the journal starts from the
    same ones.
    """

    start_s: float
    step_s: float
    halves: bytes

    def __post_init__(self) -> None:
        if len(self.halves) % FLOAT16.itemsize:
            raise ValueError(f"{len(self.halves)} bytes are not a whole number of steps of {FLOAT16.itemsize} bytes")

    @staticmethod
    def of(start_s: float, step_s: float, work: NDArray[np.float64]) -> HistorySeed:
        """Return the seed of these means. NaN, infinite, negative and too large means become gaps."""
        with np.errstate(over="ignore", invalid="ignore"):
            halves = np.where(work >= 0.0, work, np.nan).astype(FLOAT16)
        return HistorySeed(start_s, step_s, np.where(np.isfinite(halves), halves, np.nan).astype(FLOAT16).tobytes())

    @property
    def work(self) -> NDArray[np.float64]:
        work: NDArray[np.float64] = np.frombuffer(self.halves, FLOAT16).astype(np.float64)
        return work

    @property
    def at(self) -> NDArray[np.float64]:
        """The middle of every step, in seconds since the Unix epoch."""
        return self.start_s + self.step_s * (np.arange(len(self.halves) // FLOAT16.itemsize) + 0.5)

    @property
    def known_s(self) -> float:
        """Total time of the known steps. Seconds."""
        return float(np.count_nonzero(~np.isnan(self.work))) * self.step_s

    def apply(self, outlook: QuantileForecast) -> None:
        """Seed the seasons of a forecast.

        The selection and the residuals are learned from ticks only.
        """
        outlook.seed(self.at.tolist(), self.work.tolist(), learn_s=0.0)
