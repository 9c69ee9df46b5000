"""Encodes ticks and initial histories to plain data and decodes them.

The round trip is exact.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from policies.forecast.history_seed import HistorySeed
from policies.model import (
    Absent,
    Decision,
    Evidence,
    Fresh,
    Grant,
    Observation,
    Outcome,
    PolicyName,
    PoolName,
    PoolPart,
    PoolStatus,
    Quota,
    Reading,
    Recommendation,
    Result,
    RuleId,
    Shortfall,
    SignalName,
    Stale,
    Step,
    Tick,
    WorkloadName,
)
from policies.model.names import RouteName
from policies.signals.plausibility import plausible
from scaler.journal.fields import flag, integer, mapping, non_negative, number, optional, text, unix_time
from scaler.journal.initial_history import InitialHistory
from scaler.journal.route_codec import (
    decode_member,
    decode_route_outcome,
    decode_route_status,
    decode_split,
    encode_member,
    encode_route_outcome,
    encode_route_status,
    encode_split,
)
from scaler.journal.schema import SCHEMA
from scaler.journal.slo_codec import decode_error_budget, encode_error_budget

HISTORY_TYPE: Final = "initial_history"
COUNTS: Final = ("interruption_pending", "interrupted", "failed")
"""Counts of a pool's status that are left out where they are 0."""
MAX_SPAN_S: Final = 1e9
"""Upper bound of a history's length: 31 years. Seconds."""
MIN_STEP_S, MAX_STEP_S = 0.01, 3600.0
"""Bounds of a workload's `interval_s`, which is the step of its history. Seconds."""
T = TypeVar("T")


def encode_tick(tick: Tick) -> dict[str, Any]:
    observation = tick.observation
    grant = {} if observation.grant is None else {"grant": _encode_grant(observation.grant)}
    budget = observation.error_budget
    return {
        "v": SCHEMA,
        "type": "tick",
        "workload": tick.workload,
        "at": tick.at,
        "spec": tick.spec,
        **({} if tick.epoch is None else {"epoch": tick.epoch}),
        "readings": {name: _encode_reading(r, _unchanged) for name, r in observation.readings.items()},
        "pools": {name: _encode_reading(r, _encode_status) for name, r in observation.pools.items()},
        "source_errors": dict(observation.source_errors),
        "pool_errors": dict(observation.pool_errors),
        **(_encode_routes(observation) if observation.routes else {}),
        **(_encode_members(observation) if observation.members else {}),
        **grant,
        **({} if budget is None else {"error_budget": encode_error_budget(budget)}),
        "decision": encode_decision(tick.decision),
        "outcomes": [_encode_outcome(o) for o in tick.outcomes],
        **({"route_outcomes": [encode_route_outcome(o) for o in tick.route_outcomes]} if tick.route_outcomes else {}),
        "history_len": tick.history_len,
        "lateness_s": tick.lateness_s,
        "took_s": tick.took_s,
        "clock_step_s": tick.clock_step_s,
        "dry_run": tick.dry_run,
    }


def decode_tick(data: Mapping[str, Any]) -> Tick:
    """Return the tick of a record.

    Raises one of `fields.DAMAGED` on anything that `encode_tick` could not have written.
    """
    observation = Observation(
        WorkloadName(text(data["workload"])),
        unix_time(data["at"]),
        {SignalName(n): _decode_reading(r, _value) for n, r in data["readings"].items()},
        {PoolName(n): _decode_reading(r, _decode_status) for n, r in data["pools"].items()},
        mapping(text, data["source_errors"]),
        {PoolName(n): error for n, error in mapping(text, data["pool_errors"]).items()},
        _decode_grant(data["grant"]) if "grant" in data else None,
        decode_error_budget(data["error_budget"]) if "error_budget" in data else None,
        {RouteName(n): _decode_reading(r, decode_route_status) for n, r in data.get("routes", {}).items()},
        {RouteName(n): error for n, error in mapping(text, data.get("route_errors", {})).items()},
        {WorkloadName(n): _decode_reading(r, decode_member) for n, r in data.get("members", {}).items()},
    )
    if plausible(observation) is not observation:  # the controller records such a value as absent
        raise ValueError("a value that cannot be a measurement")
    return Tick(
        text(data["spec"]),
        observation,
        _decode_decision(data["decision"], observation.at),
        tuple(_decode_outcome(o) for o in data["outcomes"]),
        integer(data["history_len"]),
        number(data["lateness_s"]),
        number(data["took_s"]),
        number(data["clock_step_s"]),
        flag(data["dry_run"]),
        optional(integer, data.get("epoch")),
        tuple(decode_route_outcome(o) for o in data.get("route_outcomes", ())),
    )


