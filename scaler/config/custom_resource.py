"""The definition of the custom resource Workload, generated from a workload file's schema."""

from __future__ import annotations

from typing import Any, Final

from policies.model.names import NAME
from policies.model.spec import WorkloadSpec
from scaler.config.schema import model_of
from scaler.config.structural_schema import Schema, Translation
from scaler.registry import REGISTRIES, resolve

GROUP: Final = "forescale.io"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "Workload"
PLURAL: Final = "workloads"
ACCEPTED: Final = "Accepted"
READY: Final = "Ready"
ABLE_TO_SCALE: Final = "AbleToScale"
SCALING_ACTIVE: Final = "ScalingActive"
MAX_REASON: Final = 4096
"""Maximum length of a text in the status, in characters."""
DESCRIPTION: Final = (
    "One workload: a served model with its sources, policies and pools. Its specification is that of a workload file."
)
COLUMNS: Final = (
    ("Desired", "integer", ".status.desired", "Requested replicas of all pools."),
    ("Ready", "integer", ".status.ready", "Ready replicas of all pools."),
    ("Demand", "number", ".status.demand", "Largest need of all policies, in replicas."),
    ("SLO", "string", ".status.slo", "State of the SLO."),
    ("$/h", "number", ".status.costUsdPerHour", "Cost of the decided size, in USD per hour."),
    (
        "Accepted",
        "string",
        f'.status.conditions[?(@.type=="{ACCEPTED}")].status',
        "Whether the specification is valid.",
    ),
    ("Age", "date", ".metadata.creationTimestamp", ""),
)
"""Printed columns: name, type, path and description."""
WIDE: Final = frozenset({"Accepted"})
"""Columns that ``kubectl get --output wide`` adds."""


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition."""
    names = {
        "kind": KIND,
        "listKind": f"{KIND}List",
        "plural": PLURAL,
        "singular": KIND.lower(),
        "shortNames": ["fwl"],
        "categories": ["forescale"],
    }
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _object_schema()},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*column) for column in COLUMNS],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def _column(name: str, kind: str, path: str, description: str) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    return {**column, "priority": 1} if name in WIDE else column


def _object_schema() -> Schema:
    name = {"type": "string", "maxLength": 63, "pattern": NAME.regex}
    return {
        "type": "object",
        "description": DESCRIPTION,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object", "properties": {"name": name}},
            "spec": spec_schema(),
            "status": _status_schema(),
        },
        "x-kubernetes-validations": [
            _rule(
                "!has(self.spec.workload) || self.spec.workload == self.metadata.name",
                "spec.workload must be absent or equal metadata.name",
            )
        ],
    }


def spec_schema() -> Schema:
    """Return the structural schema of a specification, with the rules between its settings."""
    document = model_of(WorkloadSpec).model_json_schema(ref_template="#/$defs/{model}")
    schema = Translation(document["$defs"]).structural(document)
    properties = schema["properties"]
    properties["workload"] = {
        "description": "Name of the workload: absent, or equal to the object's name.",
        "type": "string",
        "maxLength": 63,
    }
    schema["required"].remove("workload")
    schema["x-kubernetes-validations"] = list(_rules())
    for key in ("sources", "policies", "pools", "routes"):
        properties[key]["x-kubernetes-validations"] = [
            _rule("self.all(name, size(name) <= 63)", "names must have at most 63 characters")
        ]
    properties["pools"]["additionalProperties"]["x-kubernetes-validations"].append(
        _at_most("min_replicas", "max_replicas")
    )
    properties["policies"]["x-kubernetes-validations"].append(_only_policy())
    properties["slo"]["x-kubernetes-validations"] = [
        _rule("has(self.ttft_s) || has(self.itl_s) || has(self.e2e_s)", "set ttft_s, itl_s or e2e_s")
    ]
    return schema


def _rules() -> list[Schema]:
    deadline = (
        "!has(self.deadline_s) || !has(self.interval_s) || self.interval_s < 1.0 || self.deadline_s < self.interval_s"
    )
    return [
        _at_most("min_replicas", "max_replicas"),
        _rule(deadline, "deadline_s must be below interval_s: a slow read would delay the next tick"),
    ]


def _at_most(low: str, high: str) -> Schema:
    missing = f"!has(self.{low}) || !has(self.{high}) || dyn(self.{high}) == null"
    return _rule(f"{missing} || self.{low} <= self.{high}", f"{low} must be at most {high}")


def _only_policy() -> Schema:
    """Return the rule of the policies that have their own stabilization."""
    kinds = [kind for kind in REGISTRIES["policy"] if resolve("policy", kind).owns_stabilization]
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    text = f"a policy with its own stabilization must be the only one: {', '.join(kinds)}"
    return _rule(f"size(self) <= 1 || self.all(name, !(self[name].kind in [{listed}]))", text)


def _rule(expression: str, message: str) -> Schema:
    return {"rule": expression, "message": message}


def _status_schema() -> Schema:
    def text(description: str, limit: int = MAX_REASON) -> Schema:
        return {"description": description, "type": "string", "maxLength": limit}

    condition = {
        "type": text("Accepted, AbleToScale, ScalingActive or Ready.", 63),
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "observedGeneration": {"type": "integer", "format": "int64"},
        "lastTransitionTime": {"type": "string", "format": "date-time"},
        "reason": text("Reason in CamelCase.", 1024),
        "message": text("The reason in words.", 32768),
    }
    conditions = {
        "description": "Accepted: the specification is valid. AbleToScale: the sizes of the pools are known and writes"
        " are accepted. ScalingActive: a policy has fresh readings. Ready: all of these.",
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {"type": "object", "required": ["type", "status"], "properties": condition},
    }
    return {
        "description": "State of the workload at the daemon's last ticks. A value that is absent is unknown, not 0.",
        "type": "object",
        "properties": {
            "observedGeneration": {
                "description": "Generation of the specification that was read last.",
                "type": "integer",
                "format": "int64",
            },
            "workload": text("Name of the workload in the daemon's metrics, logs and journal.", 127),
            "desired": {"description": "Requested replicas of all pools.", "type": "integer"},
            "ready": {"description": "Ready replicas of all pools.", "type": "integer"},
            "demand": {"description": "Largest need of all policies, in replicas.", "type": "number"},
            "slo": text("State of the SLO: met, at risk, violated or unknown.", 63),
            "costUsdPerHour": {"description": "Cost of the decided size, in USD per hour.", "type": "number"},
            "reason": text("The last decision and its reason."),
            "conditions": conditions,
        },
    }
