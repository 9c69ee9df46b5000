"""The replicas that answer a queue's messages by their deadline, and no more.

Workers on a queue are always busy, so their rate shows how many there are and not how many are needed. The age of the
messages decides. Of the messages that waited at an earlier tick, some have been processed since; the remaining ones are
due that much sooner than messages of now. The most urgent remainder decides: earliest deadline first, as a fluid. If
new replicas serve before the deadline, no forecast is needed.

Example: 3,000 messages of 0.2 replica-seconds waited 300 s ago, 600 replica-seconds. One replica has done 300 since, so
300 remain. With a deadline of 600 s they are due within 300 s, and need one replica.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import AT, READY
from policies.recommend.predictive.backlog_clearing import MIN_CLEAR_S

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model import SignalName
    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.supply_timeline import SupplyTimeline

    Seconds = NDArray[np.float64]


SHORTAGE_NOISE: Final = 0.02
"""A queue's need above the size by less than this share is noise of the service time. Share."""
SERVICE_TIME_MARGIN: Final = 0.1
"""Before a replica is removed, messages count as this much more work: the service time is an average. Share."""
EMPTY_REASON: Final = "the queue is empty"


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue's history, one row per tick, oldest first, the current tick last.

    `visible` are the messages that wait, `ready` the replicas that serve, `at` the times (Unix seconds).
    """

    at: NDArray[np.float64]
    visible: NDArray[np.float64]
    ready: NDArray[np.float64]

    @staticmethod
    def of(context: PolicyContext, queue: SignalName, visible: float, since: float) -> QueueState:
        """Return the rows of a queue since a time, and the current row with `visible` messages."""
        at, visible_before = context.history.signal(queue, since)
        times, ready = context.history.column(AT, since), context.history.column(READY, since)
        ready_before = np.nan_to_num(ready[np.isin(times, at)])  # an unknown number of replicas counts as none
        now = float(context.ready or 0)
        return QueueState(np.append(at, context.at), np.append(visible_before, visible), np.append(ready_before, now))

    @property
    def is_backed_up(self) -> bool:
        """Whether the ready replicas were full over all rows.

        Messages waited at each row, and the number of ready replicas stayed the same.
        """
        return bool(self.at.size > 1 and self.visible.min() > 0 and self.ready.min() == self.ready.max() > 0)

    @property
    def oldest_s(self) -> NDArray[np.float64]:
        """Maximum wait so far of the messages that a row was the first to see. Seconds.

        They arrived after the row before it.
        """
        oldest_s: NDArray[np.float64] = self.at[-1] - np.append(self.at[:1], self.at[:-1])
        return oldest_s

    def remaining_s(self, service_time_s: float) -> NDArray[np.float64]:
        """Return the replica-seconds that remain of the messages of each row.

        A message takes `service_time_s`. A remainder is at most the work that waits now. Example, with 0.2 s per
        message and one ready replica: 3,000 messages 300 s ago and 1,500 now. Of 600 replica-seconds 300 remain; all
        1,500 messages of now are 300, too.
        """
        done_s = np.append(np.cumsum((self.ready[:-1] * np.diff(self.at))[::-1])[::-1], 0.0)
        waiting_s = self.visible[-1] * service_time_s
        remaining_s: NDArray[np.float64] = np.clip(self.visible * service_time_s - done_s, 0.0, waiting_s)
        return remaining_s


@dataclass(frozen=True, slots=True)
class QueueSlo:
    """The SLO of a queue. Seconds.

    An engine must start a message within `deadline_s` of its arrival, and an overdue message within `backlog_clear_s`
    after new replicas serve.
    """

    deadline_s: float
    backlog_clear_s: float


@dataclass(frozen=True, slots=True)
class DeadlineNeed:
    """The replicas that the deadline needs.

    `due_work_s` replica-seconds are due within `time_s`; `waiting` messages are in the queue. Retained replicas stay
    for `slack_s` after they have done all the work that waits.
    """

    replicas: float
    waiting: float
    due_work_s: float
    time_s: float
    slack_s: float = -math.inf

    @property
    def reason(self) -> str:
        if not self.due_work_s:
            return f"{self.waiting:g} messages wait, service time unknown" if self.waiting else EMPTY_REASON
        needed = f"{self.replicas:.2f} replicas needed" if self.replicas else "the replicas that windows retain suffice"
        due = f"{self.due_work_s:.0f} replica-seconds due within {self.time_s:.0f} s"
        return f"{self.waiting:g} messages wait, {due}: {needed}"


def deadline_need(
    queue: QueueState, service_time_s: float, timeline: SupplyTimeline, slo: QueueSlo, age_s: float = 0.0
) -> DeadlineNeed:
    """Return the replicas that keep the SLO, at `service_time_s` replica-seconds per message.

    If the requested size keeps the SLO, the result is the smallest size that does; otherwise the size is raised.
    `age_s` is the age of the oldest message (0 if unknown): messages of the first row arrived before the history
    starts.
    """
    remaining_s = queue.remaining_s(service_time_s)
    waiting, slack_s = float(queue.visible[-1]), timeline.slack_s(float(remaining_s[-1]) * (1.0 + SERVICE_TIME_MARGIN))
    if not remaining_s.any():
        return DeadlineNeed(0.0, waiting, 0.0, slo.deadline_s, slack_s)
    time_s = slo.deadline_s - queue.oldest_s
    time_s[0] = slo.deadline_s - max(age_s, float(queue.oldest_s[0]))
    replicas, row = _scale_out_need(remaining_s, time_s, timeline, slo)
    if not replicas:
        replicas, row = _smallest_size(remaining_s, time_s, timeline, slo)
    return DeadlineNeed(replicas, waiting, float(remaining_s[row]), float(max(MIN_CLEAR_S, time_s[row])), slack_s)


def _scale_out_need(
    remaining_s: Seconds, time_s: Seconds, timeline: SupplyTimeline, slo: QueueSlo
) -> tuple[float, int]:
    """Return a size above the requested one, and the row that needs it.

    The size is 0 if the requested size keeps the SLO.

    Example: 1,200 replica-seconds are due within 600 s, one replica serves, and the lead time is 120 s. The replica
    does 600 in time. The other 600 need 600 / (600 - 120) = 1.25 more replicas: 2.25.
    """
    late_s = np.where(remaining_s > timeline.work_s(np.maximum(MIN_CLEAR_S, time_s), timeline.size), remaining_s, 0.0)
    if not late_s.any():
        return 0.0, 0
    clear_s = np.maximum(time_s, timeline.lead_s + slo.backlog_clear_s)
    extra = np.maximum(0.0, late_s - timeline.work_s(clear_s, timeline.size)) / (clear_s - timeline.lead_s)
    row = int(np.argmax(extra))
    return (timeline.size + float(extra[row]), row) if extra[row] > 0 else (0.0, 0)


def _smallest_size(remaining_s: Seconds, time_s: Seconds, timeline: SupplyTimeline, slo: QueueSlo) -> tuple[float, int]:
    """Return the smallest size that keeps the SLO, and the row that needs it.

    The size is 0 if the retained replicas keep the SLO. A size above 0 finishes early enough to replace a lost replica,
    by `backlog_clear_s` at least. Example: 540 replica-seconds, 594 with the margin of 10 %, are due within 600 s:
    594 / (600 - 60) = 1.1 replicas.
    """
    padded_s = remaining_s * (1.0 + SERVICE_TIME_MARGIN)
    completion_s = np.maximum(MIN_CLEAR_S, timeline.completion_s(padded_s))
    replicas, row = timeline.fewest_replicas(padded_s, np.maximum(time_s, completion_s))
    if not replicas:
        return replicas, row
    spare_s = max(timeline.spare_s, slo.backlog_clear_s)
    return timeline.fewest_replicas(padded_s, np.maximum(time_s - spare_s, completion_s))


def raised_past_tolerance(replicas: float, size: float, tolerance: float) -> float:
    """Return a need of replicas, raised past the tolerance of the size if it exceeds the size.

    A need above the size is raised to at least the smallest size that the tolerance does not suppress. Due work cannot
    wait until the shortage exceeds the tolerance. Example: at a size of 6 and a tolerance of 10 %, a need of 6.23 is
    raised to floor(6 * 1.1) + 1 = 7. A need of 6.1 is within the noise of 2 % and stays.
    """
    if replicas <= size * (1.0 + SHORTAGE_NOISE):
        return replicas
    return max(replicas, math.floor(size * (1.0 + tolerance)) + 1.0)
