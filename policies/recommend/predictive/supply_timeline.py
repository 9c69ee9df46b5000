"""The replicas that serve from now on: those ready, those under way, and those that windows keep in any case."""

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

NOTHING: Final = np.empty(0)
ROUNDED_S: Final = 1e-6
"""Above rounding noise in replica-seconds, below any that matter."""


@dataclass(frozen=True, slots=True)
class Retained:
    """Sizes that are kept whatever is asked for from now on: no fewer than `replicas` until `until_s` from now.

    `until_s` rises and `replicas` falls. A scale-down window keeps the most that was asked for within it; a cooldown
    keeps one. If no policy is active from now on, nothing is kept after `rests_s`: the cooldown ends every window.
    """

    until_s: NDArray[np.float64] = field(default_factory=lambda: NOTHING)
    replicas: NDArray[np.float64] = field(default_factory=lambda: NOTHING)
    rests_s: float = math.inf

    @staticmethod
    def by_windows(view: PolicyContext, size: float) -> Retained:
        """Return what the workload's scale-down window and cooldown keep of the present `size`."""
        spec = view.spec
        if spec is None:
            return Retained()
        window_s, rest_s = spec.scale_down.window_s, spec.cooldown_s
        at, wanted = (view.history.column(column, view.at - window_s) for column in (AT, CAPPED_NEED))
        told = ~np.isnan(wanted) if window_s else np.zeros(at.size, bool)
        turns, active = (view.history.column(column, view.at - rest_s) for column in (AT, ACTIVE))
        worked = turns[active > 0][-1:]
        ends = np.concatenate((at[told] + window_s, worked + rest_s)) - view.at
        until_s = (np.floor(ends / spec.interval_s) + 1.0) * spec.interval_s  # the first turn not held back
        rests_s = math.inf if view.min_replicas else max(until_s[at[told].size :], default=0.0)
        replicas = np.minimum(size, np.concatenate((wanted[told], np.ones(worked.size))))
        order = np.argsort(until_s, kind="stable")
        return Retained(until_s[order], np.maximum.accumulate(replicas[order][::-1])[::-1], rests_s)

    def at(self, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how many are kept at these times from now."""
        kept: NDArray[np.float64] = np.append(self.replicas, 0.0)[np.searchsorted(self.until_s, times_s, "right")]
        return kept


@dataclass(frozen=True, slots=True)
class SupplyTimeline:
    """Replicas over time: `ready` now, the rest of `size` after `coming_s`, one more after `lead_s`.

    `coming_s` rises.

    Of the size, `kept` stay in any case. Where one is lost, another comes `spare_s` later than the windows keep those
    that were let go.
    """

    ready: float
    size: float
    lead_s: float
    spare_s: float = 0.0
    coming_s: NDArray[np.float64] = field(default_factory=lambda: NOTHING)
    retained: Retained = field(default_factory=Retained)
    _edges_s: NDArray[np.float64] = field(init=False, repr=False)
    _available: NDArray[np.float64] = field(init=False, repr=False)
    _retained: NDArray[np.float64] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        edges_s = np.unique(np.concatenate(([0.0], self.coming_s, self.retained.until_s)))
        object.__setattr__(self, "_edges_s", edges_s)
        object.__setattr__(self, "_available", self.ready + np.searchsorted(self.coming_s, edges_s, "right"))
        object.__setattr__(self, "_retained", self.retained.at(edges_s))

    @staticmethod
    def of(view: PolicyContext, lead_s: float) -> SupplyTimeline:
        """Return those that a turn sees, when a start takes `lead_s`."""
        size = float(view.desired or 0)
        ready = min(size, float(view.ready or 0))
        awaited = min(MAX_PENDING, int(size - ready))
        since = view.pending_since()[:awaited]
        since += [view.at] * (awaited - len(since))
        spare_s = max(0.0, lead_s - view.spec.scale_down.window_s) if view.spec else 0.0
        coming_s = np.maximum(0.0, np.array(since) + lead_s - view.at)
        return SupplyTimeline(ready, size, lead_s, spare_s, coming_s, Retained.by_windows(view, size))

    def work_s(self, within_s: NDArray[np.float64], size: float) -> NDArray[np.float64]:
        """Return the replica-seconds that are worked within these times when `size` is asked for from now on."""
        serve, worked_s = self._serving(size)
        k = np.searchsorted(self._edges_s, within_s, "right") - 1
        found: NDArray[np.float64] = worked_s[k] + serve[k] * (within_s - self._edges_s[k])
        return found

    def soonest_s(self, left_s: NDArray[np.float64], size: float | None = None) -> NDArray[np.float64]:
        """Return how long these replica-seconds take when `size` is requested from now on, or all are.

        Infinite where they are never worked off.
        """
        serve, worked_s = self._serving(self.size if size is None else size)
        k = np.searchsorted(worked_s, left_s, "left") - 1
        rest_s = left_s - worked_s[k]
        took_s = np.divide(rest_s, serve[k], out=np.full_like(left_s, np.inf), where=serve[k] > 0)
        return np.where(left_s > 0, self._edges_s[k] + took_s, 0.0)

    def fewest_replicas(self, left_s: NDArray[np.float64], within_s: NDArray[np.float64]) -> tuple[float, int]:
        """Return the smallest size that works off each of `left_s` in time, and which one needs it.

        In time is as the whole size does. A part of the last replica is returned as that part.
        """
        low, high = -1, math.ceil(self.size)
        while high - low > 1:
            middle = (low + high) // 2
            if (left_s <= self.work_s(within_s, middle) + ROUNDED_S).all():
                high = middle
            else:
                low = middle
        if high <= 0:
            return 0.0, int(np.argmax(left_s))
        less_s = self.work_s(within_s, high - 1.0)
        gained_s = self.work_s(within_s, float(high)) - less_s
        part = np.divide(left_s - less_s, gained_s, out=np.zeros_like(gained_s), where=gained_s > 0)
        k = int(np.argmax(part))
        return high - 1.0 + float(min(1.0, max(0.0, part[k]))), k

    def clears_in_s(self, left_s: float) -> float:
        """How much longer than these replica-seconds take the last one is kept, if nothing is asked for any more."""
        if not self.retained.until_s.size:
            return -math.inf
        return float(min(self.retained.until_s[-1], self.retained.rests_s) - self.soonest_s(np.array([left_s]), 0.0)[0])

    def _serving(self, size: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return how many serve from each edge on, and the replica-seconds that are worked by it."""
        serve = np.minimum(self._available, np.maximum(self._retained, size))
        return serve, np.concatenate(([0.0], np.cumsum(serve[:-1] * np.diff(self._edges_s))))
