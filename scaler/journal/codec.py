"""Ticks and pasts to plain data and back, exactly: what is decoded equals what was encoded."""

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
    Part,
    PolicyName,
    PoolName,
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
from policies.signals.plausibility import plausible
from scaler.journal.fields import amount, flag, mapping, moment, number, optional, text, whole
from scaler.journal.initial_history import InitialHistory
from scaler.journal.schema import SCHEMA

HISTORY_TYPE: Final = "initial_history"
COUNTS: Final = ("interruption_pending", "interrupted", "failed")
"""What a pool's status counts beside its size; left out where it is 0."""
LONGEST_S: Final = 1e9
"""Longer than any history, in seconds."""
MIN_STEP_S, MAX_STEP_S = 0.01, 3600.0
"""Bounds of a workload's `interval_s`, and so of a step of a history. Seconds."""
T = TypeVar("T")


def encode_tick(tick: Tick) -> dict[str, Any]:
    seen = tick.observation
    granted = {} if seen.grant is None else {"grant": _encode_grant(seen.grant)}
    return {
        "v": SCHEMA,
        "type": "tick",
        "workload": tick.workload,
        "at": tick.at,
        "spec": tick.spec,
        "readings": {name: _encode_reading(r, _same) for name, r in seen.readings.items()},
        "pools": {name: _encode_reading(r, _encode_status) for name, r in seen.pools.items()},
        "source_errors": dict(seen.source_errors),
        "pool_errors": dict(seen.pool_errors),
        **granted,
        "decision": encode_decision(tick.decision),
        "outcomes": [_encode_outcome(o) for o in tick.outcomes],
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
    seen = Observation(
        WorkloadName(text(data["workload"])),
        moment(data["at"]),
        {SignalName(n): _decode_reading(r, _value) for n, r in data["readings"].items()},
        {PoolName(n): _decode_reading(r, _decode_status) for n, r in data["pools"].items()},
        mapping(text, data["source_errors"]),
        {PoolName(n): error for n, error in mapping(text, data["pool_errors"]).items()},
        _decode_grant(data["grant"]) if "grant" in data else None,
    )
    if plausible(seen) is not seen:  # the controller records such a value as absent
        raise ValueError("a value that cannot be a measurement")
    return Tick(
        text(data["spec"]),
        seen,
        _decode_decision(data["decision"], seen.at),
        tuple(_decode_outcome(o) for o in data["outcomes"]),
        whole(data["history_len"]),
        number(data["lateness_s"]),
        number(data["took_s"]),
        number(data["clock_step_s"]),
        flag(data["dry_run"]),
    )


def encode_initial_history(past: InitialHistory) -> dict[str, Any]:
    seeds = {
        policy: {"start_s": s.start_s, "step_s": s.step_s, "work": base64.b64encode(s.halves).decode()}
        for policy, s in past.seeds.items()
    }
    return {
        "v": SCHEMA,
        "type": HISTORY_TYPE,
        "workload": past.workload,
        "at": past.at,
        "ticks": past.ticks,
        "span_s": past.span_s,
        "step_s": past.step_s,
        "seeds": seeds,
        **({"keeps_ticks": True} if past.keeps_ticks else {}),
    }


def decode_initial_history(data: Mapping[str, Any]) -> InitialHistory:
    """Return the initial history of a record.

    Raises one of `fields.DAMAGED` on anything that `encode_initial_history` could not have written.
    """
    seeds = {
        PolicyName(policy): HistorySeed(
            float(moment(s["start_s"])),
            _length_s(s["step_s"], MAX_STEP_S),
            base64.b64decode(text(s["work"]), validate=True),
        )
        for policy, s in data["seeds"].items()
    }
    at, span_s, step_s = (
        float(moment(data["at"])),
        _length_s(data["span_s"], LONGEST_S),
        _length_s(data["step_s"], MAX_STEP_S),
    )
    kept = flag(data.get("keeps_ticks", False))
    return InitialHistory(WorkloadName(text(data["workload"])), at, whole(data["ticks"]), span_s, step_s, seeds, kept)


def _length_s(value: object, longest_s: float) -> float:
    """Return a length of time that something may be divided by. Raises `TypeError` or `ValueError`."""
    length_s = float(number(value))
    if not MIN_STEP_S <= length_s <= longest_s:
        raise ValueError(f"{length_s:g} s is no length of time")
    return length_s


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
    }


