"""Encodes the routes and group members of a tick to plain data and decodes them.

The round trip is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.model import Result
from policies.model.group import MemberStatus
from policies.model.names import BackendName, RouteName, WorkloadName
from policies.model.route import BackendTraffic, RouteDecision, RouteStatus
from policies.model.tick import RouteOutcome
from scaler.journal.fields import flag, integer, mapping, non_negative, number, optional, text


def encode_route_status(status: RouteStatus) -> dict[str, Any]:
    return {
        "weights": dict(status.weights),
        "traffic": {name: _encode_traffic(t) for name, t in status.traffic.items()},
        "over_s": status.over_s,
        "other_writer": status.other_writer,
        "version": status.version,
        **({"rejects": True} if status.rejects else {}),
        **({"rejected": status.rejected} if status.rejected else {}),
        **({"unhealthy": sorted(status.unhealthy)} if status.unhealthy else {}),
        **({"settle_s": status.settle_s} if status.settle_s else {}),
    }


def _encode_traffic(traffic: BackendTraffic) -> list[float]:
    latency_s = [] if traffic.latency_s is None else [traffic.latency_s]
    return [traffic.requests, traffic.errors, *latency_s]


def decode_route_status(data: Mapping[str, Any]) -> RouteStatus:
    return RouteStatus(
        decode_weights(data["weights"]),
        {BackendName(n): BackendTraffic(*map(non_negative, counts)) for n, counts in data["traffic"].items()},
        non_negative(data["over_s"]),
        optional(text, data["other_writer"]),
        text(data["version"]),
        flag(data.get("rejects", False)),
        non_negative(data.get("rejected", 0.0)),
        frozenset(BackendName(text(name)) for name in data.get("unhealthy", ())),
        non_negative(data.get("settle_s", 0.0)),
    )


def encode_split(split: RouteDecision) -> dict[str, Any]:
    optional_values = {"demand": split.demand, "usd_per_hour": split.usd_per_hour, "retry_after_s": split.retry_after_s}
    return {
        "weights": dict(split.weights),
        "reason": split.reason,
        **({"is_kept": True} if split.is_kept else {}),
        **{key: value for key, value in optional_values.items() if value is not None},
        **({"memory": dict(split.memory)} if split.memory else {}),
        **({"handed": dict(split.handed)} if split.handed else {}),
    }


def decode_split(data: Mapping[str, Any]) -> RouteDecision:
    return RouteDecision(
        decode_weights(data["weights"]),
        text(data["reason"]),
        flag(data.get("is_kept", False)),
        optional(number, data.get("demand")),
        optional(number, data.get("usd_per_hour")),
        optional(number, data.get("retry_after_s")),
        mapping(number, data.get("memory", {})),
        {WorkloadName(name): rate for name, rate in mapping(non_negative, data.get("handed", {})).items()},
    )


def encode_member(status: MemberStatus) -> dict[str, Any]:
    known = {
        "need": status.need,
        "max_supply": status.max_supply,
        "requests_per_replica_per_s": status.requests_per_replica_per_s,
        "usd_per_hour": status.usd_per_hour,
        "region": status.region,
    }
    rates = {"sent": dict(status.sent), "handed": dict(status.handed)}
    return {
        "ready": status.ready,
        "settle_s": status.settle_s,
        **{key: value for key, value in known.items() if value is not None},
        **{key: value for key, value in rates.items() if value},
    }


def decode_member(data: Mapping[str, Any]) -> MemberStatus:
    return MemberStatus(
        non_negative(data["ready"]),
        optional(non_negative, data.get("need")),
        optional(non_negative, data.get("max_supply")),
        optional(non_negative, data.get("requests_per_replica_per_s")),
        optional(non_negative, data.get("usd_per_hour")),
        optional(text, data.get("region")),
        {WorkloadName(text(n)): optional(non_negative, rate) for n, rate in data.get("sent", {}).items()},
        {WorkloadName(n): rate for n, rate in mapping(non_negative, data.get("handed", {})).items()},
        non_negative(data["settle_s"]),
    )


def encode_route_outcome(outcome: RouteOutcome) -> dict[str, Any]:
    return {
        "route": outcome.route,
        "before": dict(outcome.before),
        "after": dict(outcome.after),
        "result": outcome.result.value,
        **({"reason": outcome.reason} if outcome.reason else {}),
    }


def decode_route_outcome(data: Mapping[str, Any]) -> RouteOutcome:
    return RouteOutcome(
        RouteName(text(data["route"])),
        decode_weights(data["before"]),
        decode_weights(data["after"]),
        Result(data["result"]),
        text(data.get("reason", "")),
    )


def decode_weights(data: Mapping[str, Any]) -> dict[BackendName, int]:
    """Return the weights of backends. Raises `AttributeError`, `TypeError` or `ValueError`."""
    return {BackendName(name): weight for name, weight in mapping(integer, data).items()}
