"""The last resort: how busy the GPUs are, where neither engines nor a queue tell what there is to do.

Busy is not loaded: a continuously batching engine reads near 100 % with a single request, and so does every replica
that is added. Followed as it reads, it would buy without end. So it may raise the size once, by a part of what was last
known to be needed, and never lowers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.signals.demand import work_of_share

QUANTITY: Final = "utilization"
FILLED: Final = 0.7
"""The share of the time that GPUs may be busy, as in `gpu_utilization`."""
MOST: Final = 1.5
"""So many times what was last known to be needed, at the most: what comes is seldom half as much again within an outage
of metrics, and where it is, 100 % cannot tell."""


@dataclass(frozen=True, slots=True)
class Activity:
    """The replicas that GPUs so busy may need, and the words for it."""

    replicas: float
    reason: str


def by_activity(busy: float, ready: int, known: float) -> Activity:
    """Return the need when `ready` replicas' GPUs are `busy` (mean share of the time), and `known` were last needed."""
    asked, most = work_of_share(busy, ready, FILLED), MOST * max(1.0, known)
    reason = f"GPUs are busy {busy:.0%} of the time over {ready} ready, which says busy, not loaded"
    if asked > most:
        reason += f": no more than {most:.2f}, {MOST:g} times the {max(1.0, known):.2f} last known to be needed"
    return Activity(min(asked, most), reason)
