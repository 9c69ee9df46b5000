"""The operator's hands: a size set for a while, weekly windows in which nothing moves, and pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.model import RuleId, Step
from policies.model.weekly_window import local_time, time_text
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import PoolName
    from policies.model.limits import Override
    from policies.recommend.context import RuleContext


def override_in_force(s: RuleContext) -> Override | None:
    """The override that holds now."""
    override = s.spec.override
    return override if override is not None and override.in_force(s.now) else None


def override(size: int, s: RuleContext) -> Step | None:
    """The size set by hand, in the place of what policies, windows and steps made.

    One that has ended does nothing but say so.
    """
    given = s.spec.override
    if given is None:
        return None
    why = f" ({given.reason})" if given.reason else ""
    if not given.in_force(s.now):
        return Step(RuleId.OVERRIDE, size, f"the override to {given.replicas}{why} ended at {given.until}: remove it")
    told = f"set by hand to {given.replicas} until {given.until}{why}"
    return Step(RuleId.OVERRIDE, given.replicas, f"{told}; {size} otherwise" if given.replicas != size else told)


def maintenance_forbids(s: RuleContext) -> tuple[bool, bool, str]:
    """Whether maintenance forbids to shrink, and to grow, and the words for it."""
    maintenance = s.spec.maintenance
    if not maintenance.windows or override_in_force(s) is not None:
        return False, False, ""
    local = local_time(s.now, maintenance.time_zone)
    open_now = [w for w in maintenance.windows if w.covers(local)]
    if not open_now:
        return False, False, ""
    spans = ", ".join(f"{w.start} to {w.end} ({w.mode})" for w in open_now)
    no_in = any(w.mode in {"hold", "no_scale_in"} for w in open_now)
    no_out = any(w.mode in {"hold", "no_scale_out"} for w in open_now)
    return no_in, no_out, f"maintenance, {time_text(local, maintenance.time_zone)}: {spans}"


def maintain(size: int, s: RuleContext) -> Step | None:
    """Neither shrink nor grow in a window that forbids it."""
    no_in, no_out, why = maintenance_forbids(s)
    if (size < s.current and no_in) or (size > s.current and no_out):
        return Step(RuleId.MAINTENANCE, s.current, f"{why}; {size} would be the size")
    return None


def maintain_pools(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """The same for each pool: none shrinks in exchange for another, nor is brought within its bounds."""
    no_in, no_out, why = maintenance_forbids(s)
    if not (no_in or no_out):
        return None
    kept = dict(targets)
    for name, target in targets.items():
        if (target < s.desired[name] and no_in) or (target > s.desired[name] and no_out):
            kept[name] = s.desired[name]
    lacking = min(sum(targets.values()), sum(s.desired[name] for name in targets)) - sum(kept.values())
    for name, size in kept.items():
        back = max(0, min(lacking, s.desired[name] - size))
        kept[name] = size + back
        lacking -= back
    if kept == targets:
        return None
    return kept, Step(RuleId.MAINTENANCE, replica_equivalents(s.spec, {**s.desired, **kept}), why)


def pause(size: int, s: RuleContext) -> Step | None:
    """Hold, and say what the size would be."""
    if s.spec.paused and size != s.current:
        return Step(RuleId.PAUSED, s.current, f"paused by configuration: {size} would be the size")
    return None
