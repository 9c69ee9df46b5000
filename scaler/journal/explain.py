"""Renders a tick as text: why this size, for a reader who does not know the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from policies.model import (
    Absent,
    Decision,
    ErrorBudget,
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
from policies.model.error_budget import HOUR_S, MIN_MEASURED_S, window_text
from policies.model.names import BackendName
from policies.model.route import RouteDecision, RouteStatus
from scaler.shadow.counterfactual import ShadowTick

WRITES: Final = "  Writes:"
"""Title of the outcomes, which a shadow does not have."""


def paragraphs(tick: Tick) -> Iterator[str]:
    """Yield the decision of one tick, line by line."""
    d = tick.decision
    yield f"{tick.workload} at {timestamp(tick.at)}: {verdict(tick)}"
    yield "  Observed:"
    yield from (f"    {line}" for line in _observation_lines(tick))
    if (grant := tick.observation.grant) is not None:
        yield "  Limits of the fleet:"
        for quota in (grant.gpus, grant.usd_per_hour, grant.removable):
            if quota is not None:
                yield f"    {quota.reason}"
    if (budget := tick.observation.error_budget) is not None:
        yield f"  SLO {budget_text(budget)}"
    yield "  Policies:"
    for r in d.recommendations:
        yield f"    {r.policy}: {_recommendation(r)}"
    yield "  Rules:"
    for step in d.steps:
        yield f"    {_step(step)}"
    if d.cost_usd_per_hour is not None:
        yield f"  Cost: {d.cost_usd_per_hour:.2f} USD per hour{room_text(d)}"
    for name, split in d.routes.items():
        yield f"  Route {name}: {split_text(split)}"
    yield WRITES
    for o in tick.outcomes:
        change = f"keeps {o.after}" if o.before == o.after else f"{o.before} -> {o.after}"
        yield f"    {o.pool} {change}: {_result(o.result)}{': ' + o.reason if o.reason else ''}"
    if not tick.outcomes:
        yield "    no pool was resized"
    for route in tick.route_outcomes:
        change = f"keeps {weights_text(route.after)}"
        if route.before != route.after:
            change = f"{weights_text(route.before)} -> {weights_text(route.after)}"
        yield f"    route {route.route} {change}: {_result(route.result)}{': ' + route.reason if route.reason else ''}"


def split_text(split: RouteDecision) -> str:
    """Return the split of a route in one clause, with the cost of its providers."""
    usd = split.usd_per_hour
    cost = "; the cost of providers is unknown" if usd is None else f"; costs {usd:.2f} USD per hour" if usd else ""
    return f"{weights_text(split.weights)} ({split.reason}{cost})"


def weights_text(weights: Mapping[BackendName, int]) -> str:
    """Return weights as shares, the largest first, as in `72 % gpus, 28 % openai`."""
    total = sum(weights.values())
    if not total:
        return "no backend"
    shares = sorted(weights.items(), key=lambda item: -item[1])
    return ", ".join(f"{100 * weight / total:.3g} % {name}" for name, weight in shares if weight)


def _observation_lines(tick: Tick) -> Iterator[str]:
    """Yield the observed pools, readings and errors, and the suspected false zeros."""
    observation = tick.observation
    for name, pool in observation.pools.items():
        yield f"{name}: {_pool(pool, observation.pool_errors.get(name, ''))}"
        if not isinstance(pool, Absent):
            yield from (f"  {remark}" for remark in remarks(pool.value))
    for route, status in observation.routes.items():
        yield f"route {route}: {_route(status, observation.route_errors.get(route, ''))}"
    for signal, reading in observation.readings.items():
        failed = signal.partition(".")[0] in observation.source_errors
        yield f"{signal}: {_reading(reading, tick.at, failed=failed)}"
    for source, error in observation.source_errors.items():
        yield f"source {source} could not be read: {error}"
    for source, reason in tick.decision.suspected_zeros.items():
        yield f"source {source}: {reason}"


def shadow_paragraphs(shadow_tick: ShadowTick) -> Iterator[str]:
    """Yield the decision of one tick of a shadow, line by line, and the sizes that are compared."""
    lines = paragraphs(shadow_tick.tick)
    yield f"shadow of {next(lines)}"
    for line in lines:
        if line == WRITES:
            break
        yield line
    yield "  Compared with the live policy:"
    live = "live policy (estimated)" if shadow_tick.open_loop else "live policy (observed)"
    for name, side in (("shadow (estimated)", shadow_tick.shadow), (live, shadow_tick.first)):
        price = "" if side.usd_per_hour is None else f", {side.usd_per_hour:.2f} USD per hour"
        late = "" if side.late is None else f"; {side.late:.1f} late requests"
        yield f"    {name}: {side.requested} desired, {side.serving:g} serving{price}{late}"
    if shadow_tick.shadow.late is None:
        reason = shadow_tick.estimated_by if shadow_tick.interval_s else "this is the first tick"
        yield f"    late requests are unknown: {reason}"
    else:
        yield f"    late requests over the last {shadow_tick.interval_s:.0f} s, estimated by {shadow_tick.estimated_by}"


def verdict(tick: Tick) -> str:
    """Return the decision in one clause."""
    d = tick.decision
    if d.target is None:
        return "no resize: the size of a pool is unknown"
    needed = f"{d.steps[0].replicas:.2f} needed; " if len(d.steps) > 1 and d.steps[0].rule == RuleId.DEMAND else ""
    change = f"keep {d.target}" if d.current == d.target else f"{d.current} -> {d.target} replicas"
    return f"{change} ({needed}{d.reason})"


def room_text(decision: Decision) -> str:
    """Return the cost of the replicas above the load of now; empty where no load is known.

    It is at the mean price: 1.5 of 5 replicas for 20 USD per hour cost 6.
    """
    loads = [r.work for r in decision.recommendations if r.work is not None]
    usd_per_hour, size = decision.cost_usd_per_hour, decision.target
    if not loads or not size or usd_per_hour is None or (room := size - max(loads)) <= 0:
        return ""
    return f", of which {usd_per_hour * room / size:.2f} for {room:.1f} replicas above the load of now"


def budget_text(budget: ErrorBudget) -> str:
    """Return the state of an SLO with its burn rates and its error budget."""
    rates = (f"{_rate(budget.burn_rate(w))} over {window_text(w)}" for w in budget.windows if w >= HOUR_S)
    problem = f"; not measured now: {budget.problem}" if budget.problem else ""
    if not problem and budget.violated is None:
        problem = f"; judged after {window_text(MIN_MEASURED_S)} of measured requests"
    return f"{budget.state}: burn rate {', '.join(rates)}; {remaining_text(budget)}{problem}"


def remaining_text(budget: ErrorBudget) -> str:
    """Return the remaining or overspent share of an error budget."""
    window, remaining = window_text(budget.window_s), budget.remaining
    if remaining is None:
        return f"the error budget of {window} is unknown"
    if remaining < 0:
        return f"the error budget of {window} is overspent by {-100 * remaining:.1f} %"
    return f"{100 * remaining:.1f} % of the error budget of {window} remains"


def _rate(burn_rate: float | None) -> str:
    return "unknown" if burn_rate is None else f"{burn_rate:.2f}"


def timestamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def size_summary(s: PoolStatus) -> str:
    """Return a pool's size in one clause."""
    reserved = "" if s.reserved is None else f"; {s.reserved} reserved"
    extra = _counts({"pending": s.pending, "interruption pending": s.interruption_pending, "failed": s.failed})
    return f"{s.desired} desired, {s.ready} ready{extra}{reserved}"


