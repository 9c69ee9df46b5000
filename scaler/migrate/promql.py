"""What an HPA has from the metrics API, asked of Prometheus: pods' CPU and memory, and adapters' metrics by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scaler.migrate.autoscaler_ir import ResizeTarget

NAME: Final = re.compile(r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")
"""Of a metric in Prometheus."""
RATE: Final = "[2m]"
"""Over which a counter's rate is taken: four scrapes of 30 s."""
MANAGED: Final = re.compile(
    r"^prometheus\.googleapis\.com[|/]([^|/]+)(?:[|/](gauge|counter|summary|histogram|unknown))?$"
)
"""How GKE's custom metrics adapter names what Managed Service for Prometheus holds."""


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query, and one for when its samples were taken."""

    query: str
    time: str


def selector(**labels: str) -> str:
    """Label matchers in braces; a label that ends with ``__re`` is matched as a regular expression."""
    parts = [
        f"{name.removesuffix('__re')}{'=~' if name.endswith('__re') else '='}{quoted(value)}"
        for name, value in labels.items()
    ]
    return "{" + ",".join(parts) + "}"


def quoted(text: str) -> str:
    """Return a PromQL string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def resource(name: str, target: ResizeTarget, container: str | None, *, share: bool) -> ParsedQuery:
    """CPU (cores) or memory (bytes) that the target's pods use, as a mean, or as a share of what they request."""
    usage, asked, time = _used(name, target, container)
    return ParsedQuery(f"sum({usage}) / sum({asked})" if share else f"avg(sum by (pod) ({usage}))", time)


def total(name: str, target: ResizeTarget, container: str | None, *, share: bool) -> ParsedQuery:
    """Return the same as a total over the pods; with `share` in units of what one of them requests."""
    usage, asked, time = _used(name, target, container)
    return ParsedQuery(f"sum({usage}) / avg(sum by (pod) ({asked}))" if share else f"sum({usage})", time)


def _used(name: str, target: ResizeTarget, container: str | None) -> tuple[str, str, str]:
    """Return what the pods use (cAdvisor), what they request (kube-state-metrics), and when the use was measured."""
    labels = {"namespace": target.namespace, "pod__re": target.pods}
    within = {"container": container} if container else {}
    chosen = selector(**labels, **within) if container else selector(**labels)[:-1] + ',container!=""}'
    series = "container_cpu_usage_seconds_total" if name == "cpu" else "container_memory_working_set_bytes"
    usage = f"rate({series}{chosen}{RATE})" if name == "cpu" else f"{series}{chosen}"
    asked = f"kube_pod_container_resource_requests{selector(**labels, resource=name, **within)}"
    return usage, asked, f"min(timestamp({series}{chosen}))"


def series(name: str) -> tuple[str, bool] | None:
    """Return the series behind a metric's name in an adapter, and whether it is a counter.

    None where that can't be told.
    """
    managed = MANAGED.match(name)
    if managed:
        return (managed[1], managed[2] == "counter") if NAME.match(managed[1]) else None
    return (name, False) if NAME.match(name) else None


def adapt_query(name: str, labels: Mapping[str, str], across: str) -> ParsedQuery | None:
    """Return an adapter's metric over its series: ``sum`` or ``avg`` by pod."""
    found = series(name)
    if found is None:
        return None
    plain, counter = found
    chosen = f"{plain}{selector(**labels) if labels else ''}"
    value = f"rate({chosen}{RATE})" if counter else chosen
    query = f"avg(sum by (pod) ({value}))" if across == "avg" else f"sum({value})"
    return ParsedQuery(query, f"min(timestamp({chosen}))")


def identifier(text: str, taken: set[str]) -> str:
    """Return a quantity's name out of any text, unlike those taken; it is taken then."""
    base = re.sub(r"[^a-zA-Z0-9]+", "_", text).strip("_").lower() or "metric"
    base = base if base[0].isalpha() else f"m_{base}"
    name, n = base, 2
    while name in taken:
        name, n = f"{base}_{n}", n + 1
    taken.add(name)
    return name
