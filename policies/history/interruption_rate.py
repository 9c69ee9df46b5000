"""Interruption rate of a pool, by the age of its spell of capacity.

Capacity comes in spells. A spell begins when capacity returns, and ends with an interruption, so an interruption or a
refusal starts a new one. The rate in a spell is a Gamma prior, updated by the quiet hours: the posterior mean is
``NEW_EVENTS / (NEW_HOURS + hours)``, the Lomax law. A long spell lasts on. Example: 1.7 per hour at first, 0.63 after
1 hour and 0.15 after 6 hours. Recorded AWS spot capacity loses 1.3 per hour in the second quarter of an hour of a
spell, 0.5 in the second hour, and 0.05 after 8 hours. The number and length of earlier spells change that little.

A pool that was never refused or interrupted is in the middle of a spell of unknown age, so its prior is lower.
Replicas are lost in groups (a zone's capacity goes at once), so a tick with losses is one event, and its share is
learned too.
"""

from __future__ import annotations

import math
from typing import Final

EVENTS: Final = 0.5
HOURS: Final = 1.5
"""The prior's events and hours for a spell of unknown age: 0.33 per hour at first, and 0.14 after 2 hours.

Replicas that start at a random time with capacity are interrupted 0.24 (AWS1), 0.46 (AWS2) and 0.09 (GCP1) times per
hour at first, and 0.09, 0.07 and 0.05 times after 2 hours. Chosen on the whole SpotHedge traces, not on costs."""
NEW_EVENTS: Final = 1.0
NEW_HOURS: Final = 0.6
"""The same for a new spell. The maximum of the likelihood over all zones of AWS1, AWS2 and GCP1 is 0.98 and 0.63."""
HALF_LIFE_S: Final = 6 * 3600.0
"""After this time the share that an interruption takes, and its notice, count for half."""
UNHELD_HALF_LIFE_S: Final = 3600.0
"""While the pool holds nothing, the quiet hours and the last end of a spell count for half after this time. No tick
shows then whether another spell began."""
AT_RISK: Final = 2.0
"""Weight in replicas of the prior that an interruption takes all replicas of the pool."""
MAX_GAP_S: Final = 600.0
"""A longer gap between two ticks counts only for this long as quiet: no tick observed the pool."""


class InterruptionRate:
    """Interruptions of one pool.

    `_hours` are the quiet hours with replicas, and `_age_h` the age of a spell that began after an interruption or a
    refusal. `_new` is the probability that the spell is still that one. The other sums decay exponentially.
    """

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
        """Start a new spell: replicas were lost, or the pool is empty and none is granted."""
        self._hours, self._age_h, self._new = 0.0, 0.0, 1.0

    @property
    def per_hour(self) -> float:
        """Interruptions per hour while the pool holds replicas."""
        after_shortage = NEW_EVENTS / (NEW_HOURS + self._age_h)
        return self._new * after_shortage + (1.0 - self._new) * EVENTS / (HOURS + self._hours)

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
