"""What waits in a queue for its deadline: the replicas that keep it, and no more.

Workers on a queue are always as busy as there are of them: their rate tells how many there are, not how many are
needed. What counts is when each message came. Of those that waited a while ago some were worked off since, by so many
replicas for so long; what is left of them has its deadline a while sooner than what came now. The most urgent of these
remainders rules: earliest deadline first, as a fluid. Where help comes before the deadline does, no forecast is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import AT, READY
from policies.recommend.predictive.backlog_clearing import LEAST_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model import SignalName
    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.supply_timeline import SupplyTimeline

    Seconds = NDArray[np.float64]


DOUBT: Final = 0.1
"""Before anybody is let go, messages are taken to be so much more work: what one takes is a mean of late."""
EMPTY: Final = "the queue is empty"


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue's past, a row a turn, oldest first, the present last: what waited, and the replicas that were ready."""

    at: NDArray[np.float64]
    visible: NDArray[np.float64]
    ready: NDArray[np.float64]

    @staticmethod
    def of(context: PolicyContext, queue: SignalName, visible: float, since: float) -> QueueState:
        """Return what the turns since a time saw of a queue, and this one, in which so many are `visible`."""
        at, waited = context.history.signal(queue, since)
        turns, ready = context.history.column(AT, since), context.history.column(READY, since)
        known = np.nan_to_num(ready[np.isin(turns, at)])  # what was not seen has worked nothing off
        last = float(context.ready or 0)
        return QueueState(np.append(at, context.at), np.append(waited, visible), np.append(known, last))

    @property
    def backed_up(self) -> bool:
        """Whether messages waited all the time, with the same replicas ready: these did what they can."""
        return bool(self.at.size > 1 and self.visible.min() > 0 and self.ready.min() == self.ready.max() > 0)

    @property
    def oldest_s(self) -> NDArray[np.float64]:
        """How long the oldest may have waited of those that a row was the first to see: since the row before it."""
        seen: NDArray[np.float64] = self.at[-1] - np.append(self.at[:1], self.at[:-1])
        return seen

    def left_s(self, each_s: float) -> NDArray[np.float64]:
        """Return what is left now of what waited at each row, in replica-seconds.

        A message takes `each_s` of them.
        """
        worked_s = np.append(np.cumsum((self.ready[:-1] * np.diff(self.at))[::-1])[::-1], 0.0)
        most_s = self.visible[-1] * each_s
        left_s: NDArray[np.float64] = np.clip(self.visible * each_s - worked_s, 0.0, most_s)
        return left_s


@dataclass(frozen=True, slots=True)
class QueueSlo:
    """Every message is to be in work within `deadline_s` of its coming; what is late within `soonest_s` of help."""

    deadline_s: float
    soonest_s: float


@dataclass(frozen=True, slots=True)
class DeadlineNeed:
    """The replicas that the deadline needs, and what is behind it.

    Who is kept in any case is there for `over_s` longer than all that waits takes them.
    """

    replicas: float
    waiting: float
    due_work_s: float
    time_s: float
    clears_in_s: float = -math.inf

    @property
    def reason(self) -> str:
        if not self.due_work_s:
            return f"{self.waiting:g} wait, of which nobody knows yet what they take" if self.waiting else EMPTY
        keep = f"{self.replicas:.2f} keep that" if self.replicas else "those that are kept in any case do that"
        return (
            f"{self.waiting:g} wait; {self.due_work_s:.0f} replica-seconds are due within {self.time_s:.0f} s: {keep}"
        )


def deadline_need(
    queued: QueueState, each_s: float, hands: SupplyTimeline, promise: QueueSlo, age_s: float = 0.0
) -> DeadlineNeed:
    """Return the replicas that keep the promise, when a message takes `each_s` of one.

    What those that are there cannot do in time waits for help: for the replicas under way, and for more where they do
    not clear it in time. `age_s` is how long the oldest message has waited, where that is known: what waited at the
    first row came before anybody looked.
    """
    left_s = queued.left_s(each_s)
    waiting, over_s = float(queued.visible[-1]), hands.clears_in_s(float(left_s[-1]) * (1.0 + DOUBT))
    if not left_s.any():
        return DeadlineNeed(0.0, waiting, 0.0, promise.deadline_s, over_s)
    time_s = promise.deadline_s - queued.oldest_s
    time_s[0] = promise.deadline_s - max(age_s, float(queued.oldest_s[0]))
    needed, k = _replicas_for(left_s, time_s, hands, promise)
    if not needed:
        needed, k = _fewest(left_s, time_s, hands, promise)
    return DeadlineNeed(needed, waiting, float(left_s[k]), float(max(LEAST_S, time_s[k])), over_s)


def _replicas_for(left_s: Seconds, time_s: Seconds, hands: SupplyTimeline, promise: QueueSlo) -> tuple[float, int]:
    """More than there are, where these keep no deadline nor clear soon what is late, and which row asks for it."""
    late_s = np.where(left_s > hands.work_s(np.maximum(LEAST_S, time_s), hands.size), left_s, 0.0)
    if not late_s.any():
        return 0.0, 0
    helped_s = np.maximum(time_s, hands.lead_s + promise.soonest_s)
    more = np.maximum(0.0, late_s - hands.work_s(helped_s, hands.size)) / (helped_s - hands.lead_s)
    k = int(np.argmax(more))
    return (hands.size + float(more[k]), k) if more[k] > 0 else (0.0, 0)


def _fewest(left_s: Seconds, time_s: Seconds, hands: SupplyTimeline, promise: QueueSlo) -> tuple[float, int]:
    """Return the fewest of those that there are, and which row asks for them.

    None where those that are kept in any case do it; else with time to spare, so that one that is lost can be replaced.
    """
    doubted_s = left_s * (1.0 + DOUBT)
    soonest_s = np.maximum(LEAST_S, hands.soonest_s(doubted_s))
    needed, k = hands.fewest_replicas(doubted_s, np.maximum(time_s, soonest_s))
    if not needed:
        return needed, k
    spare_s = max(hands.spare_s, promise.soonest_s)
    return hands.fewest_replicas(doubted_s, np.maximum(time_s - spare_s, soonest_s))
