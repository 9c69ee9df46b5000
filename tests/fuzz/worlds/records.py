"""What must hold of records: they add up, say why, survive the journal, and can be decided again."""

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
from tests.fuzz.worlds.turn import Turn


def sizes_add_up(turn: Turn) -> str | None:
    """Size, ready and target are the pools' sums, or no more where money decides; no size without all pools'."""
    d, pools = turn.decision, turn.spec.pools
    if len(turn.found) < len(pools):
        held = (d.current, d.target, d.ready, dict(d.targets))
        return None if held == (None, None, None, {}) else f"decided {held}, and not every pool's size is known"
    if d.current is None or d.target is None or d.ready is None:
        return "every pool's size is known, and none is decided"
    if d.targets.keys() - pools.keys():
        return f"targets {dict(d.targets)} for pools that there are not"
    if not all(isinstance(reading, Fresh) for reading in turn.tick.observation.pools.values()):
        return None  # what was requested of a pool since it was read counts, and is not in the tick
    sizes = {name: status.desired for name, status in turn.found.items()}
    told = (d.current, d.target)
    made = (sum(sizes.values()), sum({**sizes, **d.targets}.values()))
    sound = told == made if turn.simple else told[0] <= made[0] and told[1] <= made[1]
    ready = sum(status.ready for status in turn.found.values())
    return (
        None if sound and d.ready == ready else f"size and target {told}, ready {d.ready}: pools make {made}, {ready}"
    )


def reasons_are_given(turn: Turn) -> str | None:
    """Every recommendation and rule says why, the last rule ends at the target, and every refusal has its reason."""
    d = turn.decision
    if not d.steps:
        return "no rule says anything"
    for what, reason in [(r.policy, r.reason) for r in d.recommendations] + [(s.rule, s.reason) for s in d.steps]:
        if not reason.strip():
            return f"{what} gives no reason"
    last = d.steps[-1].replicas
    if (
        turn.simple
        and last != d.target
        and (last is None or not math.isfinite(last) or whole_replicas(last) != d.target)
    ):
        return f"the target is {d.target}, and the last rule ({d.steps[-1].rule}) says {last}"
    if {r.policy for r in d.recommendations} != set(turn.spec.policies):
        return f"{len(turn.spec.policies)} policies, and {len(d.recommendations)} recommendations"
    return next(
        (f"{o.pool} is refused without a reason" for o in turn.tick.outcomes if o.result.refused and not o.reason), None
    )


def outcomes_match(turn: Turn) -> str | None:
    """Each pool's target has one outcome, from the size found to the target, unchanged exactly if they are equal."""
    d = turn.decision
    if sorted(o.pool for o in turn.tick.outcomes) != sorted(d.targets):
        return f"targets for {sorted(d.targets)}, outcomes of {sorted(o.pool for o in turn.tick.outcomes)}"
    decided = {name: (found, target) for name, found, target in turn.changes}
    for o in turn.tick.outcomes:
        if (o.before, o.after) != decided.get(o.pool):
            return f"{o.pool}: {o.before} -> {o.after} done, and (found, decided) is {decided.get(o.pool)}"
        if (o.result is Result.UNCHANGED) != (o.before == o.after):
            return f"{o.pool}: {o.before} -> {o.after} is {o.result.value}"
    return None


def numbers_are_finite(turn: Turn) -> str | None:
    """No number in a decision is NaN or infinite, and sizes are whole numbers, none below zero."""
    for place, value in _numbers(dataclasses.asdict(turn.decision), ""):
        if not math.isfinite(value):
            return f"{place.strip('.')} is {value}"
    d = turn.decision
    sizes = [d.capped_need, d.current, d.ready, d.target, *d.targets.values(), *(o.after for o in turn.tick.outcomes)]
    strange = [size for size in sizes if size is not None and (type(size) is not int or size < 0)]
    return f"a size is {strange[0]!r}" if strange else None


def _numbers(data: Any, place: str) -> Iterator[tuple[str, float]]:
    """Every number in plain data, with its place."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _numbers(value, f"{place}.{key}")
    elif isinstance(data, list | tuple):
        for k, value in enumerate(data):
            yield from _numbers(value, f"{place}[{k}]")
    elif isinstance(data, int | float):
        yield place, data


def the_journal_keeps_it(turn: Turn) -> str | None:
    """What the journal gives back equals what was written."""
    try:
        again = journalled(turn.tick)
    except (KeyError, TypeError, ValueError) as e:
        return f"cannot be written and read back: {e!r}"
    if again == turn.tick:
        return None
    parts = [f.name for f in dataclasses.fields(Tick) if getattr(again, f.name) != getattr(turn.tick, f.name)]
    return f"comes back with another {', '.join(parts)}"


def journalled(tick: Tick) -> Tick:
    """A tick as the journal gives it back."""
    return decode_tick(json.loads(json.dumps(encode_tick(tick), allow_nan=False)))


def decided_again_is_the_same(turn: Turn) -> str | None:
    """`decide`, asked again with the same past and what was seen, gives the same decision."""
    if turn.tick.history_len != len(turn.history):
        return f"the history held {turn.tick.history_len} turns, and the records give {len(turn.history)}"
    again = decide(turn.spec, turn.history, turn.tick.observation)
    for field in dataclasses.fields(again):
        recorded, anew = getattr(turn.decision, field.name), getattr(again, field.name)
        if recorded != anew:
            return f"{field.name}: {recorded} recorded, {anew} decided again"
    return None


def turns_follow_each_other(turn: Turn) -> str | None:
    """Turns stand an interval apart, and everything in a turn is of one time."""
    if turn.decision.at != turn.tick.observation.at:
        return f"seen at {turn.tick.observation.at}, decided at {turn.decision.at}"
    if turn.past:
        gap_s = turn.now.at - turn.past[-1].at
        if abs(gap_s - turn.spec.interval_s) > 1e-3:
            return f"{gap_s:g} s after the turn before, at an interval of {turn.spec.interval_s:g} s"
    return None
