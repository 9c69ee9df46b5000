"""Pending replicas that serve before the waiting work is done are not cancelled.

A backlog lasts until new replicas serve, and the need may fall meanwhile: less work waits, or the pending replicas
count as enough. A cancelled replica would be requested again soon, and its lead time would begin again.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import AT, CAPPED_NEED
from policies.model import Absent, Fresh, RuleId, Step
from policies.recommend.predictive.engine_load import SURGE
from policies.signals.demand import whole_replicas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from policies.recommend.context import RuleContext

MIN_WINDOW_S: Final = 60.0
"""The pace of a need is measured over the scale-down window, or over this if that is longer."""


def keep_pending(size: int, context: RuleContext) -> Step | None:
    """Retain pending replicas that serve before the ready ones could finish the waiting work.

    Example: 4 serve, 15 are pending and serve in 400 s, 19 were needed and 14 are now: the size stays 19. Where the
    need falls by one in 30 s, the 4 are enough in 300 s, before the 15 serve: these go as the windows allow. Failed and
    abandoned replicas are not retained, and a budget that is exceeded removes pending replicas first.
    """
    need, ready = context.need, context.ready
    if need is None or ready is None or size >= context.current or need <= ready or not _has_waiting_work(context):
        return None
    if any(r.need is not None and r.need > need for r in context.recommendations):
        return None
    duration_s = _need_duration_s(need, ready, context)
    pending = sum(work for wait_s, work in _pending(context) if wait_s < duration_s)
    retained = min(context.current, whole_replicas(ready + pending))
    if retained <= size:
        return None
    reason = f"work waits, and {retained - ready} pending replicas serve before the ready ones finish it"
    return Step(RuleId.PENDING, retained, reason)


def _has_waiting_work(context: RuleContext) -> bool:
    """Return whether messages wait, or more requests than the engines' next step admits."""
    thresholds = {"visible": 0.0, "waiting": SURGE * max(1, context.ready or 0)}
    quantities = ((signal.rpartition(".")[2], reading) for signal, reading in context.observation.readings.items())
    return any(isinstance(r, Fresh) and r.value > thresholds[q] for q, r in quantities if q in thresholds)


def _need_duration_s(need: float, ready: int, context: RuleContext) -> float:
    """Return how long a falling need stays above `ready`, by a least-squares line, or infinity.

    Example: a need of 14 that falls by one in 30 s reaches 4 ready replicas in ``(14 - 4) * 30 = 300`` s.
    """
    since = context.now - max(context.spec.scale_down.window_s, MIN_WINDOW_S)
    at = context.history.column_to_now(AT, since, context.now)
    needs = context.history.column_to_now(CAPPED_NEED, since, whole_replicas(need))
    known = ~np.isnan(needs)
    deviation_s = at[known] - at[known].mean()
    falling = -float(deviation_s @ needs[known])
    return (need - ready) * float(deviation_s @ deviation_s) / falling if falling > 0 else math.inf


def _pending(context: RuleContext) -> Iterator[tuple[float, float]]:
    """Yield the seconds until each expected pending replica probably serves, and its capacity."""
    for name in context.sizes:
        pool, reading = context.spec.pools[name], context.observation.pools[name]
        if isinstance(reading, Absent):
            continue
        memory, is_spot = context.history.pool_memories.of(name), pool.market == "spot"
        lead_times = memory.lead_times
        patience_s, lead_s = lead_times.patience_s(pool.lead_time_s), lead_times.usual_s(pool.lead_time_s)
        count = memory.expected_pending(reading.value, context.now, patience_s, interruptible=is_spot)
        since = lead_times.pending_since(context.now, patience_s, without_replacements=is_spot)[:count]
        for at in (*since, *[context.now] * (count - len(since))):
            yield max(0.0, at + lead_s - context.now), pool.work_per_replica