def _encode_routes(observation: Observation) -> dict[str, Any]:
    routes = {name: _encode_reading(r, encode_route_status) for name, r in observation.routes.items()}
    return {"routes": routes, **({"route_errors": dict(observation.route_errors)} if observation.route_errors else {})}


def _encode_members(observation: Observation) -> dict[str, Any]:
    return {"members": {name: _encode_reading(r, encode_member) for name, r in observation.members.items()}}


def encode_initial_history(start: InitialHistory) -> dict[str, Any]:
    seeds = {
        policy: {"start_s": s.start_s, "step_s": s.step_s, "work": base64.b64encode(s.halves).decode()}
        for policy, s in start.seeds.items()
    }
    return {
        "v": SCHEMA,
        "type": HISTORY_TYPE,
        "workload": start.workload,
        "at": start.at,
        "ticks": start.ticks,
        "span_s": start.span_s,
        "step_s": start.step_s,
        "seeds": seeds,
        **({"keeps_ticks": True} if start.keeps_ticks else {}),
    }


def decode_initial_history(data: Mapping[str, Any]) -> InitialHistory:
    """Return the initial history of a record.

    Raises one of `fields.DAMAGED` on anything that `encode_initial_history` could not have written.
    """
    seeds = {
        PolicyName(policy): HistorySeed(
            float(unix_time(s["start_s"])),
            _duration_s(s["step_s"], MAX_STEP_S),
            base64.b64decode(text(s["work"]), validate=True),
        )
        for policy, s in data["seeds"].items()
    }
    at, span_s, step_s = (
        float(unix_time(data["at"])),
        _duration_s(data["span_s"], MAX_SPAN_S),
        _duration_s(data["step_s"], MAX_STEP_S),
    )
    keeps_ticks = flag(data.get("keeps_ticks", False))
    workload, ticks = WorkloadName(text(data["workload"])), integer(data["ticks"])
    return InitialHistory(workload, at, ticks, span_s, step_s, seeds, keeps_ticks)


def _duration_s(value: object, max_s: float) -> float:
    """Return a duration of 0.01 s to `max_s`. Raises `TypeError` or `ValueError`."""
    duration_s = float(number(value))
    if not MIN_STEP_S <= duration_s <= max_s:
        raise ValueError(f"{duration_s:g} s is no length of time")
    return duration_s


def encode_decision(decision: Decision) -> dict[str, Any]:
    return {
        "demand": decision.demand,
        "capped_need": decision.capped_need,
        "active": decision.active,
        "may_scale_in": decision.may_scale_in,
        "current": decision.current,
        "ready": decision.ready,
        "target": decision.target,
        "targets": dict(decision.targets),
        **({"abandoned": dict(decision.abandoned)} if decision.abandoned else {}),
        **({} if decision.cost_usd_per_hour is None else {"cost_usd_per_hour": decision.cost_usd_per_hour}),
        **({"suspected_zeros": dict(decision.suspected_zeros)} if decision.suspected_zeros else {}),
        "recommendations": [_encode_recommendation(r) for r in decision.recommendations],
        "steps": [{"rule": s.rule.value, "replicas": s.replicas, "reason": s.reason} for s in decision.steps],
        **({"routes": {name: encode_split(r) for name, r in decision.routes.items()}} if decision.routes else {}),
    }


def _encode_recommendation(r: Recommendation) -> dict[str, Any]:
    record: dict[str, Any] = {
        "policy": r.policy,
        "replicas": r.replicas,
        "evidence": r.evidence.value,
        "active": r.active,
        "reason": r.reason,
        "used": list(r.used),
    }
    if r.unstabilized is not None:
        record["unstabilized"] = r.unstabilized
    if r.retained_signals:
        record["retained_signals"] = list(r.retained_signals)
    if r.memory:
        record["memory"] = dict(r.memory)
    if r.pools:
        record["pools"] = dict(r.pools)
    if r.work is not None:
        record["work"] = r.work
    if r.peaks:
        record["peaks"] = [list(peak) for peak in r.peaks]
    if r.latency_driven is not None:
        record["latency_driven"] = r.latency_driven
    return record


def _decode_recommendation(r: Mapping[str, Any]) -> Recommendation:
    return Recommendation(
        PolicyName(text(r["policy"])),
        optional(number, r["replicas"]),
        Evidence(r["evidence"]),
        flag(r["active"]),
        text(r["reason"]),
        tuple(SignalName(text(s)) for s in r["used"]),
        optional(number, r.get("unstabilized")),
        tuple(SignalName(text(s)) for s in r.get("retained_signals", ())),
        mapping(number, r.get("memory", {})),
        {PoolName(n): size for n, size in mapping(integer, r.get("pools", {})).items()},
        optional(non_negative, r.get("work")),
        tuple((number(q), number(work)) for q, work in r.get("peaks", ())),
        optional(number, r.get("latency_driven")),
    )


