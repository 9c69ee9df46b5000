"""What must hold of sizes: bounds, steps, windows, hands off."""

from __future__ import annotations

import math

from policies.allocate import quantum
from policies.model import Fresh
from policies.model.spec import ScaleDown, ScaleUp
from policies.signals.demand import EPSILON
from tests.fuzz.worlds.supply import short_of_quota
from tests.fuzz.worlds.turn import Turn, lacking


def within_the_workloads_bounds(turn: Turn) -> str | None:
    """The size decided is within the workload's bounds, or no further outside than the size found."""
    d, spec = turn.decision, turn.spec
    if d.target is None or d.current is None:
        return None
    low, high = min(spec.min_replicas, d.current), max(spec.max_replicas, d.current)
    if not low <= d.target <= high:
        return f"{d.current} -> {d.target}, and the bounds are {spec.min_replicas} to {spec.max_replicas}"
    sizes = {name: status.desired for name, status in turn.found.items()}
    before, after = sum(sizes.values()), sum({**sizes, **d.targets}.values())
    if after > max(before, spec.max_replicas):
        return f"the pools grow from {before} to {after}, and the maximum is {spec.max_replicas}"
    return None


def within_the_pools_bounds(turn: Turn) -> str | None:
    """Each pool's target is within the pool's own bounds, or no further outside than the size found."""
    for name, found, target in turn.changes:
        pool = turn.spec.pools[name]
        most = turn.spec.max_replicas if pool.max_replicas is None else pool.max_replicas
        if not min(pool.min_replicas, found) <= target <= max(most, found):
            return f"{name} {found} -> {target}, and its bounds are {pool.min_replicas} to {most}"
    return None


def hands_off(turn: Turn) -> str | None:
    """Nobody writes to a pool whose size is not fresh or that somebody else sizes, nor to any while paused."""
    if turn.spec.paused and (turn.decision.targets or turn.decision.target != turn.decision.current):
        return f"paused, and {turn.decision.current} -> {turn.decision.target}"
    return targets_of_own_pools(turn)


def targets_of_own_pools(turn: Turn) -> str | None:
    """Only pools whose size is fresh and that no other writer sizes have a target."""
    for name in turn.decision.targets:
        reading = turn.tick.observation.pools[name]
        if not isinstance(reading, Fresh):
            return f"{name} has a target, and its size is {reading}"
        if reading.value.other_writer and turn.spec.pools[name].on_other_writer == "yield":
            return f"{name} has a target, and {reading.value.other_writer} sizes it"
    return None


def growth_by_steps(turn: Turn) -> str | None:
    """In any scale-up period, to an interval, a size grows by the step in whole quanta, but for minimums."""
    d = turn.decision
    if not turn.grows() or d.current is None or d.target is None or turn.by_hand():
        return None
    start = min([d.current, *_held(turn, turn.spec.scale_up)])
    most = max(start + _step(start, turn.spec.scale_up), d.current, turn.least) + turn.rounding
    if d.target > most:
        return f"{d.current} -> {d.target}; {start} within {turn.spec.scale_up.period_s:g} s allow {most}"
    return None


def shrinking_by_steps(turn: Turn) -> str | None:
    """In any scale-down period, to an interval, a size shrinks by the step or a quantum, but for the maximum."""
    d = turn.decision
    if not turn.shrinks() or d.current is None or d.target is None or turn.by_hand():
        return None
    start = max([d.current, *_held(turn, turn.spec.scale_down)])
    step = max(_step(start, turn.spec.scale_down), quantum.largest(turn.spec.pools.values()))
    least = min(start - step, d.current, turn.spec.max_replicas)
    if d.target < least:
        return f"{d.current} -> {d.target}; {start} within {turn.spec.scale_down.period_s:g} s allow {least}"
    return None


def _step(start: int, rule: ScaleUp | ScaleDown) -> int:
    return max(rule.max_replicas, math.ceil(start * rule.max_share))


def _held(turn: Turn, rule: ScaleUp | ScaleDown) -> list[int]:
    """The sizes that were decided in the period, and those found in it: the first turn found what came before it."""
    began = turn.now.at - rule.period_s + turn.spec.interval_s
    seen = list(turn.since(rule.period_s))
    sizes = [s.decision.target for s in seen] + [s.decision.current for s in seen if s.at >= began]
    return [size for size in sizes if size is not None]


def growth_window(turn: Turn) -> str | None:
    """A size grows no further than the least need in the scale-up window, but for minimums, quanta and one replica."""
    d, window_s = turn.decision, turn.spec.scale_up.window_s
    known = [s.decision.capped_need for s in turn.since(window_s) if s.decision.capped_need is not None]
    if not turn.grows() or window_s == 0 or not known or turn.by_hand():
        return None
    most = max(min(known), turn.least, 1) + turn.rounding
    if d.target is not None and d.target > most:
        return (
            f"{d.current} -> {d.target}, and in the last {window_s:g} s no more than {min(known)} was wanted throughout"
        )
    return None


