"""Reads a HorizontalPodAutoscaler, autoscaling/v1 or v2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.model.field_metadata import LARGEST
from scaler.migrate import promql
from scaler.migrate.autoscaler_ir import Autoscaler, ResizeTarget, Signal
from scaler.migrate.behavior import behavior
from scaler.migrate.findings import Remark
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions

VERSIONS: Final = ("autoscaling/v1", "autoscaling/v2")
DEFAULT_CPU: Final = 80
"""Default target without metrics, in percent of the requested CPU (``pkg/apis/autoscaling/v2/defaults.go``)."""
OLD_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
ADAPTER = "is queried from Prometheus by its own name; the adapter may compute it differently"
USED: Final = (
    "is read from cAdvisor's series, divided by kube-state-metrics' requests for a share. For pods without a sample the"
    " HPA assumes full usage before it scales in; Forescale does not scale in"
)
NEVER: Final = float(LARGEST)
"""An activation threshold that no value reaches: in KEDA, CPU and memory do not activate a workload."""
CHECK: Final = "compare both values before you delete the HPA: kubectl describe hpa"


def target_of(spec: Cursor, namespace: str, api_version: str | None, kind: str | None) -> ResizeTarget:
    """Return the target of ``scaleTargetRef``.

    `api_version` and `kind` are defaults; None requires the key.
    """
    ref = spec.mapping("scaleTargetRef", required=True)
    target = ResizeTarget(
        ref.text("apiVersion", api_version, required=api_version is None) or "apps/v1",
        ref.text("kind", kind, required=kind is None) or "Deployment",
        ref.text("name", required=True) or "",
        namespace,
    )
    ref.skip("envSourceContainerName")
    return target


def read(root: Cursor, spec: Cursor, name: str, options: MigrationOptions) -> Autoscaler:
    """Return the HPA of the object `root`. Problems are added to its reporter."""
    autoscaler = Autoscaler(
        reporter=root.reporter,
        place=spec.place,
        kind="hpa",
        name=name,
        target=options.target,
        min_replicas=_bound(spec, "minReplicas", 1, 0),
        max_replicas=_bound(spec, "maxReplicas", None, 1),
        signals=[],
        labels={"min_replicas": "minReplicas (1)", "max_replicas": "maxReplicas"},
    )
    spec.skip("scaleTargetRef")
    if root.data.get("apiVersion") == "autoscaling/v1":
        _read_v1(root, spec, autoscaler, options)
    else:
        metrics = spec.items("metrics")
        if metrics:
            autoscaler.signals = [s for metric in metrics if (s := _metric(metric, autoscaler, options)) is not None]
        elif not spec.has("metrics"):
            autoscaler.signals = [_cpu(spec, "metrics", DEFAULT_CPU / 100, options)]
        if spec.has("behavior"):
            autoscaler.behavior, remarks = behavior(spec.mapping("behavior"))
            autoscaler.remark("behavior", *remarks)
    if autoscaler.min_replicas == 0 and not any(s.target_type != "mean" for s in autoscaler.signals):
        rule = "0 needs an External or Object metric: pod metrics have no values at zero pods"
        spec.reporter.error(spec.place_of("minReplicas"), rule, "set it to 1")
    autoscaler.remark("", *spec.unread(("minReplicas", "maxReplicas", "metrics", "behavior", "scaleTargetRef")))
    return autoscaler


def _bound(spec: Cursor, key: str, default: int | None, minimum: int) -> int:
    value = spec.integer(key, default, minimum=minimum)
    if value is None and not spec.has(key):
        spec.report_missing(key)
    return minimum if value is None else value


def _read_v1(root: Cursor, spec: Cursor, autoscaler: Autoscaler, options: MigrationOptions) -> None:
    """Read autoscaling/v1.

    That version has CPU as its only metric, and annotations for the fields of v2.
    """
    percent = spec.integer("targetCPUUtilizationPercentage", None, minimum=1)
    annotations = root.mapping("metadata").mapping("annotations")
    annotated = [key for key in ("metrics", "behavior") if annotations.has(OLD_PREFIX + key)]
    for key in annotated:
        rule = "holds settings that autoscaling/v1 has no field for"
        autoscaler.remark(
            "", spec.reporter.lost(annotations.place_of(OLD_PREFIX + key), rule, "kubectl get hpa.v2.autoscaling")
        )
    if percent is not None or "metrics" not in annotated:
        share = (DEFAULT_CPU if percent is None else percent) / 100
        autoscaler.signals = [_cpu(spec, "targetCPUUtilizationPercentage", share, options)]


@dataclass(frozen=True, slots=True)
class PodUsage:
    """A target for the pods' CPU or memory, of one container or all.

    It is a share of the requests, or an amount per pod.
    """

    name: str
    label: str
    share: float | None
    amount: float = 1.0
    container: str | None = None


def _cpu(spec: Cursor, key: str, share: float, options: MigrationOptions) -> Signal:
    return usage_signal(spec, key, PodUsage("cpu", f"{key}, percent of requested CPU", share), options)


def usage_signal(cursor: Cursor, key: str, usage: PodUsage, options: MigrationOptions) -> Signal:
    """Return the signal of the pods' usage from Prometheus.

    `key` is the manifest's key of the metric.
    """
    source = options.server(cursor, key, "metrics.k8s.io")
    build = promql.total if options.totals else promql.resource
    query = build(usage.name, options.target, usage.container, share=usage.share is not None)
    base = usage.name if usage.share is None else f"{usage.name}_{'requests' if options.totals else 'share'}"
    quantity = promql.identifier(base, options.quantity_names)
    return Signal(
        place=cursor.place_of(key),
        type=usage.name,
        source=source,
        quantities=(quantity,),
        target=usage.amount if usage.share is None else usage.share,
        label=usage.label,
        target_type="average_value" if options.totals else "mean",
        activation=NEVER if options.totals else 0.0,
        queries={quantity: query.query},
        times={quantity: query.time},
        remarks=(cursor.reporter.differs(cursor.place_of(key), USED),),
    )


def _metric(metric: Cursor, autoscaler: Autoscaler, options: MigrationOptions) -> Signal | None:
    kind = metric.text("type", required=True)
    readers = {
        "Resource": _resource,
        "ContainerResource": _resource,
        "Pods": _pods,
        "Object": _external,
        "External": _external,
    }
    if kind not in readers:
        if kind is not None:
            metric.report_error("type", f"must be one of {', '.join(readers)}")
        return None
    key = kind[0].lower() + kind[1:]
    inner = metric.mapping(key, required=True)
    signal = readers[kind](inner, autoscaler, options) if inner.data else None
    autoscaler.remark("policies", *metric.unread(), *inner.unread())
    return signal


def _target(inner: Cursor, allowed: dict[str, str]) -> tuple[str, float] | None:
    """Return the type of the target and its value."""
    target = inner.mapping("target", required=True)
    kind = target.text("type", required=True)
    if kind is None:
        return None
    if kind not in allowed:
        target.report_error("type", f"must be one of {', '.join(allowed)} here")
        return None
    value = target.number(allowed[kind], exclusive=True)
    return None if value is None else (kind, float(value))


def _resource(inner: Cursor, autoscaler: Autoscaler, options: MigrationOptions) -> Signal | None:
    name, container = inner.text("name", required=True), inner.text("container")
    target = _target(inner, {"Utilization": "averageUtilization", "AverageValue": "averageValue"})
    if name is None or target is None:
        return None
    if name not in {"cpu", "memory"}:
        rule = f"the HPA reads {name} from an adapter; its query is not in the manifest"
        autoscaler.remark(
            "policies",
            inner.reporter.lost(inner.place_of("name"), rule, "add a query for it to a source", names=(name,)),
        )
        return None
    kind, value = target
    share = value / 100 if kind == "Utilization" else None
    return usage_signal(inner, "name", PodUsage(name, kind, share, value, container), options)


def _metric_name(inner: Cursor) -> tuple[str | None, dict[str, str], list[Remark]]:
    """Return a metric's name and the labels that select it."""
    metric = inner.mapping("metric", required=True)
    selector = metric.mapping("selector")
    labels = selector.mapping("matchLabels").data
    remarks = []
    if selector.has("matchExpressions"):
        rule = "selects series of the metric and is not carried over"
        remarks.append(inner.reporter.lost(selector.place_of("matchExpressions"), rule, "add the labels to the query"))
    return metric.text("name", required=True), {str(k): str(v) for k, v in labels.items()}, remarks


