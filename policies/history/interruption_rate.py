"""How soon a pool's replicas will be taken: a rate of losses learnt online, forgetting, in groups, with notice.

A Gamma prior on the rate of losses per hour, updated by losses seen in the hours in which the pool held replicas: the
posterior mean is ``(A + losses) / (B + hours)``. Within one quiet run it falls as 1 / (B + t), the Lomax law: what has
lasted, lasts, as recorded spot capacity does (SkyPilot's traces: up-times with means 3 to 10 times their medians).
Losses come in groups (a zone's capacity goes at once), so a turn with losses is one event and its share is learnt too.
"""

from __future__ import annotations

import math
from typing import Final

EVENTS: Final = 0.5
HOURS: Final = 1.0
"""The prior's weight and time: 0.5 a pool-hour at first, as in the middle of 9 zones of AWS V100 spot (0.1 to 1.4).
Weak on purpose: AWS's own yearly figures are three orders of magnitude lower, and a few quiet hours say which it is."""
HALF_LIFE_S: Final = 6 * 3600.0
"""After which a loss or a quiet hour counts for half: markets change within the day."""
UNHELD_HALF_LIFE_S: Final = 3600.0
"""The same while a pool held to be worse than the prior holds nothing: nobody sees then that it has become quiet, and
what is never tried again would be held to its worst hours for days. What was quiet stays trusted."""
AT_RISK: Final = 2.0
"""Weight of the prior belief that a loss takes all that the pool holds, in replicas."""
MAX_GAP_S: Final = 600.0
"""A longer gap between two turns proves no quiet: nobody looked."""


class InterruptionRate:
    """One pool's losses, as exponentially forgotten sums."""

    def __init__(self) -> None:
        self._events = 0.0
        self._hours = 0.0
        self._lost = 0.0
        self._at_risk = 0.0
        self._noticed_s = 0.0

    def note(self, passed_s: float, held: int, lost: int, notice_s: float) -> None:
        """Record the seconds since the tick before, the replicas held, those lost, and the notice they had."""
        unseen = not held and self.per_hour > EVENTS / HOURS
        kept = 0.5 ** (passed_s / (UNHELD_HALF_LIFE_S if unseen else HALF_LIFE_S))
        self._events *= kept
        self._hours *= kept
        self._lost *= kept
        self._at_risk *= kept
        self._noticed_s *= kept
        if held:
            self._hours += min(passed_s, MAX_GAP_S) / 3600.0
        if lost:
            self._events += 1.0
            self._lost += lost
            self._at_risk += max(held, lost)
            self._noticed_s += notice_s

    @property
    def per_hour(self) -> float:
        """Losses an hour while the pool holds any."""
        return (EVENTS + self._events) / (HOURS + self._hours)

    @property
    def share(self) -> float:
        """The share of the pool that a loss takes."""
        return (AT_RISK + self._lost) / (AT_RISK + self._at_risk)

    def notice_s(self, told_s: float = 0.0) -> float:
        """How long ahead a loss is announced: the mean of those seen, of one unannounced, and of one as `told_s`.

        `told_s` is what the cloud says that it gives, 0 where it says nothing. To believe it alone would leave a whole
        fleet in one zone by a margin that the first loss without a word takes away.
        """
        return (told_s + self._noticed_s) / ((2.0 if told_s else 1.0) + self._events)

    def probability(self, within_s: float) -> float:
        """Return the probability of a loss within a time."""
        return -math.expm1(-self.per_hour * within_s / 3600.0)
