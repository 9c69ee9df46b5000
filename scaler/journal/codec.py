"""Ticks and pasts to plain data and back, exactly: what is decoded equals what was encoded."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from policies.forecast.seed import Seed
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
    Shortfall,
    SignalName,
    Stale,
    Step,
    Tick,
    WorkloadName,
)
from scaler.past import Past

SCHEMA: Final = 1
"""Version of the journal's records; a reader refuses a newer one."""
COUNTS: Final = ("doomed", "interrupted", "failed")
"""What a pool's status counts beside its size; left out where it is 0."""
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
    """Raises `KeyError`, `TypeError` or `ValueError` on anything that `encode_tick` did not write."""
    seen = Observation(
        WorkloadName(data["workload"]),
        data["at"],
        {SignalName(n): _decode_reading(r, float) for n, r in data["readings"].items()},
        {PoolName(n): _decode_reading(r, _decode_status) for n, r in data["pools"].items()},
        data["source_errors"],
        {PoolName(n): error for n, error in data["pool_errors"].items()},
        _decode_grant(data["grant"]) if "grant" in data else None,
    )
    outcomes = tuple(
        Outcome(PoolName(o["pool"]), o["before"], o["after"], Result(o["result"]), o.get("reason", ""))
        for o in data["outcomes"]
    )
    return Tick(
        data["spec"],
        seen,
        _decode_decision(data["decision"], data["at"]),
        outcomes,
        data["history_len"],
        data["lateness_s"],
        data["took_s"],
        data["clock_step_s"],
        data["dry_run"],
    )


def encode_past(past: Past) -> dict[str, Any]:
    seeds = {
        policy: {"start_s": s.start_s, "step_s": s.step_s, "work": base64.b64encode(s.halves).decode()}
        for policy, s in past.seeds.items()
    }
    return {
        "v": SCHEMA,
        "type": "past",
        "workload": past.workload,
        "at": past.at,
        "ticks": past.ticks,
        "span_s": past.span_s,
        "step_s": past.step_s,
        "seeds": seeds,
        **({"kept": True} if past.kept else {}),
    }


def decode_past(data: Mapping[str, Any]) -> Past:
    """Raises `KeyError`, `TypeError` or `ValueError` on anything that `encode_past` did not write."""
    seeds = {
        PolicyName(policy): Seed(float(s["start_s"]), float(s["step_s"]), base64.b64decode(s["work"], validate=True))
        for policy, s in data["seeds"].items()
    }
    at, span_s, step_s = (float(data[key]) for key in ("at", "span_s", "step_s"))
    kept = bool(data.get("kept", False))
    return Past(WorkloadName(data["workload"]), at, int(data["ticks"]), span_s, step_s, seeds, kept)


def encode_decision(decision: Decision) -> dict[str, Any]:
    return {
        "demand": decision.demand,
        "wanted": decision.wanted,
        "active": decision.active,
        "may_lower": decision.may_lower,
        "current": decision.current,
        "ready": decision.ready,
        "target": decision.target,
        "targets": dict(decision.targets),
        **({"written_off": dict(decision.written_off)} if decision.written_off else {}),
        **({} if decision.cost_usd_per_hour is None else {"cost_usd_per_hour": decision.cost_usd_per_hour}),
        **({"doubted": dict(decision.doubted)} if decision.doubted else {}),
        "recommendations": [_encode_recommendation(r) for r in decision.recommendations],
        "steps": [{"rule": s.rule, "replicas": s.replicas, "reason": s.reason} for s in decision.steps],
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
    if r.raw is not None:
        plain["raw"] = r.raw
    if r.keeps:
        plain["keeps"] = list(r.keeps)
    if r.memory:
        plain["memory"] = dict(r.memory)
    if r.pools:
        plain["pools"] = dict(r.pools)
    if r.work is not None:
        plain["work"] = r.work
    if r.peaks:
        plain["peaks"] = [list(peak) for peak in r.peaks]
    if r.because_late is not None:
        plain["because_late"] = r.because_late
    return plain


def _decode_decision(data: Mapping[str, Any], at: float) -> Decision:
    recommendations = tuple(
        Recommendation(
            PolicyName(r["policy"]),
            r["replicas"],
            Evidence(r["evidence"]),
            r["active"],
            r["reason"],
            tuple(SignalName(s) for s in r["used"]),
            r.get("raw"),
            tuple(SignalName(s) for s in r.get("keeps", ())),
            r.get("memory", {}),
            {PoolName(n): size for n, size in r.get("pools", {}).items()},
            r.get("work"),
            tuple((q, work) for q, work in r.get("peaks", ())),
            r.get("because_late"),
        )
        for r in data["recommendations"]
    )
    return Decision(
        at,
        recommendations,
        data["demand"],
        data["wanted"],
        data["active"],
        data["may_lower"],
        data["current"],
        data["ready"],
        data["target"],
        tuple(Step(s["rule"], s["replicas"], s["reason"]) for s in data["steps"]),
        {PoolName(n): size for n, size in data["targets"].items()},
        {PoolName(n): asks for n, asks in data.get("written_off", {}).items()},
        data.get("cost_usd_per_hour"),
        data.get("doubted", {}),
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
    quotas = {name: Quota(*quota) for name, quota in data.items() if name != "removed"}
    return Grant(**quotas, removed=data.get("removed", 0))


def _same(value: T) -> T:
    return value


def _encode_status(status: PoolStatus) -> dict[str, Any]:
    plain = {
        "desired": status.desired,
        "ready": status.ready,
        "foreign": status.foreign,
        "version": status.version,
    }
    told: dict[str, Any] = {key: getattr(status, key) for key in COUNTS if getattr(status, key)}
    if status.short is not None:
        told["short"] = [status.short.at, status.short.reason, status.short.quota]
    if status.reserved is not None:
        told["reserved"] = status.reserved
    if status.parts:
        told["parts"] = [[p.zone, p.market, p.ready, p.pending, p.doomed] for p in status.parts]
    return {**plain, **told}


def _decode_status(data: Mapping[str, Any]) -> PoolStatus:
    return PoolStatus(
        data["desired"],
        data["ready"],
        data["foreign"],
        data["version"],
        **{key: data.get(key, 0) for key in COUNTS},
        short=Shortfall(*data["short"]) if "short" in data else None,
        reserved=data.get("reserved"),
        parts=tuple(Part(*part) for part in data.get("parts", ())),
    )


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
        return Absent(data["absent"])
    value = value_of(data["value"])
    if "age_s" in data:
        return Stale(value, data["measured_at"], data["age_s"])
    return Fresh(value, data["measured_at"], data.get("missing", ""))
