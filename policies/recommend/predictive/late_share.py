"""The step of the integral controllers that answer to late requests: average the share that is late, and push."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

RISE: Final = 2.0
"""A controller rises at most this many times as fast as it falls: late requests cost more than idle replicas."""
FLOOR: Final = 1e-6


class LateShareStep(NamedTuple):
    """The average share of late requests after a tick, and how hard to push: -1 (all on time) to `RISE`."""

    average: float
    push: float


class LateShareControl(NamedTuple):
    """What a controller aims at: `aim` times the share that may be late. A tick counts as `incident` times it at most.

    So an outage is not paid for all day.
    """

    aim: float
    incident: float

    def step(self, average: float, late_share: float, allowed_share: float, weight: float) -> LateShareStep:
        """Return the step after a tick in which `late_share` were late, with the tick's `weight` in the average.

        `average` is the share so far; where it is not known (negative), the share allowed is taken.

        Example: 1 % may be late and is aimed at, 2 % were on average, 12 % are now, with a weight of 0.1: the average
        is ``0.02 + 0.1 * (0.12 - 0.02) = 0.03`` and the push ``ln(0.03 / 0.01) = 1.1``.
        """
        before = average if average >= 0 else allowed_share
        after = before + min(1.0, weight) * (min(late_share, self.incident * allowed_share) - before)
        return LateShareStep(after, max(-1.0, min(RISE, math.log(max(after, FLOOR) / (self.aim * allowed_share)))))
