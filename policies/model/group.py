"""The state of a workload that the other members of its group see."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.model.names import WorkloadName

SETTLE_S: Final = 75.0
"""Time after which a need shows a change of the requests: a window of 60 s and a tick of 15 s. Seconds."""


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member of a group at its last tick. Capacities are in its own replica equivalents.

    - `ready`: the ready capacity. `need`: the capacity that the requests to its engines need now; None while a part of
      its evidence is missing. `max_supply`: the capacity that its bounds and its platforms allow now; None where a
      pool's size is unknown.
    - `requests_per_replica_per_s`: the requests that a replica carries within the SLO; None while it is not learned.
    - `usd_per_hour`: the price of the next replica equivalent; None where it is unknown.
    - `region`: the region of all its serving pools; None where they differ or it is unknown.
    - `sent`: the requests per second that its route sends to each member that it names; None where they are not
      measured. `handed`: those that each is to carry until further notice, and so to have replicas for.
    - `settle_s`: the time after which `need` shows a change of the requests to its engines.
    """

    ready: float
    need: float | None
    max_supply: float | None
    requests_per_replica_per_s: float | None
    usd_per_hour: float | None = None
    region: str | None = None
    sent: Mapping[WorkloadName, float | None] = field(default_factory=dict)
    handed: Mapping[WorkloadName, float] = field(default_factory=dict)
    settle_s: float = SETTLE_S

    @property
    def usd_per_request(self) -> float | None:
        """The price of a request on the next replica; None where it is unknown."""
        if self.usd_per_hour is None or self.requests_per_replica_per_s is None:
            return None
        return self.usd_per_hour / (3600.0 * self.requests_per_replica_per_s)
