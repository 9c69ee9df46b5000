"""Decided-to-serving times, and for how long what has not come yet has been awaited."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

MAX_LEAD_TIMES: Final = 256
"""Lead times kept: some days of scale-outs, few enough that a changed start-up time shows within a week."""
MAX_ASKS: Final = 100_000
"""Asks kept at the most: a workload's own maximum."""
OUTLIER: Final = 3.0
"""What took more medians than this waited for capacity: it tells nothing of how long a start takes. A log-normal start
with the spread of GPU nodes (sigma 0.45) exceeds 3 medians once in 140."""
LONGEST_S: Final = 3600.0
"""What took longer waited for capacity, whatever the others took: where all waited, their median tells nothing."""
UNMEASURED: Final = 3.0
"""Patience before the first start has been seen, over the lead time configured: that may be a guess."""
MARGIN: Final = 1.25
"""Patience over the 0.99 quantile: with few starts seen, that is no more than their largest."""
ENOUGH: Final = 3
"""Starts after which the measured ones count, and no longer the one configured."""


@dataclass(frozen=True, slots=True)
class PendingReplica:
    """A replica asked for: since when, whether it makes up for one that the cloud took, and whether it had to wait.

    The market that took one rarely gives another at once: such an ask is no supply until it has come. One that had to
    wait for capacity tells nothing of how long a start takes.
    """

    at: float
    doubtful: bool = False
    waited: bool = False


class LeadTimes:
    """First asked for, first come: what is awaited, and how long those took that came.

    Seconds, resolved to the interval of the turns. A replica no longer wanted is dropped, not counted.
    """

    def __init__(self) -> None:
        self._pending: deque[PendingReplica] = deque(maxlen=MAX_ASKS)
        self._measured: deque[float] = deque(maxlen=MAX_LEAD_TIMES)
        self._ready: int | None = None
        self._quantiles: dict[float, float] = {}

    def note(self, at: float, target: int, ready: int, lost: int = 0) -> int:
        """Return one turn's size decided and size ready, `lost` having been taken since.

        Gives how many came to serve.
        """
        came = 0 if self._ready is None else min(len(self._pending), max(0, ready - self._ready + lost))
        self._ready = ready
        for _ in range(came):
            ask = self._pending.popleft()
            if not (ask.doubtful or ask.waited) and at - ask.at <= LONGEST_S:
                self._measured.append(at - ask.at)
                self._quantiles.clear()
        awaited = min(MAX_ASKS, max(0, target - ready))
        while len(self._pending) > awaited:
            self._pending.pop()
        self._pending.extend(PendingReplica(at, doubtful=lost > n) for n in range(awaited - len(self._pending)))
        return came

    def mark_shortage(self) -> None:
        """There is no capacity now: what is awaited will have waited for some."""
        self._pending = deque((replace(a, waited=True) for a in self._pending), MAX_ASKS)

    def shift(self, step_s: float) -> None:
        self._pending = deque((replace(a, at=a.at + step_s) for a in self._pending), MAX_ASKS)

    def quantile_s(self, q: float) -> float | None:
        """Return the `q` quantile (0 to 1) of the lead times seen, in seconds; None before the first."""
        if not self._measured:
            return None
        if q not in self._quantiles:
            self._quantiles[q] = float(np.quantile(np.fromiter(self._measured, float), q))
        return self._quantiles[q]

    def usual_s(self, prior_s: float, q: float = 0.9) -> float:
        """Return how long a start takes.

        The `q` quantile without those that waited for capacity; `prior_s` until measured.
        """
        if len(self._measured) < ENOUGH:
            return prior_s
        key = -1.0 - q
        if key not in self._quantiles:
            seen = np.fromiter(self._measured, float)
            self._quantiles[key] = float(np.quantile(seen[seen <= OUTLIER * np.median(seen)], q))
        return self._quantiles[key]

    def patience_s(self, prior_s: float) -> float:
        """Return how long an ask counts as supply: what is not there by then is not on its way."""
        if len(self._measured) < ENOUGH:
            return UNMEASURED * prior_s
        return MARGIN * self.usual_s(prior_s, 0.99)

    def pending_since(
        self, now: float, patience_s: float, *, came: int = 0, heed_doubt: bool = True
    ) -> tuple[float, ...]:
        """Since when those are awaited that may still be counted on, when the first `came` have come; first asked for
        first."""
        asks = islice(self._pending, came, None)
        return tuple(a.at for a in asks if now - a.at <= patience_s and not (heed_doubt and a.doubtful))

    @property
    def oldest(self) -> float | None:
        """Since when the one asked for first has been awaited."""
        return self._pending[0].at if self._pending else None

    @property
    def pending(self) -> int:
        """How many are awaited."""
        return len(self._pending)

    def __len__(self) -> int:
        return len(self._measured)
