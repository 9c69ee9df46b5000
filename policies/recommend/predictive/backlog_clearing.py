"""The replicas to add for clearing requests that wait in the engines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

MIN_CLEAR_S: Final = 15.0
"""A backlog need not be cleared faster than within one tick, the default interval. Seconds."""


@dataclass(frozen=True, slots=True)
class BacklogSupply:
    """When more replicas serve, for how long, and what waiting costs.

    Replicas requested now serve after `lead_s`, the next pending replica after `next_s`. Each stays for at least
    `min_lifetime_s`. A second of late requests costs `violation_cost_ratio` times a second of an idle replica.
    """

    lead_s: float
    next_s: float
    min_lifetime_s: float
    violation_cost_ratio: float


@dataclass(frozen=True, slots=True)
class WaitingWork:
    """The requests that wait in the engines, and the replica-seconds of each."""

    requests: float
    service_time_s: float


@dataclass(frozen=True, slots=True)
class BacklogNeed:
    """The replicas that clear the backlog, in addition to those that the request rate needs.

    A backlog is an amount, not a rate. An autoscaler runs away if it multiplies the backlog by the current replicas, or
    adds replicas for work that will be done before they serve.
    """

    extra_replicas: float
    reason: str = ""


def backlog_need(waiting: WaitingWork, rate: float, ready: float, size: float, supply: BacklogSupply) -> BacklogNeed:
    """Return the replicas that clear the backlog.

    `rate` is the arriving work in replicas; `ready` and `size` are the replicas that serve and that are requested.

    While requests wait in the engines, every arriving request is late. E extra replicas clear B replica-seconds in B /
    E seconds. That costs ``ratio * rate * B / E`` for late requests and ``E * (lead + lifetime)`` for the replicas; the
    sum is smallest at ``E = sqrt(ratio * rate * B / (lead + lifetime))``. B is the backlog when the next replicas
    serve. If the requested size clears it before others could serve, no more is added, and nothing is removed before it
    is cleared.

    Example: 1,000 requests of 0.1 replica-seconds wait, so B = 100. The rate is 4 and 4 replicas are ready. With a
    ratio of 19, a lead time of 100 s and a lifetime of 100 s: sqrt(19 * 4 * 100 / 200) = 6.2 replicas. If 8 are already
    requested and serve in 20 s, they clear (8 - 4) * (100 - 20) = 320 replica-seconds before others could serve, so
    8 - 4 = 4 extra are enough. If they serve in 80 s, they clear only 80 of 100, and 6.2 are needed.
    """
    if waiting.requests <= 0:
        return BacklogNeed(0.0)
    next_s = supply.next_s if size > ready else supply.lead_s
    waiting_s = waiting.requests * waiting.service_time_s
    backlog_s = waiting_s + max(0.0, rate - ready) * next_s
    cost_ratio = supply.violation_cost_ratio * rate * backlog_s / (supply.lead_s + supply.min_lifetime_s)
    left_s = max(0.0, waiting_s + (rate - ready) * next_s) - (size - rate) * (supply.lead_s - next_s)
    extra = max(math.sqrt(cost_ratio), size - rate) if left_s > 0.0 else size - rate
    extra = max(0.0, min(extra, backlog_s / MIN_CLEAR_S))
    reason = (
        f"{waiting.requests:g} requests wait in the engines: clearing the backlog of {backlog_s:.0f} replica-seconds"
        f" takes {extra:.1f} more replicas"
    )
    return BacklogNeed(extra, reason)
