"""Bounds on what a policy recommends, so that no later stage meets a need whose size only a reading limits.

A need beyond the maximum tells an operator by how much that is too low, so it is kept up to ten times the larger of
`max_replicas` and the size found: with a maximum of 20 and 5 replicas found, a need of 1e15 counts as 200, and one of
36 stays 36.
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

BEYOND: Final = 10.0
"""Times the maximum or the size found that a need may state: enough to see by how much a maximum is too low."""


def most_needed(spec: WorkloadSpec, current: int | None) -> float:
    """Return the largest need that counts, in replicas."""
    return BEYOND * max(spec.max_replicas, current or 0)


def bounded(r: Recommendation, most: float, remembered: Mapping[str, float]) -> Recommendation:
    """Return the recommendation with no need above `most`, and no opinion where a need is no number.

    `remembered` is what the policy handed on before: it stays where what it hands on now holds something that is no
    number.
    """
    memory = r.memory if all(map(math.isfinite, r.memory.values())) else remembered
    needs = [n for n in (r.replicas, r.unstabilized) if n is not None]
    if not all(map(math.isfinite, needs)):
        why = f"no opinion: its need is not a number ({r.reason})"
        return replace(
            _silent(r),
            replicas=None,
            unstabilized=None,
            evidence=Evidence.BLIND,
            active=False,
            reason=why,
            memory=memory,
        )
    work = None if r.work is None or not math.isfinite(r.work) else min(r.work, most)
    peaks = tuple((q, min(peak, most)) for q, peak in r.peaks) if _finite(r.peaks) else ()
    if max(needs, default=0.0) <= most:
        if memory is r.memory and work == r.work and peaks == r.peaks:
            return r
        return replace(r, memory=memory, work=work, peaks=peaks)
    reason = f"{r.reason}; counted as {most:g}, {BEYOND:g} times the larger of max_replicas and the size found"
    return replace(
        r,
        replicas=_at_most(r.replicas, most),
        unstabilized=_at_most(r.unstabilized, most),
        latency_driven=_late_part(r, most),
        pools={},
        reason=reason,
        memory=memory,
        work=work,
        peaks=peaks,
    )


def _silent(r: Recommendation) -> Recommendation:
    return replace(r, work=None, peaks=(), latency_driven=None, pools={})


def _finite(peaks: tuple[tuple[float, float], ...]) -> bool:
    return all(math.isfinite(peak) for _, peak in peaks)


def _at_most(need: float | None, most: float) -> float | None:
    return None if need is None else min(need, most)


def _late_part(r: Recommendation, most: float) -> float | None:
    """Return the part that is asked for because users wait, of what is left: load is met first."""
    if r.latency_driven is None or r.need is None:
        return None
    return min(r.need, most) - min(r.need - r.latency_driven, most)
