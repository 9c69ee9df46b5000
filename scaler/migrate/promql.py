"""PromQL for the metrics that an HPA reads from Kubernetes.

They are the pods' CPU and memory, and adapters' metrics by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scaler.migrate.autoscaler_ir import ResizeTarget

NAME: Final = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
"""Name of a metric in Prometheus."""
RATE: Final = "[2m]"
"""Window of a counter's rate: four scrapes of 30 s."""
MANAGED: Final = re.compile(
    r"^prometheus\.googleapis\.com[|/]([^|/]+)(?:[|/](gauge|counter|summary|histogram|unknown))?$"
)
"""Name of a metric of Managed Service for Prometheus in GKE's custom metrics adapter."""


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query, and one for the time of its samples."""

    query: str
    time: str


def selector(**labels: str) -> str:
    """Return label matchers in braces.

    A keyword that ends with ``__re`` matches a regular expression.

    Example: ``selector(namespace="llm", pod__re="vllm-.+")`` is ``{namespace="llm",pod=~"vllm-.+"}``.
    """
    parts = [
        f"{name.removesuffix('__re')}{'=~' if name.endswith('__re') else '='}{quoted(value)}"
        for name, value in labels.items()
    ]
    return "{" + ",".join(parts) + "}"


def quoted(text: str) -> str:
    """Return a text as a PromQL string literal."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def resource(name: str, target: ResizeTarget, container: str | None, *, share: bool) -> ParsedQuery:
    """Return the query of the pods' CPU (cores) or memory (bytes).

    It is the mean per pod, or the share of their requests.
    """
    usage, requested, time = _usage_series(name, target, container)
    return ParsedQuery(f"sum({usage}) / sum({requested})" if share else f"avg(sum by (pod) ({usage}))", time)


def total(name: str, target: ResizeTarget, container: str | None, *, share: bool) -> ParsedQuery:
    """Return the query of the pods' CPU or memory as a total.

    With `share`, it is in units of one pod's requests.
    """
    usage, requested, time = _usage_series(name, target, container)
    return ParsedQuery(f"sum({usage}) / avg(sum by (pod) ({requested}))" if share else f"sum({usage})", time)


def _usage_series(name: str, target: ResizeTarget, container: str | None) -> tuple[str, str, str]:
    """Return the series of usage and requests, and the query of the usage's time.

    Usage comes from cAdvisor, requests from kube-state-metrics.
    """
    labels = {"namespace": target.namespace, "pod__re": target.pods}
    container_labels = {"container": container} if container else {}
    matchers = selector(**labels, **container_labels) if container else selector(**labels)[:-1] + ',container!=""}'
    series = "container_cpu_usage_seconds_total" if name == "cpu" else "container_memory_working_set_bytes"
    usage = f"rate({series}{matchers}{RATE})" if name == "cpu" else f"{series}{matchers}"
    requested = f"kube_pod_container_resource_requests{selector(**labels, resource=name, **container_labels)}"
    return usage, requested, f"min(timestamp({series}{matchers}))"


def series(name: str) -> tuple[str, bool] | None:
    """Return the series behind a metric's name in an adapter, and whether it is a counter.

    None where the name does not determine it.
    """
    managed = MANAGED.match(name)
    if managed:
        return (managed[1], managed[2] == "counter") if NAME.match(managed[1]) else None
    return (name, False) if NAME.match(name) else None


def adapt_query(name: str, labels: Mapping[str, str], across: str) -> ParsedQuery | None:
    """Return the query of an adapter's metric.

    It is the sum of its series, or with "avg" the mean over the pods.
    """
    known = series(name)
    if known is None:
        return None
    series_name, is_counter = known
    instant = f"{series_name}{selector(**labels) if labels else ''}"
    value = f"rate({instant}{RATE})" if is_counter else instant
    query = f"avg(sum by (pod) ({value}))" if across == "avg" else f"sum({value})"
    return ParsedQuery(query, f"min(timestamp({instant}))")


def identifier(text: str, used_names: set[str]) -> str:
    """Return a unique quantity's name made from a text, and add it to `used_names`.

    Example: "Queue Depth" is ``queue_depth``, or ``queue_depth_2`` if that is in use.
    """
    base = re.sub(r"[^a-zA-Z0-9]+", "_", text).strip("_").lower() or "metric"
    base = base if base[0].isalpha() else f"m_{base}"
    name, n = base, 2
    while name in used_names:
        name, n = f"{base}_{n}", n + 1
    used_names.add(name)
    return name
