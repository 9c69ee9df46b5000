"""Interruption rate of a pool: learned online, with forgetting, in groups, and with notice.

A Gamma prior on interruptions per hour, updated by the interruptions in the hours in which the pool held replicas: the
posterior mean is ``(EVENTS + interruptions) / (HOURS + hours)``. Example without forgetting: 0.5 per hour at first, and
``0.5 / (1 + 4) = 0.1`` after 4 quiet hours. So within one quiet run it falls as 1 / (HOURS + t), the Lomax law: what
has lasted, lasts, as recorded spot capacity does (SkyPilot's traces: up-times with means 3 to 10 times their medians).
Replicas are lost in groups (a zone's capacity goes at once), so a tick with losses is one event, and its share is
learned too.
"""

from __future__ import annotations

import math
from typing import Final

EVENTS: Final = 0.5
HOURS: Final = 1.5
NEW_EVENTS: Final = 1.0
NEW_HOURS: Final = 0.6
HALF_LIFE_S: Final = 6 * 3600.0
UNHELD_HALF_LIFE_S: Final = 3600.0
AT_RISK: Final = 2.0
"""Weight in replicas of the prior that an interruption takes all replicas of the pool."""
MAX_GAP_S: Final = 600.0
"""A longer gap between two ticks counts only for this long as quiet: no tick observed the pool."""


class InterruptionRate:
    """Interruptions of one pool, as exponentially decayed sums."""

    def __init__(self) -> None:
        self._events = 0.0
        self._hours = 0.0
        self._new = 0.0
        self._age_h = 0.0
        self._lost = 0.0
        self._at_risk = 0.0
        self._noticed_s = 0.0

    def note(self, passed_s: float, replicas: int, lost: int, notice_s: float) -> None:
        """Record the time since the last tick, the replicas, those lost since, and their notice."""
        weight = 0.5 ** (passed_s / HALF_LIFE_S)
        self._events *= weight
        self._lost *= weight
        self._at_risk *= weight
        self._noticed_s *= weight
        self._age_h += min(passed_s, MAX_GAP_S) / 3600.0
        if replicas:
            self._hours += min(passed_s, MAX_GAP_S) / 3600.0
        else:
            unheld = 0.5 ** (passed_s / UNHELD_HALF_LIFE_S)
            self._hours *= unheld
            self._new *= unheld
        if lost:
            self._events += 1.0
            self._lost += lost
            self._at_risk += max(replicas, lost)
            self._noticed_s += notice_s
            self.renew()

    def renew(self) -> None:
        """Start a new spell of capacity: replicas were lost, or arrived after a shortage."""
        self._hours, self._age_h, self._new = 0.0, 0.0, 1.0

    @property
    def per_hour(self) -> float:
        """Interruptions per hour while the pool holds replicas."""
        return self._new * NEW_EVENTS / (NEW_HOURS + self._age_h) + (1.0 - self._new) * EVENTS / (HOURS + self._hours)

    @property
    def share(self) -> float:
        """Share of the pool that an interruption takes: 1 at first, 3/6 after 1 of 4 was lost."""
        return (AT_RISK + self._lost) / (AT_RISK + self._at_risk)

    def notice_s(self, configured_s: float = 0.0) -> float:
        """Return the mean of the observed notices, of one without notice, and of the configured one.

        `configured_s` is the notice that the cloud documents, 0 where it documents none. Example: 120 s count as 60 s
        until an interruption is observed. In full they would place a whole workload in one zone, by a margin that the
        first interruption without notice disproves.
        """
        return (configured_s + self._noticed_s) / ((2.0 if configured_s else 1.0) + self._events)

    def probability(self, within_s: float) -> float:
        """Return the probability of an interruption: 0.08 within 600 s at 0.5 per hour."""
        return -math.expm1(-self.per_hour * within_s / 3600.0)
