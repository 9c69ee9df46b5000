"""Bounds on recommendations: no reading can request an unlimited number of replicas.

A need above `max_replicas` shows an operator by how much the setting is too low, so needs are limited to ten times the
larger of `max_replicas` and the current size. Example: with max_replicas 20 and 5 current replicas, a need of 1e15
counts as 200, and a need of 36 stays 36.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from policies.model import Evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Recommendation
    from policies.model.spec import WorkloadSpec

MAX_NEED_RATIO: Final = 10.0
"""A need is at most this multiple of `max_replicas` or the current size: enough to show how low a maximum is."""


def max_need(spec: WorkloadSpec, current: int | None) -> float:
    """Return the largest need that counts, in replicas.

    Example: 200 with max_replicas 20 and 5 current replicas.
    """
    return MAX_NEED_RATIO * max(spec.max_replicas, current or 0)


def bounded_recommendation(
    recommendation: Recommendation, maximum: float, last_memory: Mapping[str, float]
) -> Recommendation:
    """Return the recommendation with needs of at most `maximum`.

    If a need is not finite, the recommendation has no need. `last_memory` is the policy's memory before this tick. It
    replaces a memory with a value that is not finite.
    """
    needs = [n for n in (recommendation.replicas, recommendation.unstabilized) if n is not None]
    has_needs_only = recommendation.work is None and not (recommendation.memory or recommendation.peaks)
    if has_needs_only and all(-math.inf < n <= maximum for n in needs):
        return recommendation
    memory = recommendation.memory if all(map(math.isfinite, recommendation.memory.values())) else last_memory
    if not all(map(math.isfinite, needs)):
        reason = f"no recommendation: the need is not a finite number ({recommendation.reason})"
        return replace(
            _silent(recommendation),
            replicas=None,
            unstabilized=None,
            evidence=Evidence.BLIND,
            active=False,
            reason=reason,
            memory=memory,
        )
    work = (
        None
        if recommendation.work is None or not math.isfinite(recommendation.work)
        else min(recommendation.work, maximum)
    )
    peaks = tuple((q, min(peak, maximum)) for q, peak in recommendation.peaks) if _finite(recommendation.peaks) else ()
    if max(needs, default=0.0) <= maximum:
        if memory is recommendation.memory and work == recommendation.work and peaks == recommendation.peaks:
            return recommendation
        return replace(recommendation, memory=memory, work=work, peaks=peaks)
    reason = (
        f"{recommendation.reason}; limited to {maximum:g} replicas, {MAX_NEED_RATIO:g} times the larger of max_replicas"
        " and the current size"
    )
    return replace(
        recommendation,
        replicas=_at_most(recommendation.replicas, maximum),
        unstabilized=_at_most(recommendation.unstabilized, maximum),
        latency_driven=_late_part(recommendation, maximum),
        pools={},
        reason=reason,
        memory=memory,
        work=work,
        peaks=peaks,
    )


def _silent(recommendation: Recommendation) -> Recommendation:
    return replace(recommendation, work=None, peaks=(), latency_driven=None, pools={})


def _finite(peaks: tuple[tuple[float, float], ...]) -> bool:
    return all(math.isfinite(peak) for _, peak in peaks)


def _at_most(need: float | None, maximum: float) -> float | None:
    return None if need is None else min(need, maximum)


def _late_part(recommendation: Recommendation, maximum: float) -> float | None:
    """Return the part for late requests within `maximum`, which load uses first.

    Example: of a need of 250, 100 are for late requests. With a maximum of 200, load keeps 150 and 50 are left.
    """
    if recommendation.latency_driven is None or recommendation.need is None:
        return None
    return min(recommendation.need, maximum) - min(recommendation.need - recommendation.latency_driven, maximum)
