"""Late requests of a period, and whether its SLO was met."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.model.spec import Slo

DIGITS: Final = 2
"""Significant digits of a share below 0.1 %: 122 of 1,904,332 requests are 0.0064 %, not 0.01 % or 0.00 %."""
FEWEST_DECIMALS: Final = 2
FEW: Final = 10.0
"""Below this number a mean of late requests is shown with a fraction: a third of a request is not 0."""


class SloStatus(StrEnum):
    """Whether a period met its SLO; unknown without an SLO or a count of late requests."""

    MET = "met"
    MISSED = "missed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class LateRequests:
    """The late requests of a period, and the requests among which they were counted."""

    late: float
    requests: float

    @property
    def share(self) -> float:
        """The late share; NaN without requests."""
        return self.late / self.requests if self.requests else math.nan

    def status(self, slo: Slo | None) -> SloStatus:
        """Return whether the late share is within the SLO."""
        if slo is None or math.isnan(self.share):
            return SloStatus.UNKNOWN
        return SloStatus.MET if 1.0 - self.share >= slo.share else SloStatus.MISSED

    def __str__(self) -> str:
        few = self.late < FEW and self.late != round(self.late)
        late = f"{self.late:.2g}" if few else f"{self.late:,.0f}"
        return f"{late} late of {self.requests:,.0f} ({fine_percent(self.share)})"


def fine_percent(share: float) -> str:
    """Return a share in percent that is never rounded to zero.

    NaN is ``unknown``, 0.031 is ``3.10%``, 0.000064 is ``0.0064%``, and 0 is ``0%``.
    """
    if math.isnan(share):
        return "unknown"
    if not share:
        return "0%"
    return f"{share:.{percent_decimals(share)}%}"


def percent_decimals(share: float) -> int:
    """Return the decimals that show a share other than 0 in percent.

    2 for 0.031, and 4 for 0.000064.
    """
    first = -math.floor(math.log10(100.0 * abs(share)))
    return max(FEWEST_DECIMALS, first + DIGITS - 1)
