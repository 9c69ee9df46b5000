"""Lead times from request to serving, and the age of pending requests. Seconds."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

MAX_LEAD_TIMES: Final = 256
"""Lead times kept: some days of scale-outs, few enough that a changed start-up time shows within a week."""
MAX_PENDING: Final = 100_000
"""Pending replicas kept at most: the largest maximum of a workload."""
OUTLIER: Final = 3.0
"""A start that takes more than this many medians waited for capacity, and is no measure of a start. A log-normal start
with the spread of GPU nodes (sigma 0.45) exceeds 3 medians once in 140."""
LONGEST_S: Final = 3600.0
"""A start that takes longer waited for capacity, whatever the median: where all starts waited, it is wrong as well."""
UNMEASURED_PATIENCE: Final = 3.0
"""Patience before the first starts are measured, as a multiple of the configured lead time, which may be a guess."""
PATIENCE_MARGIN: Final = 1.25
"""Patience as a multiple of the 0.99 quantile: with few starts measured, that is at most their largest."""
MIN_LEAD_TIMES: Final = 3
"""Measured starts after which they replace the configured lead time."""


@dataclass(frozen=True, slots=True)
class PendingReplica:
    """A requested replica that does not serve yet.

    `replaces_lost`: it was requested for an interrupted one. A market that just took a replica rarely grants another,
    so it is no supply until it has arrived. `waited`: it had to wait for capacity, so it does not measure a start.
    """

    at: float
    replaces_lost: bool = False
    waited: bool = False


class LeadTimes:
    """Pending replicas and measured lead times, first requested first served.

    Resolved to the interval of the ticks. A replica whose request is withdrawn is dropped and not measured.
    """

    def __init__(self) -> None:
        self._pending: list[PendingReplica] = []
        self._measured = array("d")
        self._ready: int | None = None
        self._quantiles: dict[float, float] = {}

    def note(self, at: float, target: int, ready: int, lost: int = 0) -> int:
        """Record a tick's target, ready and lost replicas; return how many have arrived.

        Example: 2 of 5 requested replicas were ready, and 4 are now: 2 arrived, and 1 is pending.
        """
        arrived = 0 if self._ready is None else min(len(self._pending), max(0, ready - self._ready + lost))
        self._ready = ready
        for replica in self._pending[:arrived]:
            if not (replica.replaces_lost or replica.waited) and at - replica.at <= LONGEST_S:
                self._measured.append(at - replica.at)
                self._quantiles.clear()
        del self._pending[:arrived], self._measured[:-MAX_LEAD_TIMES]
        pending = min(MAX_PENDING, max(0, target - ready))
        del self._pending[pending:]
        new = range(pending - len(self._pending))
        self._pending.extend(PendingReplica(at, replaces_lost=lost > n) for n in new)
        return arrived

    def limit_age(self, applied: int, oldest: float) -> None:
        """Limit the age of requests that no platform holds yet.

        These are the ones after the first `applied`: they begin at `oldest` at the earliest. Another autoscaler may
        apply a published size late or never, and a replica cannot be late before that.
        """
        if self._pending and len(self._pending) > applied:
            entries = enumerate(self._pending)
            limited = (r if n < applied else replace(r, at=max(r.at, oldest)) for n, r in entries)
            self._pending = list(limited)

    def mark_shortage(self) -> None:
        """Mark the pending replicas as waiting for capacity, because the pool has none now."""
        self._pending = [replace(r, waited=True) for r in self._pending]

    def shift(self, step_s: float) -> None:
        self._pending = [replace(r, at=r.at + step_s) for r in self._pending]

    def quantile_s(self, q: float) -> float | None:
        """Return the `q` quantile (0 to 1) of the measured lead times; None before the first."""
        if not self._measured:
            return None
        if q not in self._quantiles:
            self._quantiles[q] = float(np.quantile(np.fromiter(self._measured, float), q))
        return self._quantiles[q]

    def usual_s(self, prior_s: float, q: float = 0.9) -> float:
        """Return the `q` quantile of starts with capacity; `prior_s` until enough are measured."""
        if len(self._measured) < MIN_LEAD_TIMES:
            return prior_s
        key = -1.0 - q
        if key not in self._quantiles:
            measured = np.fromiter(self._measured, float)
            self._quantiles[key] = float(np.quantile(measured[measured <= OUTLIER * np.median(measured)], q))
        return self._quantiles[key]

    def patience_s(self, prior_s: float) -> float:
        """Return the age up to which a pending replica counts as supply.

        Example: 360 s for a configured lead time of 120 s, and 125 s once all measured starts take 100 s.
        """
        if len(self._measured) < MIN_LEAD_TIMES:
            return UNMEASURED_PATIENCE * prior_s
        return PATIENCE_MARGIN * self.usual_s(prior_s, 0.99)

    def pending_since(
        self, now: float, patience_s: float, *, arrived: int = 0, without_replacements: bool = True
    ) -> tuple[float, ...]:
        """Return the request time of each replica that may still arrive, oldest first.

        The first `arrived` are left out; with `without_replacements`, substitutes for interrupted replicas are too.
        """
        pending = islice(self._pending, arrived, None)
        return tuple(
            r.at for r in pending if now - r.at <= patience_s and not (without_replacements and r.replaces_lost)
        )

    @property
    def oldest(self) -> float | None:
        """The request time of the oldest pending replica."""
        return self._pending[0].at if self._pending else None

    @property
    def pending(self) -> int:
        """The number of pending replicas."""
        return len(self._pending)

    def __len__(self) -> int:
        return len(self._measured)