def _encode_recommendation(r: Recommendation) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "policy": r.policy,
        "replicas": r.replicas,
        "evidence": r.evidence.value,
        "active": r.active,
        "reason": r.reason,
        "used": list(r.used),
    }
    if r.unstabilized is not None:
        plain["unstabilized"] = r.unstabilized
    if r.retained_signals:
        plain["retained_signals"] = list(r.retained_signals)
    if r.memory:
        plain["memory"] = dict(r.memory)
    if r.pools:
        plain["pools"] = dict(r.pools)
    if r.work is not None:
        plain["work"] = r.work
    if r.peaks:
        plain["peaks"] = [list(peak) for peak in r.peaks]
    if r.latency_driven is not None:
        plain["latency_driven"] = r.latency_driven
    return plain


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
        {PoolName(n): size for n, size in mapping(whole, r.get("pools", {})).items()},
        optional(amount, r.get("work")),
        tuple((number(q), number(work)) for q, work in r.get("peaks", ())),
        optional(number, r.get("latency_driven")),
    )


def _decode_decision(data: Mapping[str, Any], at: float) -> Decision:
    return Decision(
        at,
        tuple(_decode_recommendation(r) for r in data["recommendations"]),
        optional(number, data["demand"]),
        optional(whole, data["capped_need"]),
        flag(data["active"]),
        flag(data["may_scale_in"]),
        optional(whole, data["current"]),
        optional(whole, data["ready"]),
        optional(whole, data["target"]),
        tuple(Step(RuleId(text(s["rule"])), optional(number, s["replicas"]), text(s["reason"])) for s in data["steps"]),
        {PoolName(n): size for n, size in mapping(whole, data["targets"]).items()},
        {PoolName(n): asks for n, asks in mapping(whole, data.get("abandoned", {})).items()},
        optional(number, data.get("cost_usd_per_hour")),
        mapping(text, data.get("suspected_zeros", {})),
    )


def _decode_outcome(o: Mapping[str, Any]) -> Outcome:
    return Outcome(
        PoolName(text(o["pool"])), whole(o["before"]), whole(o["after"]), Result(o["result"]), text(o.get("reason", ""))
    )


def _encode_outcome(outcome: Outcome) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "pool": outcome.pool,
        "before": outcome.before,
        "after": outcome.after,
        "result": outcome.result.value,
    }
    return {**plain, "reason": outcome.reason} if outcome.reason else plain


def _encode_grant(grant: Grant) -> dict[str, Any]:
    quotas = {"gpus": grant.gpus, "usd_per_hour": grant.usd_per_hour, "removable": grant.removable}
    plain: dict[str, Any] = {name: [q.most, q.reason] for name, q in quotas.items() if q is not None}
    return {**plain, "removed": grant.removed} if grant.removed else plain


def _decode_grant(data: Mapping[str, Any]) -> Grant:
    limits = {name: limit for name, limit in data.items() if name != "removed"}
    quotas = {name: Quota(number(most), text(reason)) for name, (most, reason) in limits.items()}
    return Grant(**quotas, removed=whole(data.get("removed", 0)))


def _same(value: T) -> T:
    return value


def _encode_status(status: PoolStatus) -> dict[str, Any]:
    plain = {
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
    return {**plain, **counts}


def _decode_status(data: Mapping[str, Any]) -> PoolStatus:
    return PoolStatus(
        whole(data["desired"]),
        whole(data["ready"]),
        optional(text, data["other_writer"]),
        text(data["version"]),
        **{key: whole(data.get(key, 0)) for key in COUNTS},
        shortfall=_decode_shortfall(*data["shortfall"]) if "shortfall" in data else None,
        reserved=optional(whole, data.get("reserved")),
        parts=tuple(_decode_part(*part) for part in data.get("parts", ())),
    )


def _decode_shortfall(at: object, reason: object, quota: object) -> Shortfall:
    return Shortfall(moment(at), text(reason), flag(quota))


def _decode_part(zone: object, market: object, *counts: object) -> Part:
    ready, pending, interruption_pending = map(whole, counts)
    return Part(text(zone), text(market), ready, pending, interruption_pending)


def _encode_reading(reading: Reading[T], value_of: Callable[[T], object]) -> dict[str, Any]:
    match reading:
        case Fresh(value, measured_at, missing):
            plain = {"value": value_of(value), "measured_at": measured_at}
            return {**plain, "missing": missing} if missing else plain
        case Stale(value, measured_at, age_s):
            return {"value": value_of(value), "measured_at": measured_at, "age_s": age_s}
        case Absent(reason):
            return {"absent": reason}


def _decode_reading(data: Mapping[str, Any], value_of: Callable[[Any], T]) -> Reading[T]:
    if "absent" in data:
        return Absent(text(data["absent"]))
    value, measured_at = value_of(data["value"]), moment(data["measured_at"])
    if "age_s" in data:
        return Stale(value, measured_at, number(data["age_s"]))
    return Fresh(value, measured_at, text(data.get("missing", "")))


def _value(value: object) -> float:
    return float(number(value))
