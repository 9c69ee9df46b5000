"""Work that waits: what of it is left when help comes, and the replicas that then clear it in time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Help:
    """When replicas asked for now come (`lead_s`), and how long they have to clear what waits then (`patience_s`)."""

    lead_s: float
    patience_s: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits, and the replicas beyond those that the rate needs (`extra`) that clear it.

    A backlog is not a rate: what the replicas there will have worked off by the time that help comes needs none.
    Multiplying it by the replicas there, or buying for all of it, is how autoscalers run away.
    """

    queued: float
    extra: float
    reason: str = ""


def backlog(queued: float, each_s: float, rate: float, supply: float, help_: Help) -> Backlog:
    """The backlog of `queued` requests or messages at `each_s` of a replica's time.

    `rate` is the work that comes and `supply` what is there to do it, both in replicas.
    """
    if queued <= 0:
        return Backlog(0.0, 0.0)
    left_s = max(0.0, queued * each_s + (rate - supply) * help_.lead_s)
    extra = left_s / help_.patience_s
    left = f"{left_s:.0f} replica-seconds of them are left in {help_.lead_s:.0f} s"
    return Backlog(queued, extra, f"{queued:g} wait, and {left}: {extra:.2f} more")
