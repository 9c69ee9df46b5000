"""Backoff of a pool after a capacity or quota error; other pools are tried at once.

A quota error heals too: another workload shrinks, or a person or the cloud raises the limit. That takes longer than
capacity does to come back, so its waits are longer.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

FIRST_S: Final = 180.0
"""The first wait after a capacity error: Karpenter keeps an unavailable offering out for 3 minutes."""
LONGEST_S: Final = 1800.0
"""The longest wait. Each further refusal doubles the wait: 180, 360, 720, 1440, 1800 s. Capacity comes back within
hours as often as within minutes."""
QUOTA_FIRST_S: Final = 300.0
"""The first wait after a quota error: usage of other workloads changes within minutes, a limit seldom does."""
QUOTA_LONGEST_S: Final = 3600.0
"""The longest wait after a quota error: a raised limit is used within an hour without an operator."""
JITTER: Final = 0.2
"""A wait after a quota error is shorter by up to this share, so that workloads under one quota retry at different
times."""
QUOTA_SHORTEST_S: Final = (1.0 - JITTER) * QUOTA_FIRST_S
"""The shortest time between a quota error and the next request to that pool: 240 s."""
HALF_LIFE_S: Final = 6 * 3600.0
"""After this time a grant or a refusal counts for half."""
GRANTS: Final = 2.0
REFUSALS: Final = 1.0
"""The prior of a market before the first request: two in three are granted (9 zones of AWS V100 spot: 0.64 of the time
available)."""


@dataclass(frozen=True, slots=True)
class CapacityBackoff:
    """Refusals and grants of one pool.

    A shortage lasts from `since`; the next request is due at `until`, after `wait_s`. `quota_spec` is the fingerprint
    of the specification under which a quota error came, and empty for a capacity error: another specification ends the
    wait at once. `quota_error_at` is the time of the last quota error. `grants` and `refusals` decay exponentially.
    """

    since: float = 0.0
    until: float = float("-inf")
    wait_s: float = 0.0
    reason: str = ""
    quota_spec: str = ""
    quota_error_at: float = float("-inf")
    grants: float = 0.0
    refusals: float = 0.0

    def refused(self, at: float, reason: str) -> CapacityBackoff:
        """Return the backoff after a capacity error; one before `until` is the same refusal."""
        if at < self.until:
            return self
        again = self.wait_s > 0 and not self.quota_spec and at <= self.until + self.wait_s
        wait_s = min(LONGEST_S, 2 * self.wait_s) if again else FIRST_S
        since = self.since if again else at
        return CapacityBackoff(since, at + wait_s, wait_s, reason, grants=self.grants, refusals=self.refusals + 1)

    def over_quota(self, at: float, reason: str, spec: str, pool: str) -> CapacityBackoff:
        """Return the backoff after a quota error at `at`.

        The wait doubles from 5 min to 1 h (300, 600, 1200, 2400, 3600 s), less a jitter by the `pool` and the time.
        """
        if self.quota_spec and at < self.until:
            return replace(self, quota_error_at=at, until=max(self.until, at + QUOTA_SHORTEST_S))
        again = bool(self.quota_spec) and at <= self.until + QUOTA_LONGEST_S
        wait_s = min(QUOTA_LONGEST_S, 2 * self.wait_s) if again else QUOTA_FIRST_S
        until = at + wait_s * (1.0 - JITTER * zlib.crc32(f"{pool} {at}".encode()) / 2**32)
        since = self.since if again else at
        return CapacityBackoff(since, until, wait_s, reason, spec, at, self.grants, self.refusals)

    def granted(self, replicas: int, at: float) -> CapacityBackoff:
        """Return the backoff after replicas arrived: only the wait after a quota error continues.

        A pool at its quota still gets what it requested before the error, or a substitute for one that it lost.
        """
        retained = self if self.quota_spec and at < self.until else CapacityBackoff(refusals=self.refusals)
        return replace(retained, grants=self.grants + replicas)

    def without_wait(self) -> CapacityBackoff:
        """Return the backoff without the wait, because the specification or the limit changed."""
        return CapacityBackoff(grants=self.grants, refusals=self.refusals)

    def decayed(self, passed_s: float) -> CapacityBackoff:
        """Return the backoff with grants and refusals decayed over `passed_s`."""
        if not (self.grants or self.refusals):
            return self
        weight = 0.5 ** (passed_s / HALF_LIFE_S)
        return CapacityBackoff(
            self.since,
            self.until,
            self.wait_s,
            self.reason,
            self.quota_spec,
            self.quota_error_at,
            self.grants * weight,
            self.refusals * weight,
        )

    def shifted(self, step_s: float) -> CapacityBackoff:
        return replace(
            self,
            since=self.since + step_s,
            until=self.until + step_s,
            quota_error_at=self.quota_error_at + step_s,
        )

    def is_active(self, now: float) -> bool:
        """Return whether the wait lasts."""
        return now < self.until

    def is_recent_quota_error(self, now: float) -> bool:
        """Return whether a recent quota error forbids requests even if no other pool grants more."""
        return bool(self.quota_spec) and now < self.quota_error_at + QUOTA_SHORTEST_S

    def grant_probability(self, prior_grants: float = GRANTS, prior_refusals: float = REFUSALS) -> float:
        """Return the probability of a grant: 2 of 3 at first, 2 of 6 after three refusals."""
        grants = prior_grants + self.grants
        return grants / (prior_grants + prior_refusals + self.grants + self.refusals)
