"""Pending replicas while work waits: those that come before it is done are not cancelled.

A backlog lasts until help comes, and the need for that help may fall meanwhile: less waits, or the pending replicas
count as enough. One that is cancelled then is requested again soon after, and its lead time begins again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import AT, WANTED
from policies.model import Absent, Fresh, RuleId, Step
from policies.recommend.predictive.engine_load import SURGE
from policies.signals.demand import whole_replicas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.recommend.context import RuleContext

LEAST_S: Final = 60.0
"""The pace of a need is measured over a scale-down window, and over no less than this."""


def keep_pending(size: int, s: RuleContext) -> Step | None:
    """While work waits: no fewer than serve and those pending that serve before ready replicas alone would be done.

    4 serve, 15 are pending and come in 400 s, 19 were needed and 14 are now: the size stays 19. Where the need falls by
    one in 30 s, the 4 are enough in 300 s, before the 15 come: these go as the windows let them. Failed replicas and
    those that are no longer counted on are not kept; a budget that gives way takes pending replicas first.
    """
    if s.need is None or s.ready is None or size >= s.current or s.need <= s.ready or not _waits(s):
        return None
    if any(r.need is not None and r.need > s.need for r in s.recommendations):
        return None
    lasts_s = _lasts_s(s.need, s.ready, s)
    kept = min(s.current, whole_replicas(s.ready + sum(work for left_s, work in _pending(s) if left_s < lasts_s)))
    if kept <= size:
        return None
    return Step(RuleId.PENDING, kept, f"work waits, and {kept - s.ready} pending replicas serve before it is done")


def _waits(s: RuleContext) -> bool:
    """Return whether messages wait in a queue, or more requests in engines than these take up in their next step."""
    noise = {"visible": 0.0, "waiting": SURGE * max(1, s.ready or 0)}
    quantities = ((signal.rpartition(".")[2], reading) for signal, reading in s.observation.readings.items())
    return any(isinstance(r, Fresh) and r.value > noise[q] for q, r in quantities if q in noise)


def _lasts_s(need: float, ready: int, s: RuleContext) -> float:
    """Return how long the need stays above what serves at its pace (least squares); infinite where it does not fall."""
    since = s.now - max(s.spec.scale_down.window_s, LEAST_S)
    at = np.append(s.history.column(AT, since), s.now)
    wanted = np.append(s.history.column(WANTED, since), whole_replicas(need))
    seen = ~np.isnan(wanted)
    off = at[seen] - at[seen].mean()
    fell = -float(off @ wanted[seen])
    return (need - ready) * float(off @ off) / fell if fell > 0 else math.inf


def _pending(s: RuleContext) -> Iterator[tuple[float, float]]:
    """Yield each pending replica that is counted on: the seconds until it is likely to serve, and what it carries."""
    for name in s.sizes:
        pool, reading, market = s.spec.pools[name], s.observation.pools[name], s.history.pool_memories.of(name)
        if isinstance(reading, Absent):
            continue
        takes, leads = pool.market == "spot", market.lead_times
        patience_s, lead_s = leads.patience_s(pool.lead_time_s), leads.usual_s(pool.lead_time_s)
        count = market.expected_pending(reading.value, s.now, patience_s, takes=takes)
        since = leads.pending_since(s.now, patience_s, heed_doubt=takes)[:count]
        for at in (*since, *[s.now] * (count - len(since))):
            yield max(0.0, at + lead_s - s.now), pool.work_per_replica