def scale_down_window(turn: Turn) -> str | None:
    """A size shrinks to the largest need in the scale-down window or stays above, and only if all of it was seen.

    Unless the workload comes to rest: what is needed below the activation keeps nothing then.
    """
    d, window_s = turn.decision, turn.spec.scale_down.window_s
    if not turn.shrinks() or d.target is None or d.current is None or turn.by_hand() or _at_rest(turn):
        return None
    wanted = [s.decision.capped_need for s in turn.since(window_s)] if window_s else []
    wanted.append(d.capped_need)
    highest = min(max((n for n in wanted if n is not None), default=0), d.current, turn.spec.max_replicas)
    if d.target < highest:
        return f"{d.current} -> {d.target}, and {highest} was wanted in the last {window_s:g} s"
    if window_s and d.target < min(d.current, turn.spec.max_replicas) and not _seen_throughout(turn, window_s):
        return f"{d.current} -> {d.target}, and the last {window_s:g} s were not seen throughout"
    return None


def tolerance(turn: Turn) -> str | None:
    """A need within the tolerance of the size found changes nothing, but for bounds and the way to zero."""
    d = turn.decision
    needs = [r.need for r in d.recommendations if r.need is not None]
    if not d.current or d.target in {None, d.current, 0} or not needs or d.capped_need is None or turn.by_hand():
        return None
    need = min(max(needs), d.capped_need)
    inside = abs(need / d.current - 1) <= turn.spec.tolerance + EPSILON
    if inside and not _at_rest(turn) and turn.least <= d.current <= turn.spec.max_replicas:
        return f"{d.current} -> {d.target} for a need of {need:g}, with a tolerance of {turn.spec.tolerance:g}"
    return None


def work_keeps_a_replica(turn: Turn) -> str | None:
    """Where there is work and a replica, one stays."""
    d = turn.decision
    if d.active and d.current and d.target == 0 and not turn.by_hand():
        return f"{d.current} -> 0, and there is work"
    return None


def work_wakes(turn: Turn) -> str | None:
    """Where there is work and no replica, one is asked for once the scale-up window is over, if the owner lets it.

    After a quota error a pool is left alone for minutes, whatever waits.
    """
    d = turn.decision
    budget = turn.spec.budget
    held_back = budget.gpus is not None or budget.usd_per_hour is not None or turn.forbids("hold", "no_scale_out")
    if not d.active or d.target != 0 or turn.spec.paused or turn.by_hand() or held_back:
        return None
    if not all(s.decision.active for s in turn.since(turn.spec.scale_up.window_s)):
        return None
    room = [n for n in d.targets if turn.spec.pools[n].max_replicas != 0 and not short_of_quota(n, turn)]
    if room:
        return f"there is work, and {', '.join(room)} stay at 0: {d.reason}"
    return None


def zero_is_earned(turn: Turn) -> str | None:
    """To zero only where the minimum allows it and the cooldown was seen to be without work throughout."""
    d, cooldown_s = turn.decision, turn.spec.cooldown_s
    if d.target != 0 or not d.current or turn.by_hand():
        return None
    if turn.spec.min_replicas > 0:
        return f"{d.current} -> 0, and the minimum is {turn.spec.min_replicas}"
    busy = [s.at for s in turn.since(cooldown_s) if s.decision.active]
    if busy:
        return f"{d.current} -> 0, and there was work {turn.now.at - busy[0]:g} s ago"
    if not _seen_throughout(turn, cooldown_s):
        return f"{d.current} -> 0, and the last {cooldown_s:g} s were not seen throughout"
    return None


def rest_comes(turn: Turn) -> str | None:
    """The last replica goes where zero is allowed and a cooldown saw no work, whatever need is left.

    At zero nothing is asked for either before there is work.
    """
    d, spec = turn.decision, turn.spec
    least = spec.min_replicas or any(p.min_replicas for p in spec.pools.values())
    if d.target is None or least or spec.paused or turn.by_hand():
        return None
    if d.current == 0 and d.target and d.demand is not None and not d.active:
        return f"it leaves zero for {d.target}, and there is no work: {d.reason}"
    if (d.current, d.target) != (1, 1) or turn.forbids("hold", "no_scale_in") or spec.blast_radius.share < 1.0:
        return None
    if not _at_rest(turn) or lacking(spec, turn.tick) or _stepped_down(turn):
        return None
    return f"it stays at 1, and there was no work for {spec.cooldown_s:g} s: {d.reason}"


def _stepped_down(turn: Turn) -> bool:
    """Whether the size was larger within the scale-down period."""
    return max(_held(turn, turn.spec.scale_down), default=1) > 1


def _at_rest(turn: Turn) -> bool:
    """Whether zero is allowed and a cooldown was seen to be without work throughout: no need counts then."""
    cooldown_s = turn.spec.cooldown_s
    quiet = not turn.decision.active and not any(s.decision.active for s in turn.since(cooldown_s))
    return quiet and turn.spec.min_replicas == 0 and _seen_throughout(turn, cooldown_s)


def _seen_throughout(turn: Turn, window_s: float) -> bool:
    """Whether no stretch of [now - window_s, now] without full evidence is longer than allowed."""
    allowed_s = max(turn.spec.scale_down.max_evidence_gap_s, 2.5 * turn.spec.interval_s)
    since, later = turn.now.at - window_s, turn.now.at
    for seen in reversed(turn.past):
        if not lacking(turn.spec, seen.tick):
            if later - seen.at > allowed_s:
                return False
            later = seen.at
            if later <= since:
                return True
    return False
