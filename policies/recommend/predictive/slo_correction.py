"""The slow hand: how many users were really served late, and a correction that leads back to what is promised."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

RATE: Final = 0.3
"""The correction moves by this much of its logarithm in a period in which lateness is off by e or more."""
MORE: Final = 2.0
"""It rises so much faster than it falls: lateness is dearer than idleness."""
DOUBT: Final = 2.0
"""Lateness up to so many times what is allowed is let be: the margin (`margin.py`) answers to the promise itself.
Held to it, the hand made day-long traces 3 to 5 % dearer than the promise costs (`cost_at_slo`)."""
LEAST, MOST = 1.0, 1.6
"""Its bounds. It never trims what the model asks for: a calm hour says nothing of the next outage. Beyond the upper one
the model of the engines is wrong, and buying is no remedy."""
FLOOR: Final = 1e-6
INCIDENT: Final = 10.0
"""A turn counts at most as so many times the lateness allowed: an outage is not to be paid for all day."""
MEMORY: Final = 3.0
"""Lateness is averaged over a period divided by this."""


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
        before = self.late_share if self.late_share >= 0 else allowed_share
        counted = min(late_share, INCIDENT * allowed_share)
        lately = before + min(1.0, MEMORY * took_s / period_s) * (counted - before)
        push = max(-1.0, min(MORE, math.log(max(lately, FLOOR) / (DOUBT * allowed_share))))
        moved = self.correction * math.exp(RATE * push * took_s / period_s)
        return SloCorrection(max(LEAST, min(MOST, moved)), lately)

    def memory(self) -> dict[str, float]:
        return {"correction": self.correction, "late_share": self.late_share}

    @staticmethod
    def from_memory(memory: Mapping[str, float]) -> SloCorrection:
        return SloCorrection(memory.get("correction", 1.0), memory.get("late_share", -1.0))