def _pods(inner: Cursor, autoscaler: Autoscaler, options: MigrationOptions) -> Signal | None:
    name, labels, remarks = _metric_name(inner)
    target = _target(inner, {"AverageValue": "averageValue"})
    if name is None or target is None:
        return None
    selectors = {"namespace": options.target.namespace, "pod__re": options.target.pods, **labels}
    query = promql.adapt_query(name, selectors, "avg")
    return _adapter_signal(inner, AdapterMetric(name, query, "mean", *target, tuple(remarks)), autoscaler, options)


def _external(inner: Cursor, autoscaler: Autoscaler, options: MigrationOptions) -> Signal | None:
    """Return the signal of an External or Object metric, which have the same semantics."""
    name, labels, remarks = _metric_name(inner)
    target = _target(inner, {"AverageValue": "averageValue", "Value": "value"})
    if inner.has("describedObject"):
        ref = inner.mapping("describedObject")
        kind = (ref.text("kind", required=True) or "object").lower()
        labels = {"namespace": options.target.namespace, kind: ref.text("name", required=True) or "", **labels}
    inner.skip("describedObject")
    if name is None or target is None:
        return None
    query = promql.adapt_query(name, {k: v for k, v in labels.items() if promql.NAME.match(k)}, "sum")
    kind = "average_value" if target[0] == "AverageValue" else "value"
    return _adapter_signal(inner, AdapterMetric(name, query, kind, *target, tuple(remarks)), autoscaler, options)


@dataclass(frozen=True, slots=True)
class AdapterMetric:
    """A metric of an adapter.

    It has its name, the query of Prometheus for it, the type of target, and the target.
    """

    name: str
    query: promql.ParsedQuery | None
    kind: str
    label: str
    target: float
    remarks: tuple[Remark, ...]


def _adapter_signal(
    inner: Cursor, metric: AdapterMetric, autoscaler: Autoscaler, options: MigrationOptions
) -> Signal | None:
    place, query = (*inner.place_of("metric"), "name"), metric.query
    if query is None:
        rule = "is a name that only the adapter knows; its query is not in the manifest"
        hint = "if KEDA serves it, import the ScaledObject; otherwise add a source for it"
        autoscaler.remark("policies", inner.reporter.lost(place, rule, hint, metric.name, (metric.name,)))
        return None
    series = promql.series(metric.name)
    quantity = promql.identifier(series[0] if series else metric.name, options.quantity_names)
    return Signal(
        place=inner.place,
        type=metric.name,
        source=options.server(inner, "metric", "an adapter's API"),
        quantities=(quantity,),
        target=metric.target,
        label=metric.label,
        target_type=metric.kind,  # type: ignore[arg-type]
        queries={quantity: query.query},
        times={quantity: query.time},
        remarks=(inner.reporter.differs(place, ADAPTER, CHECK), *metric.remarks),
    )
