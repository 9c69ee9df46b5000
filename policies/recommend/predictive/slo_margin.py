"""How much of the forecast's margin is needed, by how much of what may be late really was.

A promise of 99 % allows one request in a hundred to be late. The newsvendor's quantile knows the price of lateness and
not the promise: on smooth traffic it keeps 99.9 % where 99 % was asked. So a level between 1 and -1 moves with what was
late in the last hours (an integral controller on the error budget, in the logarithm of the share): from the whole
quantile, to the median at 0, and below it to a little more than a replica may carry at any one moment, which ends only
few of them late while the load is mostly below its peak. What is late spends the budget of hours: the level
falls slowly and rises twice as fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.recommend.predictive.late_share import LateShareControl

BUDGET_S: Final = 14_400.0
"""Lateness is averaged over so long: calm between two jumps of the load is no licence."""
SPENT: Final = 0.7
"""Of what may be late, so much is aimed at."""
TURN_S: Final = 7200.0
"""The level moves by 1 in so long, where lateness is off by e."""
FULLER: Final = 0.1
"""At a level of -1 replicas are filled by so much more."""
CONTROL: Final = LateShareControl(aim=SPENT, incident=30.0)


@dataclass(frozen=True, slots=True)
class SloMargin:
    """`level` is 1 (the whole margin) to -1, `late_share` what was late in the last hours (negative: not known)."""

    level: float = 1.0
    late_share: float = -1.0

    def after(self, late_share: float | None, allowed_share: float, took_s: float) -> SloMargin:
        """The margin after a turn of `took_s` in which `late_share` were late; None where nobody can tell."""
        if late_share is None:
            return self
        lately, push = CONTROL.step(self.late_share, late_share, allowed_share, took_s / BUDGET_S)
        return SloMargin(max(-1.0, min(1.0, self.level + push * took_s / TURN_S)), lately)

    def quantile(self, whole: float) -> float:
        """The quantile to be ready for, of `whole` where all of the margin is needed."""
        return whole if whole <= 0.5 else 0.5 + (whole - 0.5) * max(0.0, self.level)

    @property
    def fill_factor(self) -> float:
        """By how much replicas may be filled beyond what they carry."""
        return 1.0 + FULLER * max(0.0, -self.level)

    def memory(self) -> dict[str, float]:
        return {"margin": self.level, "margin.late_share": self.late_share}

    @staticmethod
    def from_memory(memory: Mapping[str, float]) -> SloMargin:
        return SloMargin(memory.get("margin", 1.0), memory.get("margin.late_share", -1.0))
