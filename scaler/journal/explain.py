"""Renders a tick as text: why this size, for a reader who does not know the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from policies.model import (
    Absent,
    Evidence,
    Fresh,
    PoolStatus,
    Reading,
    Recommendation,
    Result,
    RuleId,
    Stale,
    Step,
    Tick,
)
from scaler.shadow.counterfactual import ShadowTick


def paragraphs(tick: Tick) -> Iterator[str]:
    """Yield the decision of one tick, line by line."""
    d = tick.decision
    yield f"{tick.workload} at {timestamp(tick.at)}: {verdict(tick)}"
    yield "  Found:"
    yield from (f"    {line}" for line in _observation_lines(tick))
    if (grant := tick.observation.grant) is not None:
        yield "  Granted by the fleet:"
        for quota in (grant.gpus, grant.usd_per_hour, grant.removable):
            if quota is not None:
                yield f"    {quota.reason}"
    yield "  Each policy:"
    for r in d.recommendations:
        yield f"    {r.policy}: {_recommendation(r)}"
    yield "  Then:"
    for step in d.steps:
        yield f"    {_step(step)}"
    if d.cost_usd_per_hour is not None:
        yield f"  It costs {d.cost_usd_per_hour:.2f} USD an hour."
    yield "  Done:"
    for o in tick.outcomes:
        change = f"stays at {o.after}" if o.before == o.after else f"{o.before} -> {o.after}"
        yield f"    {o.pool} {change}: {_result(o.result)}{': ' + o.reason if o.reason else ''}"
    if not tick.outcomes:
        yield "    nothing was written"


def _observation_lines(tick: Tick) -> Iterator[str]:
    """Yield the observed pools, readings and errors, and the zeros under suspicion."""
    observation = tick.observation
    for name, pool in observation.pools.items():
        yield f"{name}: {_pool(pool, observation.pool_errors.get(name, ''))}"
        if not isinstance(pool, Absent):
            yield from (f"  {remark}" for remark in remarks(pool.value))
    for signal, reading in observation.readings.items():
        failed = signal.partition(".")[0] in observation.source_errors
        yield f"{signal}: {_reading(reading, tick.at, failed=failed)}"
    for source, error in observation.source_errors.items():
        yield f"source {source} could not be read: {error}"
    for source, reason in tick.decision.suspected_zeros.items():
        yield f"source {source} is not believed: {reason}"


def shadow_paragraphs(shadow_tick: ShadowTick) -> Iterator[str]:
    """Yield the decision of one tick of a shadow, line by line, and the sizes that are compared."""
    lines = paragraphs(shadow_tick.tick)
    yield f"shadow of {next(lines)}"
    for line in lines:
        if line == "  Done:":
            break
        yield line
    yield "  Beside the policy that is run:"
    for who, side in (("it", shadow_tick.shadow), ("the one that is run", shadow_tick.first)):
        verb = "holds" if who == "it" or shadow_tick.open_loop else "is found at"
        price = "" if side.usd_per_hour is None else f", {side.usd_per_hour:.2f} USD an hour"
        late = "" if side.late is None else f"; {side.late:.1f} requests late"
        yield f"    {who} {verb} {side.requested}, {side.serving:g} of them serving{price}{late}"
    if shadow_tick.shadow.late is None:
        reason = shadow_tick.estimated_by if shadow_tick.interval_s else "nothing came before this turn"
        yield f"    late requests are not known: {reason}"
    else:
        yield f"    late requests over the {shadow_tick.interval_s:.0f} s before, by {shadow_tick.estimated_by}"


def verdict(tick: Tick) -> str:
    """Return the decision in one clause."""
    d = tick.decision
    if d.target is None:
        return "the size is not known, so it is left alone"
    needed = f"{d.steps[0].replicas:.2f} needed; " if len(d.steps) > 1 and d.steps[0].rule == RuleId.DEMAND else ""
    change = f"stays at {d.target}" if d.current == d.target else f"{d.current} -> {d.target} replicas"
    return f"{change} ({needed}{d.reason})"


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def size_summary(s: PoolStatus) -> str:
    """Return a pool's size in one clause."""
    reserved = "" if s.reserved is None else f"; {s.reserved} reserved"
    extra = _counts(
        {"still starting": s.pending, "soon to be taken": s.interruption_pending, "will not come": s.failed}
    )
    return f"{s.desired} asked for, {s.ready} ready{extra}{reserved}"


def _counts(counts: Mapping[str, int]) -> str:
    return "".join(f", {n} {label}" for label, n in counts.items() if n)


def remarks(s: PoolStatus) -> Iterator[str]:
    """Yield a pool's parts, its shortfall and its other writer, one line each."""
    for part in s.parts:
        extra = _counts({"starting": part.pending, "soon to be taken": part.interruption_pending})
        yield f"{part.zone or 'no zone'}, {part.market}: {part.ready} ready{extra}"
    if s.shortfall is not None:
        resource = "quota" if s.shortfall.quota else "capacity"
        yield f"short of {resource} since {timestamp(s.shortfall.at)}: {s.shortfall.reason}"
    if s.other_writer:
        yield f"also sized by {s.other_writer}"


def _pool(reading: Reading[PoolStatus], error: str) -> str:
    match reading:
        case Fresh(s):
            return size_summary(s)
        case Stale(s, _, age_s):
            cause = error or "too old to write against"
            return f"left alone: {s.desired} asked for and {s.ready} ready were last seen {age_s:.0f} s ago ({cause})"
        case Absent(reason):
            return f"size not known ({reason})"


def _reading(reading: Reading[float], now: float, *, failed: bool) -> str:
    match reading:
        case Fresh(value, measured_at, missing):
            bound = f"at least {value:g} ({missing})" if missing else f"{value:g}"
            return f"{bound}, measured {max(0.0, now - measured_at):.0f} s before"
        case Stale(value, _, age_s):
            cause = "the last read failed; " if failed else ""
            return f"stale: {cause}the last value, {value:g}, is {age_s:.0f} s old and is not acted on"
        case Absent(reason):
            return f"absent, which is not zero ({reason})"


def _recommendation(r: Recommendation) -> str:
    if r.replicas is None:
        return r.reason
    limits = {
        Evidence.FULL: "",
        Evidence.PARTIAL: "; may raise only, since a part of its signals is missing",
        Evidence.BLIND: "; blind",
    }
    return f"wants {r.replicas:.2f} replicas' worth of work: {r.reason}{limits[r.evidence]}"


def _step(step: Step) -> str:
    size = "" if step.replicas is None else f"{step.replicas:g} - "
    return f"{step.rule}: {size}{step.reason}"


def _result(result: Result) -> str:
    return result.value.replace("_", " ")
