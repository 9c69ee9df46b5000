"""The SLO correction: a slow integral controller.

It computes a factor on the size from the share of late requests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

STEP: Final = 0.3
"""The logarithm of the correction moves by this much per period and unit of push."""
IGNORED_RATIO: Final = 2.0
"""Late requests up to this multiple of the allowed share are ignored: the margin (`slo_margin.py`) controls the SLO
itself. With a ratio of 1 the correction made day-long traces 3 to 5 % more expensive (`cost_at_slo`)."""
MIN_CORRECTION, MAX_CORRECTION = 1.0, 1.6
"""Bounds of the correction. It never reduces the need of the model, since a calm hour does not predict the next one.
Beyond the upper bound the model of the engines is wrong, and more replicas do not help."""
AVERAGES_PER_PERIOD: Final = 3.0
"""The late share is averaged over a period divided by this: over 40 min of the default period of 2 h."""
INCIDENT_RATIO: Final = 10.0
"""A tick counts as at most this multiple of the allowed late share: one outage does not set the size for the day."""
MAX_PUSH: Final = 2.0
"""The correction rises at most this many times as fast as it falls: late requests cost more than idle replicas."""
MIN_SHARE: Final = 1e-6
"""Smallest late share whose logarithm is taken."""


@dataclass(frozen=True, slots=True)
class SloCorrection:
    """A factor on the size, and the average share of late requests.

    The factor is `correction`. The share is `late_share`, negative if unknown.

    An integral controller in the logarithm of the late share over `IGNORED_RATIO` times the allowed share. It corrects
    a wrong model of the engines and does not control the SLO to the last percent.

    Example: 1 % may be late and 5.4 % are, on average: a push of ln(5.4 / 2) = 1.0. A tick of 15 s in a period of 7,200
    s multiplies the correction by exp(0.3 * 1.0 * 15 / 7200) = 1.0006, two hours of such ticks by exp(0.3) = 1.35.
    """

    correction: float = 1.0
    late_share: float = -1.0

    def after(
        self, late_share: float | None, allowed_share: float, interval_s: float, period_s: float
    ) -> SloCorrection:
        """Return the state after a tick of `interval_s` with this late share; None if it is unknown."""
        if late_share is None:
            return self
        before = self.late_share if self.late_share >= 0 else allowed_share
        weight = min(1.0, AVERAGES_PER_PERIOD * interval_s / period_s)
        average = before + weight * (min(late_share, INCIDENT_RATIO * allowed_share) - before)
        push = math.log(max(average, MIN_SHARE) / (IGNORED_RATIO * allowed_share))
        push = max(-1.0, min(MAX_PUSH, push))
        correction = self.correction * math.exp(STEP * push * interval_s / period_s)
        return SloCorrection(max(MIN_CORRECTION, min(MAX_CORRECTION, correction)), average)

    def memory(self) -> dict[str, float]:
        return {"correction": self.correction, "late_share": self.late_share}

    @staticmethod
    def from_memory(memory: Mapping[str, float]) -> SloCorrection:
        return SloCorrection(memory.get("correction", 1.0), memory.get("late_share", -1.0))
