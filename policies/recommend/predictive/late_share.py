"""The step of the integral controllers that react to late requests.

A step averages the late share and computes a push.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

MAX_PUSH: Final = 2.0
"""A controller rises at most this many times as fast as it falls: late requests cost more than idle replicas."""
MIN_SHARE: Final = 1e-6
"""Smallest late share whose logarithm is taken."""


class LateShareStep(NamedTuple):
    """The average late share after a tick, and the push of the controller.

    The push is from -1 (all on time) to `MAX_PUSH`.
    """

    average: float
    push: float


class LateShareControl(NamedTuple):
    """The setpoint of a controller: `aim` times the allowed late share.

    A tick counts as at most `incident` times the allowed share, so that one outage does not move the size all day.
    """

    aim: float
    incident: float

    def step(self, average: float, late_share: float, allowed_share: float, weight: float) -> LateShareStep:
        """Return the step after a tick with `late_share`, which has this `weight` in the average.

        `average` is the average late share so far; a negative one is unknown and counts as the allowed share.

        Example: 1 % may be late and is aimed at, the average is 2 %, this tick has 12 %, and its weight is 0.1. The new
        average is ``0.02 + 0.1 * (0.12 - 0.02) = 0.03`` and the push ``ln(0.03 / 0.01) = 1.1``.
        """
        before = average if average >= 0 else allowed_share
        after = before + min(1.0, weight) * (min(late_share, self.incident * allowed_share) - before)
        push = math.log(max(after, MIN_SHARE) / (self.aim * allowed_share))
        return LateShareStep(after, max(-1.0, min(MAX_PUSH, push)))
