"""What a pool would not give: remembered, so that the next rung is tried at once and the dead one only now and then.

A capacity error and a quota error are both waited out. A usage quota heals too: another workload shrinks, a person or
the cloud raises the limit. It heals more slowly than capacity comes back, so its waits are longer.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Final

FIRST_S: Final = 180.0
"""The first wait after a refusal: karpenter keeps an unavailable offering out for 3 minutes."""
LONGEST_S: Final = 1800.0
"""The longest: with every refusal the wait doubles up to this, for capacity comes back in hours as often as minutes."""
QUOTA_FIRST_S: Final = 300.0
"""The first wait after a quota error: usage of other workloads changes within minutes, a limit seldom does."""
QUOTA_LONGEST_S: Final = 3600.0
"""The longest wait after a quota error: a limit that was raised is used within an hour without anybody's help."""
JITTER: Final = 0.2
"""A wait after a quota error is shorter by up to this share, so that workloads under one quota retry apart."""
QUOTA_SHORTEST_S: Final = (1.0 - JITTER) * QUOTA_FIRST_S
"""The shortest time between a quota error and the next request to that pool."""
HALF_LIFE_S: Final = 6 * 3600.0
"""After which a grant or a refusal counts for half."""
GRANTS: Final = 2.0
REFUSALS: Final = 1.0
"""What is believed of a market before the first ask: two in three are granted (9 zones of AWS V100 spot: 0.64 of the
time available)."""


@dataclass(frozen=True, slots=True)
class CapacityBackoff:
    """One pool's refusals and grants. `until` is when it is worth asking again, `wait_s` how long that last was.

    `quota` is the specification under which a quota error came, empty for a capacity error: another specification ends
    the wait at once. `last` is when the last quota error came. `grants` and `refusals` are forgotten exponentially.
    """

    since: float = 0.0
    until: float = float("-inf")
    wait_s: float = 0.0
    reason: str = ""
    quota: str = ""
    last: float = float("-inf")
    grants: float = 0.0
    refusals: float = 0.0

    def refused(self, at: float, reason: str) -> CapacityBackoff:
        """Asked for and not given: a capacity error. While an earlier refusal is remembered, this is the same one."""
        if at < self.until:
            return self
        again = self.wait_s > 0 and not self.quota and at <= self.until + self.wait_s
        wait_s = min(LONGEST_S, 2 * self.wait_s) if again else FIRST_S
        since = self.since if again else at
        return CapacityBackoff(since, at + wait_s, wait_s, reason, grants=self.grants, refusals=self.refusals + 1)

    def over_quota(self, at: float, reason: str, spec: str, pool: str) -> CapacityBackoff:
        """Return a quota error. The wait doubles from 5 min to 1 h and is jittered by the `pool` and the time."""
        if self.quota and at < self.until:
            return replace(self, last=at, until=max(self.until, at + QUOTA_SHORTEST_S))
        again = bool(self.quota) and at <= self.until + QUOTA_LONGEST_S
        wait_s = min(QUOTA_LONGEST_S, 2 * self.wait_s) if again else QUOTA_FIRST_S
        until = at + wait_s * (1.0 - JITTER * zlib.crc32(f"{pool} {at}".encode()) / 2**32)
        since = self.since if again else at
        return CapacityBackoff(since, until, wait_s, reason, spec, at, self.grants, self.refusals)

    def granted(self, replicas: int, at: float) -> CapacityBackoff:
        """Replicas came: whatever was remembered is over, but for a quota error, whose wait runs on.

        A pool at its quota gets what it requested before the error, or a substitute for one that it lost.
        """
        known = self if self.quota and at < self.until else CapacityBackoff(refusals=self.refusals)
        return replace(known, grants=self.grants + replicas)

    def lifted(self) -> CapacityBackoff:
        """Return the wait after a quota error ended, because the specification or the limit changed."""
        return CapacityBackoff(grants=self.grants, refusals=self.refusals)

    def faded(self, passed_s: float) -> CapacityBackoff:
        """After a time, what was seen counts for less."""
        kept = 0.5 ** (passed_s / HALF_LIFE_S)
        return replace(self, grants=self.grants * kept, refusals=self.refusals * kept)

    def shifted(self, step_s: float) -> CapacityBackoff:
        return replace(self, since=self.since + step_s, until=self.until + step_s, last=self.last + step_s)

    def lasts(self, now: float) -> bool:
        """Return whether there is no use in asking now."""
        return now < self.until

    def fresh_quota(self, now: float) -> bool:
        """Whether a quota error came so lately that the pool is not even asked where no other pool gives more."""
        return bool(self.quota) and now < self.last + QUOTA_SHORTEST_S

    def belief(self, grants: float = GRANTS, refusals: float = REFUSALS) -> float:
        """Return the probability that an ask is granted, where so many were believed before any was seen."""
        return (grants + self.grants) / (grants + refusals + self.grants + self.refusals)