def _decode_decision(data: Mapping[str, Any], at: float) -> Decision:
    return Decision(
        at,
        tuple(_decode_recommendation(r) for r in data["recommendations"]),
        optional(number, data["demand"]),
        optional(integer, data["capped_need"]),
        flag(data["active"]),
        flag(data["may_scale_in"]),
        optional(integer, data["current"]),
        optional(integer, data["ready"]),
        optional(integer, data["target"]),
        tuple(Step(RuleId(text(s["rule"])), optional(number, s["replicas"]), text(s["reason"])) for s in data["steps"]),
        {PoolName(n): size for n, size in mapping(integer, data["targets"]).items()},
        {PoolName(n): replicas for n, replicas in mapping(integer, data.get("abandoned", {})).items()},
        optional(number, data.get("cost_usd_per_hour")),
        mapping(text, data.get("suspected_zeros", {})),
        {RouteName(name): decode_split(r) for name, r in data.get("routes", {}).items()},
    )


def _decode_outcome(o: Mapping[str, Any]) -> Outcome:
    return Outcome(
        PoolName(text(o["pool"])),
        integer(o["before"]),
        integer(o["after"]),
        Result(o["result"]),
        text(o.get("reason", "")),
    )


def _encode_outcome(outcome: Outcome) -> dict[str, Any]:
    record: dict[str, Any] = {
        "pool": outcome.pool,
        "before": outcome.before,
        "after": outcome.after,
        "result": outcome.result.value,
    }
    return {**record, "reason": outcome.reason} if outcome.reason else record


def _encode_grant(grant: Grant) -> dict[str, Any]:
    quotas = {"gpus": grant.gpus, "usd_per_hour": grant.usd_per_hour, "removable": grant.removable}
    record: dict[str, Any] = {name: [q.most, q.reason] for name, q in quotas.items() if q is not None}
    return {**record, "removed": grant.removed} if grant.removed else record


def _decode_grant(data: Mapping[str, Any]) -> Grant:
    limits = {name: limit for name, limit in data.items() if name != "removed"}
    quotas = {name: Quota(number(maximum), text(reason)) for name, (maximum, reason) in limits.items()}
    return Grant(**quotas, removed=integer(data.get("removed", 0)))


def _unchanged(value: T) -> T:
    return value


def _encode_status(status: PoolStatus) -> dict[str, Any]:
    record = {
        "desired": status.desired,
        "ready": status.ready,
        "other_writer": status.other_writer,
        "version": status.version,
    }
    counts: dict[str, Any] = {key: getattr(status, key) for key in COUNTS if getattr(status, key)}
    if status.shortfall is not None:
        counts["shortfall"] = [status.shortfall.at, status.shortfall.reason, status.shortfall.quota]
    if status.reserved is not None:
        counts["reserved"] = status.reserved
    if status.parts:
        counts["parts"] = [[p.zone, p.market, p.ready, p.pending, p.interruption_pending] for p in status.parts]
    return {**record, **counts}


def _decode_status(data: Mapping[str, Any]) -> PoolStatus:
    return PoolStatus(
        integer(data["desired"]),
        integer(data["ready"]),
        optional(text, data["other_writer"]),
        text(data["version"]),
        **{key: integer(data.get(key, 0)) for key in COUNTS},
        shortfall=_decode_shortfall(*data["shortfall"]) if "shortfall" in data else None,
        reserved=optional(integer, data.get("reserved")),
        parts=tuple(_decode_part(*part) for part in data.get("parts", ())),
    )


def _decode_shortfall(at: object, reason: object, quota: object) -> Shortfall:
    return Shortfall(unix_time(at), text(reason), flag(quota))


def _decode_part(zone: object, market: object, *counts: object) -> PoolPart:
    ready, pending, interruption_pending = map(integer, counts)
    return PoolPart(text(zone), text(market), ready, pending, interruption_pending)


def _encode_reading(reading: Reading[T], value_of: Callable[[T], object]) -> dict[str, Any]:
    match reading:
        case Fresh(value, measured_at, missing):
            record = {"value": value_of(value), "measured_at": measured_at}
            return {**record, "missing": missing} if missing else record
        case Stale(value, measured_at, age_s):
            return {"value": value_of(value), "measured_at": measured_at, "age_s": age_s}
        case Absent(reason):
            return {"absent": reason}


def _decode_reading(data: Mapping[str, Any], value_of: Callable[[Any], T]) -> Reading[T]:
    if "absent" in data:
        return Absent(text(data["absent"]))
    value, measured_at = value_of(data["value"]), unix_time(data["measured_at"])
    if "age_s" in data:
        return Stale(value, measured_at, number(data["age_s"]))
    return Fresh(value, measured_at, text(data.get("missing", "")))


def _value(value: object) -> float:
    return float(number(value))
