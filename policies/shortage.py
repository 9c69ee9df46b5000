"""What a pool would not give: remembered, so that the next rung is tried at once and the dead one only now and then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

FIRST_S: Final = 180.0
"""The first wait after a refusal: karpenter keeps an unavailable offering out for 3 minutes."""
LONGEST_S: Final = 1800.0
"""The longest: with every refusal the wait doubles up to this, for capacity comes back in hours as often as minutes."""
HALF_LIFE_S: Final = 6 * 3600.0
"""After which a grant or a refusal counts for half."""
GRANTS: Final = 2.0
REFUSALS: Final = 1.0
"""What is believed of a market before the first ask: two in three are granted (9 zones of AWS V100 spot: 0.64 of the
time available)."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """One pool's refusals and grants. `until` is when it is worth asking again, `wait_s` how long that last was.

    `barred` is the specification under which the platform refused for good (a quota), empty otherwise;
    only another specification lifts it. `grants` and `refusals` are forgotten exponentially.
    """

    since: float = 0.0
    until: float = float("-inf")
    wait_s: float = 0.0
    reason: str = ""
    barred: str = ""
    grants: float = 0.0
    refusals: float = 0.0

    def refused(self, at: float, reason: str) -> Shortage:
        """Asked for and not given. While an earlier refusal is remembered, this is the same one."""
        if at < self.until:
            return self
        again = self.wait_s > 0 and at <= self.until + self.wait_s
        wait_s = min(LONGEST_S, 2 * self.wait_s) if again else FIRST_S
        since = self.since if again else at
        return replace(self, since=since, until=at + wait_s, wait_s=wait_s, reason=reason, refusals=self.refusals + 1)

    def granted(self, replicas: int) -> Shortage:
        """Replicas came: whatever was remembered is over."""
        return Shortage(barred=self.barred, grants=self.grants + replicas, refusals=self.refusals)

    def faded(self, passed_s: float) -> Shortage:
        """After a time, what was seen counts for less."""
        kept = 0.5 ** (passed_s / HALF_LIFE_S)
        return replace(self, grants=self.grants * kept, refusals=self.refusals * kept)

    def shifted(self, step_s: float) -> Shortage:
        return replace(self, since=self.since + step_s, until=self.until + step_s)

    def lasts(self, now: float) -> bool:
        """Whether there is no use in asking now."""
        return bool(self.barred) or now < self.until

    def belief(self, grants: float = GRANTS, refusals: float = REFUSALS) -> float:
        """The probability that an ask is granted, where so many were believed before any was seen."""
        return (grants + self.grants) / (grants + refusals + self.grants + self.refusals)
