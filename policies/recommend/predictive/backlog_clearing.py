"""Work that waits: what of it is left when help comes, and the replicas that are worth buying to clear it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

LEAST_S: Final = 15.0
"""Sooner than a turn nothing need be gone: nobody could see it."""


@dataclass(frozen=True, slots=True)
class ComingReplicas:
    """What help for a backlog is like.

    Replicas asked for now come after `lead_s`, the next of those asked for before after `next_s`; each stays for
    `stay_s` at least. Waiting costs `ratio` times what an idle replica does.
    """

    lead_s: float
    next_s: float
    stay_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class WaitingWork:
    """Requests that wait in engines, and the replica-seconds that each takes."""

    requests: float
    each_s: float


@dataclass(frozen=True, slots=True)
class BacklogNeed:
    """The replicas beyond those that the rate needs (`extra`) that clear what waits.

    A backlog is not a rate: multiplying it by the replicas there, or buying for what they will have worked off before
    help comes, is how autoscalers run away.
    """

    extra: float
    reason: str = ""


def backlog_need(waits: WaitingWork, rate: float, ready: float, size: float, help_: ComingReplicas) -> BacklogNeed:
    """Return the replicas that clear the backlog.

    `rate` is the work that arrives; `ready` and `size` are the replicas that serve and that are requested.

    While requests wait in engines all that come are late. E replicas more clear B replica-seconds in B / E seconds,
    which costs ``ratio x rate x B / E`` for lateness and ``E x (lead + stay)`` for them: the least of the sum is at
    the square root below. B is what there will be when help comes; what is there may be all the help it needs, and then
    nothing is bought, and nothing given back before it is done.
    """
    if waits.requests <= 0:
        return BacklogNeed(0.0)
    pending = size > ready
    left_s = waits.requests * waits.each_s + max(0.0, rate - ready) * (help_.next_s if pending else help_.lead_s)
    urgent = math.sqrt(help_.ratio * rate * left_s / (help_.lead_s + help_.stay_s))
    extra = min(urgent, left_s / LEAST_S)
    if left_s <= (size - rate) * help_.lead_s:
        extra = min(extra, size - rate)
    return BacklogNeed(extra, f"{waits.requests:g} wait, {left_s:.0f} replica-seconds: {extra:.2f} more clear them")
