"""The replicas that serve from now on.

They are ready, pending, or retained by windows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.lead_times import MAX_PENDING
from policies.history.ticks import ACTIVE, AT, CAPPED_NEED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.recommend.context import PolicyContext

EMPTY: Final = np.empty(0)
ROUNDING_S: Final = 1e-6
"""Tolerance for rounding noise. Replica-seconds."""


@dataclass(frozen=True, slots=True)
class Retained:
    """The replicas that stay, whatever size is requested from now on.

    They are `replicas` until `until_s` from now. `until_s` rises and `replicas` falls. A scale-down window retains the
    largest need within it; a cooldown retains one replica. Without activity from now on, nothing is retained after
    `cooldown_end_s`: the cooldown ends every window.

    Example, with an interval of 15 s: 10 replicas were needed 75 s ago and 4 were needed 15 s ago, in a window of 300
    s. The last activity was 30 s ago, with a cooldown of 600 s. Retained are 10 until 240 s, 4 until 300 s, 1 until 585
    s.
    """

    until_s: NDArray[np.float64] = field(default_factory=lambda: EMPTY)
    replicas: NDArray[np.float64] = field(default_factory=lambda: EMPTY)
    cooldown_end_s: float = math.inf

    @staticmethod
    def by_windows(context: PolicyContext, size: float) -> Retained:
        """Return what the workload's scale-down window and cooldown retain of the current `size`."""
        spec = context.spec
        if spec is None:
            return Retained()
        window_s, cooldown_s = spec.scale_down.window_s, spec.cooldown_s
        at, needs = (context.history.column(column, context.at - window_s) for column in (AT, CAPPED_NEED))
        known = ~np.isnan(needs) if window_s else np.zeros(at.size, bool)
        times, active = (context.history.column(column, context.at - cooldown_s) for column in (AT, ACTIVE))
        last_active = times[active > 0][-1:]
        ends_s = np.concatenate((at[known] + window_s, last_active + cooldown_s)) - context.at
        until_s = (np.floor(ends_s / spec.interval_s) + 1.0) * spec.interval_s  # the first tick after the end
        cooldown_end_s = math.inf if context.min_replicas else max(until_s[at[known].size :], default=0.0)
        replicas = np.minimum(size, np.concatenate((needs[known], np.ones(last_active.size))))
        order = np.argsort(until_s, kind="stable")
        return Retained(until_s[order], np.maximum.accumulate(replicas[order][::-1])[::-1], cooldown_end_s)

    def at(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the replicas retained at these times from now."""
        index = np.searchsorted(self.until_s, times_s, "right")
        replicas: NDArray[np.float64] = np.append(self.replicas, 0.0)[index]
        return replicas


@dataclass(frozen=True, slots=True)
class SupplyTimeline:
    """The replicas that serve over time.

    `ready` replicas serve now, the other replicas of `size` after `ready_in_s` (which rises), and a replica requested
    now after `lead_s`. `retained` replicas stay in any case. A lost replica is replaced `spare_s` later than the
    windows retain the replicas that were removed.
    """

    ready: float
    size: float
    lead_s: float
    spare_s: float = 0.0
    ready_in_s: NDArray[np.float64] = field(default_factory=lambda: EMPTY)
    retained: Retained = field(default_factory=Retained)
    _edges_s: NDArray[np.float64] = field(init=False, repr=False)
    _available: NDArray[np.float64] = field(init=False, repr=False)
    _retained: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        edges_s = np.unique(np.concatenate(([0.0], self.ready_in_s, self.retained.until_s)))
        object.__setattr__(self, "_edges_s", edges_s)
        object.__setattr__(self, "_available", self.ready + np.searchsorted(self.ready_in_s, edges_s, "right"))
        object.__setattr__(self, "_retained", self.retained.at(edges_s))

    @staticmethod
    def of(context: PolicyContext, lead_s: float) -> SupplyTimeline:
        """Return the timeline of this tick, with a lead time of `lead_s`."""
        size = float(context.desired or 0)
        ready = min(size, float(context.ready or 0))
        pending = min(MAX_PENDING, int(size - ready))
        since = context.pending_since()[:pending]
        since += [context.at] * (pending - len(since))
        spare_s = max(0.0, lead_s - context.spec.scale_down.window_s) if context.spec else 0.0
        ready_in_s = np.maximum(0.0, np.array(since) + lead_s - context.at)
        return SupplyTimeline(ready, size, lead_s, spare_s, ready_in_s, Retained.by_windows(context, size))

    def work_s(self, within_s: NDArray[np.float64], size: float) -> NDArray[np.float64]:
        """Return the replica-seconds of work done within these times.

        Here, `size` is requested from now on.

        Example: 2 of 3 replicas are ready and the third in 30 s. Within 60 s they do 2 * 60 + 1 * 30 = 150.
        """
        serving, done_s = self._serving(size)
        k = np.searchsorted(self._edges_s, within_s, "right") - 1
        work_s: NDArray[np.float64] = done_s[k] + serving[k] * (within_s - self._edges_s[k])
        return work_s

    def completion_s(self, work_s: NDArray[np.float64], size: float | None = None) -> NDArray[np.float64]:
        """Return the time in which these replica-seconds are done.

        It is the inverse of `work_s`, and infinite if they are never done. `size` is requested from now on, or the
        whole size if it is None.
        """
        serving, done_s = self._serving(self.size if size is None else size)
        k = np.searchsorted(done_s, work_s, "left") - 1
        remaining_s = work_s - done_s[k]
        took_s = np.divide(remaining_s, serving[k], out=np.full_like(work_s, np.inf), where=serving[k] > 0)
        return np.where(work_s > 0, self._edges_s[k] + took_s, 0.0)

    def fewest_replicas(self, work_s: NDArray[np.float64], within_s: NDArray[np.float64]) -> tuple[float, int]:
        """Return the smallest size that does each `work_s` within its time.

        The second value is the index of the work that needs this size. The whole size must suffice. The last replica
        counts in part. Example: 330 replica-seconds within 300 s need 1.1.
        """
        low, high = -1, math.ceil(self.size)
        while high - low > 1:
            middle = (low + high) // 2
            if (work_s <= self.work_s(within_s, middle) + ROUNDING_S).all():
                high = middle
            else:
                low = middle
        if high <= 0:
            return 0.0, int(np.argmax(work_s))
        without_s = self.work_s(within_s, high - 1.0)
        gained_s = self.work_s(within_s, float(high)) - without_s
        part = np.divide(work_s - without_s, gained_s, out=np.zeros_like(gained_s), where=gained_s > 0)
        k = int(np.argmax(part))
        return high - 1.0 + float(min(1.0, max(0.0, part[k]))), k

    def slack_s(self, work_s: float) -> float:
        """Return how long the last retained replica stays after it is done, if no size is requested.

        Seconds.

        Example: 2 replicas are retained for 330 s and do 600 replica-seconds in 300 s: the slack is 30 s.
        """
        if not self.retained.until_s.size:
            return -math.inf
        end_s = min(self.retained.until_s[-1], self.retained.cooldown_end_s)
        return float(end_s - self.completion_s(np.array([work_s]), 0.0)[0])

    def _serving(self, size: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the replicas that serve from each edge on.

        The second array has the replica-seconds done by that edge.
        """
        serving = np.minimum(self._available, np.maximum(self._retained, size))
        return serving, np.concatenate(([0.0], np.cumsum(serving[:-1] * np.diff(self._edges_s))))
