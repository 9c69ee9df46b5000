"""Settings of the operator: a temporary size, maintenance windows, and pause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from policies.model import RuleId, Step
from policies.model.weekly_window import local_time, time_text
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import PoolName
    from policies.recommend.context import RuleContext


def override(size: int, context: RuleContext) -> Step | None:
    """Return the override's size; report one that has ended."""
    setting = context.spec.override
    if setting is None:
        return None
    why = f" ({setting.reason})" if setting.reason else ""
    if not setting.in_force(context.now):
        text = f"the override to {setting.replicas}{why} ended at {setting.until}: remove it from the configuration"
        return Step(RuleId.OVERRIDE, size, text)
    text = f"override to {setting.replicas} until {setting.until}{why}"
    return Step(RuleId.OVERRIDE, setting.replicas, f"{text}; {size} without it" if setting.replicas != size else text)


def maintenance_forbids(context: RuleContext) -> tuple[bool, bool, str]:
    """Return whether maintenance forbids scale-in, whether it forbids scale-out, and the reason."""
    maintenance, setting = context.spec.maintenance, context.spec.override
    if not maintenance.windows or (setting is not None and setting.in_force(context.now)):
        return False, False, ""
    local = local_time(context.now, maintenance.time_zone)
    open_now = [w for w in maintenance.windows if w.covers(local)]
    if not open_now:
        return False, False, ""
    spans = ", ".join(f"{w.start} to {w.end} ({w.mode})" for w in open_now)
    no_scale_in = any(w.mode in {"hold", "no_scale_in"} for w in open_now)
    no_scale_out = any(w.mode in {"hold", "no_scale_out"} for w in open_now)
    return no_scale_in, no_scale_out, f"maintenance window {spans}; now {time_text(local, maintenance.time_zone)}"


def maintain(size: int, context: RuleContext) -> Step | None:
    """Keep the current size in a window that forbids the change."""
    no_scale_in, no_scale_out, why = maintenance_forbids(context)
    if (size < context.current and no_scale_in) or (size > context.current and no_scale_out):
        return Step(RuleId.MAINTENANCE, context.current, f"{why}; {size} without it")
    return None


def maintain_pools(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Keep each pool's size in a window that forbids its change, in a move as well.

    Where growth is cut, as many removals are cancelled. Example: scale-out is forbidden, a is to go from 2 to 3 and b
    from 2 to 1: both keep 2.
    """
    no_scale_in, no_scale_out, why = maintenance_forbids(context)
    if not (no_scale_in or no_scale_out):
        return None
    desired, allowed = context.desired, dict(targets)
    for name, target in targets.items():
        if (target < desired[name] and no_scale_in) or (target > desired[name] and no_scale_out):
            allowed[name] = desired[name]
    missing = min(sum(targets.values()), sum(desired[name] for name in targets)) - sum(allowed.values())
    for name, size in allowed.items():
        restored = max(0, min(missing, desired[name] - size))
        allowed[name] = size + restored
        missing -= restored
    if allowed == targets:
        return None
    return allowed, Step(RuleId.MAINTENANCE, replica_equivalents(context.spec, {**desired, **allowed}), why)


def pause(size: int, context: RuleContext) -> Step | None:
    """Keep the current size while the workload is paused, and report the other one."""
    if context.spec.paused and size != context.current:
        return Step(RuleId.PAUSED, context.current, f"the configuration sets paused: true; {size} without it")
    return None
