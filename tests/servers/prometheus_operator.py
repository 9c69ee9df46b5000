"""The kinds of the Prometheus Operator, with the published schema of the fields that the chart sets.

The API server removes every other field, so that a test that compares finds a misspelled one.
"""

from __future__ import annotations

from typing import Any, Final

GROUP: Final = "monitoring.coreos.com"
TEXT: Final = {"type": "string"}
TEXTS: Final = {"type": "object", "additionalProperties": TEXT}
DURATION: Final = {
    "type": "string",
    "pattern": "^(0|(([0-9]+)y)?(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
}


def record(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, **({"required": [*required]} if required else {})}


def items(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


SECRET_KEY: Final = record(("key",), key=TEXT, name=TEXT, optional={"type": "boolean"})
ENDPOINT: Final = record(
    port=TEXT,
    path=TEXT,
    scheme={"type": "string", "enum": ["http", "https"]},
    interval=DURATION,
    scrapeTimeout=DURATION,
    authorization=record(type=TEXT, credentials=SECRET_KEY),
    tlsConfig=record(serverName=TEXT, insecureSkipVerify={"type": "boolean"}),
)
SELECTOR: Final = record(matchLabels=TEXTS)
RULE: Final = record(
    ("expr",),
    alert=TEXT,
    record=TEXT,
    expr={"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
    **{"for": DURATION},
    labels=TEXTS,
    annotations=TEXTS,
)
GROUPS: Final = items(record(("name",), name={"type": "string", "minLength": 1}, interval=DURATION, rules=items(RULE)))
SPECS: Final = {
    "ServiceMonitor": record(("endpoints", "selector"), endpoints=items(ENDPOINT), selector=SELECTOR),
    "PodMonitor": record(("selector",), podMetricsEndpoints=items(ENDPOINT), selector=SELECTOR),
    "PrometheusRule": record(groups=GROUPS),
}


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions."""
    return [definition(GROUP, kind, f"{kind.lower()}s", spec) for kind, spec in SPECS.items()]


def definition(
    group: str, kind: str, plural: str, spec: dict[str, Any], scope: str = "Namespaced", version: str = "v1"
) -> dict[str, Any]:
    """Return the CustomResourceDefinition of one version of a kind."""
    schema = {"openAPIV3Schema": record(("spec",), spec=spec)}
    names = {"plural": plural, "singular": kind.lower(), "kind": kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "scope": scope,
            "names": names,
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}],
        },
    }
