"""Invariants of records: sums, reasons, the journal's round trip, and reproducible decisions."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from policies.model import Fresh, Result, Tick
from policies.pipeline import decide
from policies.signals.demand import whole_replicas
from scaler.journal.codec import decode_tick, encode_tick
from tests.fuzz.worlds.tick_context import TickContext


def sizes_add_up(context: TickContext) -> str | None:
    """Size, ready and target are the pools' sums, or at most these if pools differ in cost; none without all pools."""
    d, pools = context.decision, context.spec.pools
    if len(context.statuses) < len(pools):
        decided = (d.current, d.target, d.ready, dict(d.targets))
        return None if decided == (None, None, None, {}) else f"decided {decided}, and not every pool's size is known"
    if d.current is None or d.target is None or d.ready is None:
        return "every pool's size is known, and none is decided"
    if d.targets.keys() - pools.keys():
        return f"targets {dict(d.targets)} for pools that there are not"
    if not all(isinstance(reading, Fresh) for reading in context.tick.observation.pools.values()):
        return None  # replicas requested since the pool was read count, but are not in the tick
    sizes = {name: status.desired for name, status in context.statuses.items()}
    decided_sizes = (d.current, d.target)
    pool_sizes = (sum(sizes.values()), sum({**sizes, **d.targets}.values()))
    sound = (
        decided_sizes == pool_sizes
        if context.pools_are_alike
        else decided_sizes[0] <= pool_sizes[0] and decided_sizes[1] <= pool_sizes[1]
    )
    ready = sum(status.ready for status in context.statuses.values())
    return (
        None
        if sound and d.ready == ready
        else f"size and target {decided_sizes}, ready {d.ready}: pools make {pool_sizes}, {ready}"
    )


def reasons_are_given(context: TickContext) -> str | None:
    """Every recommendation, rule and refusal has a reason, and the last rule ends at the target."""
    d = context.decision
    if not d.steps:
        return "no rule says anything"
    for what, reason in [(r.policy, r.reason) for r in d.recommendations] + [(s.rule, s.reason) for s in d.steps]:
        if not reason.strip():
            return f"{what} gives no reason"
    last = d.steps[-1].replicas
    if (
        context.pools_are_alike
        and last != d.target
        and (last is None or not math.isfinite(last) or whole_replicas(last) != d.target)
    ):
        return f"the target is {d.target}, and the last rule ({d.steps[-1].rule}) says {last}"
    if {r.policy for r in d.recommendations} != set(context.spec.policies):
        return f"{len(context.spec.policies)} policies, and {len(d.recommendations)} recommendations"
    return next(
        (f"{o.pool} is refused without a reason" for o in context.tick.outcomes if o.result.refused and not o.reason),
        None,
    )


def outcomes_match(context: TickContext) -> str | None:
    """Each pool's target has one outcome, from the observed size to the target, unchanged exactly if they are equal."""
    d = context.decision
    if sorted(o.pool for o in context.tick.outcomes) != sorted(d.targets):
        return f"targets for {sorted(d.targets)}, outcomes of {sorted(o.pool for o in context.tick.outcomes)}"
    decided = {name: (size, target) for name, size, target in context.changes}
    for o in context.tick.outcomes:
        if (o.before, o.after) != decided.get(o.pool):
            return f"{o.pool}: {o.before} -> {o.after} done, and (found, decided) is {decided.get(o.pool)}"
        if (o.result is Result.UNCHANGED) != (o.before == o.after):
            return f"{o.pool}: {o.before} -> {o.after} is {o.result.value}"
    return None


def numbers_are_finite(context: TickContext) -> str | None:
    """No number in a decision is NaN or infinite, and sizes are whole numbers of at least zero."""
    for place, value in _numbers(dataclasses.asdict(context.decision), ""):
        if not math.isfinite(value):
            return f"{place.strip('.')} is {value}"
    d = context.decision
    sizes = [
        d.capped_need,
        d.current,
        d.ready,
        d.target,
        *d.targets.values(),
        *(o.after for o in context.tick.outcomes),
    ]
    invalid = [size for size in sizes if size is not None and (type(size) is not int or size < 0)]
    return f"a size is {invalid[0]!r}" if invalid else None


def _numbers(data: Any, place: str) -> Iterator[tuple[str, float]]:
    """Yield every number in plain data, with its path."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _numbers(value, f"{place}.{key}")
    elif isinstance(data, list | tuple):
        for k, value in enumerate(data):
            yield from _numbers(value, f"{place}[{k}]")
    elif isinstance(data, int | float):
        yield place, data


def journal_round_trip(context: TickContext) -> str | None:
    """A tick read back from the journal equals the tick that was written."""
    try:
        decoded = journalled(context.tick)
    except (KeyError, TypeError, ValueError) as e:
        return f"cannot be written and read back: {e!r}"
    if decoded == context.tick:
        return None
    parts = [f.name for f in dataclasses.fields(Tick) if getattr(decoded, f.name) != getattr(context.tick, f.name)]
    return f"comes back with another {', '.join(parts)}"


def journalled(tick: Tick) -> Tick:
    """Return a tick after a round trip through the journal's encoding."""
    return decode_tick(json.loads(json.dumps(encode_tick(tick), allow_nan=False)))


def decided_again_is_the_same(context: TickContext) -> str | None:
    """A second call of `decide` with the same history and observation gives the same decision."""
    if context.tick.history_len != len(context.history):
        return f"the history held {context.tick.history_len} ticks, and the records give {len(context.history)}"
    decoded = decide(context.spec, context.history, context.tick.observation)
    for field in dataclasses.fields(decoded):
        recorded, repeated = getattr(context.decision, field.name), getattr(decoded, field.name)
        if recorded != repeated:
            return f"{field.name}: {recorded} recorded, {repeated} decided again"
    return None


def ticks_are_one_interval_apart(context: TickContext) -> str | None:
    """Ticks are one interval apart, and everything in a tick has the same time."""
    if context.decision.at != context.tick.observation.at:
        return f"seen at {context.tick.observation.at}, decided at {context.decision.at}"
    if context.past:
        gap_s = context.now.at - context.past[-1].at
        if abs(gap_s - context.spec.interval_s) > 1e-3:
            return f"{gap_s:g} s after the turn before, at an interval of {context.spec.interval_s:g} s"
    return None
