"""What waits in a queue for its deadline: the replicas that keep it, and no more.

Workers on a queue are always as busy as there are of them: their rate tells how many there are, not how many are
needed. What counts is when each message came. Of those that waited a while ago some were worked off since, by so many
replicas for so long; what is left of them has its deadline a while sooner than what came now. The most urgent of these
remainders rules: earliest deadline first, as a fluid. Where help comes before the deadline does, no forecast is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.backlog import LEAST_S
from policies.history import AT, READY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model import SignalName
    from policies.view import View


EMPTY: Final = "the queue is empty"


@dataclass(frozen=True, slots=True)
class Queued:
    """A queue's past, a row a turn, oldest first, the present last: what waited, and the replicas that were ready."""

    at: NDArray[np.float64]
    visible: NDArray[np.float64]
    ready: NDArray[np.float64]

    @staticmethod
    def seen(view: View, queue: SignalName, visible: float, since: float) -> Queued:
        """What the turns since a time saw of a queue, and this one, in which so many are `visible`."""
        at, waited = view.history.signal(queue, since)
        turns, ready = view.history.column(AT, since), view.history.column(READY, since)
        known = np.nan_to_num(ready[np.isin(turns, at)])  # what was not seen has worked nothing off
        last = float(view.ready or 0)
        return Queued(np.append(at, view.at), np.append(waited, visible), np.append(known, last))

    @property
    def backed_up(self) -> bool:
        """Whether messages waited all the time, with the same replicas ready: these did what they can."""
        return bool(self.at.size > 1 and self.visible.min() > 0 and self.ready.min() == self.ready.max() > 0)

    def left_s(self, each_s: float) -> NDArray[np.float64]:
        """What is left now of what waited at each row, in replica-seconds, when a message takes `each_s` of them."""
        worked_s = np.append(np.cumsum((self.ready[:-1] * np.diff(self.at))[::-1])[::-1], 0.0)
        left_s: NDArray[np.float64] = np.maximum(0.0, self.visible * each_s - worked_s)
        return left_s


@dataclass(frozen=True, slots=True)
class Hands:
    """Replicas: `ready` now, `size` asked for, of which the rest comes after `next_s`; one more after `lead_s`."""

    ready: float
    size: float
    next_s: float
    lead_s: float


@dataclass(frozen=True, slots=True)
class Promise:
    """Every message is to be in work within `deadline_s` of its coming; what is late within `soonest_s` of help."""

    deadline_s: float
    soonest_s: float


@dataclass(frozen=True, slots=True)
class Due:
    """The replicas that the deadline needs, and what is behind it."""

    replicas: float
    waiting: float
    left_s: float
    time_s: float

    @property
    def reason(self) -> str:
        if not self.left_s:
            return f"{self.waiting:g} wait, of which nobody knows yet what they take" if self.waiting else EMPTY
        return (
            f"{self.waiting:g} wait; {self.left_s:.0f} replica-seconds are due within {self.time_s:.0f} s:"
            f" {self.replicas:.2f} keep that"
        )


def due(queued: Queued, each_s: float, hands: Hands, promise: Promise, age_s: float = 0.0) -> Due:
    """The replicas that keep the promise, when a message takes `each_s` of one.

    What those that are ready cannot do in time waits for help: for the replicas under way, and for more where they do
    not clear it in time. `age_s` is how long the oldest message has waited, where that is known: what waited at the
    first row came before anybody looked.
    """
    soonest_s, left_s = promise.soonest_s, queued.left_s(each_s)
    before_s = queued.at[-1] - queued.at
    time_s = promise.deadline_s - before_s
    time_s[0] -= max(0.0, age_s - float(before_s[0]))
    ready, helped_s = min(hands.ready, hands.size), np.maximum(time_s, hands.lead_s + soonest_s)
    carried_s = ready * helped_s + (hands.size - ready) * np.maximum(0.0, helped_s - hands.next_s)
    more = np.maximum(0.0, left_s - carried_s) / (helped_s - hands.lead_s)
    time_s = np.maximum(LEAST_S, time_s)
    needed = np.where(left_s <= ready * time_s, left_s / time_s, hands.size + more)
    k = int(np.argmax(needed))
    return Due(float(needed[k]), float(queued.visible[-1]), float(left_s[k]), float(time_s[k]))