def _counts(counts: Mapping[str, int]) -> str:
    return "".join(f", {n} {label}" for label, n in counts.items() if n)


def remarks(s: PoolStatus) -> Iterator[str]:
    """Yield a pool's parts, its shortfall and its other writer, one line each."""
    for part in s.parts:
        extra = _counts({"pending": part.pending, "interruption pending": part.interruption_pending})
        yield f"{part.zone or 'no zone'}, {part.market}: {part.ready} ready{extra}"
    if s.shortfall is not None:
        problem = "quota error" if s.shortfall.quota else "capacity shortage"
        yield f"{problem} since {timestamp(s.shortfall.at)}: {s.shortfall.reason}"
    if s.other_writer:
        yield f"other writer: {s.other_writer}"


def _pool(reading: Reading[PoolStatus], error: str) -> str:
    match reading:
        case Fresh(s):
            return size_summary(s)
        case Stale(s, _, age_s):
            cause = error or "too old for a resize"
            return f"not resized: last read {age_s:.0f} s ago with {s.desired} desired, {s.ready} ready ({cause})"
        case Absent(reason):
            return f"size unknown ({reason})"


def _route(reading: Reading[RouteStatus], error: str) -> str:
    match reading:
        case Fresh(status):
            rate = status.requests_per_s
            measured = "requests not measured yet" if rate is None else f"{rate:.1f} requests/s"
            writer = f", other writer: {status.other_writer}" if status.other_writer else ""
            return f"{'rejects requests' if status.rejects else weights_text(status.weights)}, {measured}{writer}"
        case Stale(status, _, age_s):
            return (
                f"not changed: last read {age_s:.0f} s ago with {weights_text(status.weights)} ({error or 'too old'})"
            )
        case Absent(reason):
            return f"weights unknown ({reason})"


def _reading(reading: Reading[float], now: float, *, failed: bool) -> str:
    match reading:
        case Fresh(value, measured_at, missing):
            bound = f"at least {value:g} ({missing})" if missing else f"{value:g}"
            return f"{bound}, measured {max(0.0, now - measured_at):.0f} s earlier"
        case Stale(value, _, age_s):
            cause = "the last read failed; " if failed else ""
            return f"stale: {cause}the last value, {value:g}, is {age_s:.0f} s old and is not acted on"
        case Absent(reason):
            return f"absent, not zero ({reason})"


def _recommendation(r: Recommendation) -> str:
    if r.replicas is None:
        return r.reason
    limits = {
        Evidence.FULL: "",
        Evidence.PARTIAL: "; readings are incomplete, so it may only raise the size",
        Evidence.BLIND: "; no fresh reading",
    }
    return f"recommends {r.replicas:.2f} replicas: {r.reason}{limits[r.evidence]}"


def _step(step: Step) -> str:
    size = "" if step.replicas is None else f"{round(step.replicas, 2):g} - "
    return f"{step.rule}: {size}{step.reason}"


def _result(result: Result) -> str:
    return result.value.replace("_", " ")
