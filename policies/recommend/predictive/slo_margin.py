"""The part of the forecast's margin that the SLO needs.

It is controlled by the share of late requests.

An SLO of 99 % allows one late request in a hundred. The newsvendor's quantile depends on the cost of late requests and
not on the SLO: on smooth traffic it keeps 99.9 % instead of 99 %. So a level between 1 and -1 follows the late share of
the last hours, by an integral controller on the error budget in the logarithm of the share. At level 1 the full
quantile of the forecast counts, at 0 the median. Below 0 replicas are filled beyond their limit by up to 10 %, which
makes few requests late while the load is mostly below its peak. The level falls slowly and rises twice as fast.

Example: the newsvendor's quantile is 0.95. At level 0.5, 0.5 + (0.95 - 0.5) * 0.5 = 0.725 counts. At level -0.5, the
median counts and replicas are filled by 5 % more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.recommend.predictive.late_share import LateShareControl

AVERAGE_S: Final = 14_400.0
"""The late share is averaged over this time: a calm between two jumps of the load does not count alone. Seconds."""
TARGET_RATIO: Final = 0.7
"""The controller aims at this share of the allowed late requests: at 0.7 % late for an SLO of 99 %."""
LEVEL_TIME_S: Final = 7200.0
"""The level moves by 1 in this time, at a push of 1 (a late share of e times the aim). Seconds."""
MAX_EXTRA_FILL: Final = 0.1
"""At level -1 replicas are filled by this much more. Share."""
CONTROL: Final = LateShareControl(aim=TARGET_RATIO, incident=30.0)


@dataclass(frozen=True, slots=True)
class SloMargin:
    """The level of the margin, and the average late share.

    The level is from 1 (all of the margin) to -1. The share is negative if unknown.
    """

    level: float = 1.0
    late_share: float = -1.0

    def after(self, late_share: float | None, allowed_share: float, interval_s: float) -> SloMargin:
        """Return the margin after a tick of `interval_s` with this late share.

        The share is None if it is unknown: the margin stays as it is.

        Example: a push of 1 moves the level by 15 / 7200 = 0.002 in a tick of 15 s.
        """
        if late_share is None:
            return self
        average, push = CONTROL.step(self.late_share, late_share, allowed_share, interval_s / AVERAGE_S)
        return SloMargin(max(-1.0, min(1.0, self.level + push * interval_s / LEVEL_TIME_S)), average)

    def quantile(self, full_quantile: float) -> float:
        """Return the quantile of the forecast to provide for.

        It is `full_quantile` at level 1, and the median from level 0 down.
        """
        return full_quantile if full_quantile <= 0.5 else 0.5 + (full_quantile - 0.5) * max(0.0, self.level)

    @property
    def fill_factor(self) -> float:
        """Factor on the load limit of a replica: 1.0 from level 0 up, 1.1 at level -1."""
        return 1.0 + MAX_EXTRA_FILL * max(0.0, -self.level)

    def memory(self) -> dict[str, float]:
        return {"margin": self.level, "margin.late_share": self.late_share}

    @staticmethod
    def from_memory(memory: Mapping[str, float]) -> SloMargin:
        return SloMargin(memory.get("margin", 1.0), memory.get("margin.late_share", -1.0))
