"""The SLO correction: a slow integral controller from the share of late requests to a factor on the size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.recommend.predictive.late_share import LateShareControl

if TYPE_CHECKING:
    from collections.abc import Mapping

RATE: Final = 0.3
"""The correction moves by this much of its logarithm in a period in which lateness is off by e or more."""
DOUBT: Final = 2.0
"""Late requests up to this multiple of the share allowed are ignored: the margin (`slo_margin.py`) answers to the SLO
itself. Held to it, the correction made day-long traces 3 to 5 % more expensive (`cost_at_slo`)."""
LEAST, MOST = 1.0, 1.6
"""Its bounds. It never trims what the model asks for: a calm hour says nothing of the next outage. Beyond the upper one
the model of the engines is wrong, and buying is no remedy."""
MEMORY: Final = 3.0
"""Lateness is averaged over a period divided by this."""
CONTROL: Final = LateShareControl(aim=DOUBT, incident=10.0)


@dataclass(frozen=True, slots=True)
class SloCorrection:
    """A factor on the size (`correction`), and the share of users lately served late (`late_share`).

    An integral controller in the logarithm of lateness over `DOUBT` times what is allowed: it is there for a model of
    the engines that is wrong, not to steer to the last percent.
    """

    correction: float = 1.0
    late_share: float = -1.0

    def after(self, late_share: float | None, allowed_share: float, took_s: float, period_s: float) -> SloCorrection:
        """The state after a turn of `took_s` in which `late_share` were late; None where nobody can tell."""
        if late_share is None:
            return self
        lately, push = CONTROL.step(self.late_share, late_share, allowed_share, MEMORY * took_s / period_s)
        moved = self.correction * math.exp(RATE * push * took_s / period_s)
        return SloCorrection(max(LEAST, min(MOST, moved)), lately)

    def memory(self) -> dict[str, float]:
        return {"correction": self.correction, "late_share": self.late_share}

    @staticmethod
    def from_memory(memory: Mapping[str, float]) -> SloCorrection:
        return SloCorrection(memory.get("correction", 1.0), memory.get("late_share", -1.0))
