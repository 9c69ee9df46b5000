"""Weighted records of one name in Route 53, and the change of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model.names import BackendName
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.config.kinds.aws_routes import Dns
from scaler.ports import Misconfigured
from scaler.routes.weighted_entries import entries_problem

ALIAS_TTL_S: Final = 60.0
"""TTL of an alias to a load balancer, which the record itself does not state. Seconds."""
MAX_WEIGHT: Final = 255


@dataclass(frozen=True, slots=True)
class WeightedRecord:
    """A record as it was read. `health_check` is the ID of its health check; empty without one."""

    identifier: str
    weight: int
    ttl_s: float
    health_check: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class WeightedRecords:
    """All records of the name."""

    records: tuple[WeightedRecord, ...]

    def of(self, spec: Dns) -> dict[BackendName, WeightedRecord]:
        """Return the record of each backend."""
        by_name = {record.identifier: record for record in self.records}
        return {backend: by_name[spec.record(backend)] for backend in spec.backends}

    def weights(self, spec: Dns) -> dict[BackendName, int]:
        """Return the weight of each backend."""
        return {backend: record.weight for backend, record in self.of(spec).items()}

    @property
    def ttl_s(self) -> float:
        """The time for which clients may follow the previous weights. Seconds."""
        return max(record.ttl_s for record in self.records)

    def changes(self, weights: Mapping[BackendName, int], spec: Dns) -> list[dict[str, Any]]:
        """Return the changes of those records whose weight differs, and of nothing else of them."""
        return [
            {"Action": "UPSERT", "ResourceRecordSet": {**record.body, "Weight": weights.get(backend, 0)}}
            for backend, record in self.of(spec).items()
            if record.weight != weights.get(backend, 0)
        ]


def parse_records(what: str, bodies: Sequence[Mapping[str, Any]], spec: Dns) -> WeightedRecords:
    """Parse the records of the configured name.

    Raises `Misconfigured` where they do not fit the configuration, and `Unavailable` for malformed ones.
    """
    with unavailable_if_malformed(what):
        own = [body for body in bodies if is_of(body, spec)]
        if not own:
            raise Misconfigured(f"{what}: there is none of type {spec.record_type}; check zone, name and record_type")
        records = WeightedRecords(tuple(_record(what, body) for body in own))
    configured = {spec.record(backend): backend for backend in spec.backends}
    entries = [(record.identifier, record.weight) for record in records.records]
    if problem := entries_problem("record", "records", configured, entries):
        raise Misconfigured(f"{what}: the name {problem}")
    return records


def is_of(body: Mapping[str, Any], spec: Dns) -> bool:
    """Return whether a record has the configured name and type."""
    return (str(body["Name"]).lower(), body["Type"]) == (spec.full_name, spec.record_type)


def _record(what: str, body: Mapping[str, Any]) -> WeightedRecord:
    if "Weight" not in body:
        raise Misconfigured(f"{what}: a record is not weighted; give each one a SetIdentifier and a weight")
    if "TrafficPolicyInstanceId" in body:
        raise Misconfigured(
            f"{what}: a traffic policy creates the records and would revert each write; set weights there"
        )
    weight = body["Weight"]
    if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= MAX_WEIGHT:
        raise ValueError("a weight is outside 0 to 255")
    ttl_s = ALIAS_TTL_S if "AliasTarget" in body else float(body["TTL"])
    return WeightedRecord(str(body["SetIdentifier"]), weight, ttl_s, str(body.get("HealthCheckId", "")), body)
