"""A HorizontalPodAutoscaler, autoscaling/v1 or v2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.model.field_metadata import LARGEST
from scaler.migrate import promql
from scaler.migrate.autoscaler_ir import ResizeTarget, Scaled, Signal
from scaler.migrate.behavior import behavior
from scaler.migrate.findings import Remark
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions

VERSIONS: Final = ("autoscaling/v1", "autoscaling/v2")
DEFAULT_CPU: Final = 80
"""Percent of the CPU requested, where no metric is given (``pkg/apis/autoscaling/v2/defaults.go``)."""
OLD_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
ADAPTER = "is asked of Prometheus by its own name; the adapter may compute it otherwise"
USED: Final = (
    "is read from cAdvisor's series, and shares from kube-state-metrics' beside them; where pods lack a sample the HPA"
    " counts them as using all that they request before it shrinks, and this daemon does not shrink"
)
NEVER: Final = float(LARGEST)
"""An activation that nothing reaches: KEDA does not ask CPU or memory whether there is work."""
CHECK: Final = "compare both before the HPA goes: kubectl describe hpa"


def target_of(spec: Cursor, namespace: str, api_version: str | None, kind: str | None) -> ResizeTarget:
    """``scaleTargetRef``, with KEDA's defaults where there are any."""
    ref = spec.below("scaleTargetRef", required=True)
    found = ResizeTarget(
        ref.text("apiVersion", api_version, required=api_version is None) or "apps/v1",
        ref.text("kind", kind, required=kind is None) or "Deployment",
        ref.text("name", required=True) or "unnamed",
        namespace,
    )
    ref.skip("envSourceContainerName")
    return found


def read(found: Cursor, spec: Cursor, name: str, given: MigrationOptions) -> Scaled:
    """Return the HPA in our words; what is wrong with it is told to its voice."""
    scaled = Scaled(
        voice=found.voice,
        place=spec.place,
        kind="hpa",
        name=name,
        target=given.target,
        min_replicas=_bound(spec, "minReplicas", 1, 0),
        max_replicas=_bound(spec, "maxReplicas", None, 1),
        signals=[],
        said={"min_replicas": "minReplicas (1)", "max_replicas": "maxReplicas"},
    )
    spec.skip("scaleTargetRef")
    if found.data.get("apiVersion") == "autoscaling/v1":
        _old(found, spec, scaled, given)
    else:
        metrics = spec.items("metrics")
        if metrics:
            scaled.signals = [s for metric in metrics if (s := _metric(metric, scaled, given)) is not None]
        elif not spec.has("metrics"):
            scaled.signals = [_cpu(spec, "metrics", DEFAULT_CPU / 100, given)]
        if spec.has("behavior"):
            scaled.behavior, remarks = behavior(spec.below("behavior"))
            scaled.remark("behavior", *remarks)
    if scaled.min_replicas == 0 and not any(s.target_type != "mean" for s in scaled.signals):
        rule = "0 needs an External or Object metric: those of pods tell nothing where there are none"
        spec.voice.error(spec.at("minReplicas"), rule, "set it to 1")
    scaled.remark("", *spec.unread(("minReplicas", "maxReplicas", "metrics", "behavior", "scaleTargetRef")))
    return scaled


def _bound(spec: Cursor, key: str, default: int | None, least: int) -> int:
    value = spec.whole(key, default, least=least)
    if value is None and not spec.has(key):
        spec.wrong(key, "is required")
    return least if value is None else value


def _old(found: Cursor, spec: Cursor, scaled: Scaled, given: MigrationOptions) -> None:
    """autoscaling/v1 holds one metric of its own; what else the object has, it carries in annotations."""
    percent = spec.whole("targetCPUUtilizationPercentage", None, least=1)
    annotations = found.below("metadata").below("annotations")
    hidden = [key for key in ("metrics", "behavior") if annotations.has(OLD_PREFIX + key)]
    for key in hidden:
        rule = "holds what autoscaling/v1 has no field for"
        scaled.remark("", spec.voice.lost(annotations.at(OLD_PREFIX + key), rule, "kubectl get hpa.v2.autoscaling"))
    if percent is not None or "metrics" not in hidden:
        share = (DEFAULT_CPU if percent is None else percent) / 100
        scaled.signals = [_cpu(spec, "targetCPUUtilizationPercentage", share, given)]


@dataclass(frozen=True, slots=True)
class Use:
    """CPU or memory of the pods: a share of what they request, or (None) an amount of each; of one container or all."""

    name: str
    said: str
    share: float | None
    amount: float = 1.0
    container: str | None = None


def _cpu(spec: Cursor, key: str, share: float, given: MigrationOptions) -> Signal:
    return pods_use(spec, key, Use("cpu", f"{key}, percent of the CPU requested", share), given)


def pods_use(at: Cursor, key: str, use: Use, given: MigrationOptions) -> Signal:
    """Return what the pods use, from Prometheus; `key` is where the manifest names it."""
    source = given.server(at, key, "metrics.k8s.io")
    make = promql.total if given.totals else promql.resource
    asked = make(use.name, given.target, use.container, share=use.share is not None)
    base = use.name if use.share is None else f"{use.name}_{'requests' if given.totals else 'share'}"
    quantity = promql.identifier(base, given.names)
    return Signal(
        place=at.at(key),
        type=use.name,
        source=source,
        quantities=(quantity,),
        target=use.amount if use.share is None else use.share,
        said=use.said,
        target_type="average_value" if given.totals else "mean",
        activation=NEVER if given.totals else 0.0,
        queries={quantity: asked.query},
        times={quantity: asked.time},
        remarks=(at.voice.differs(at.at(key), USED),),
    )


def _metric(metric: Cursor, scaled: Scaled, given: MigrationOptions) -> Signal | None:
    kind = metric.text("type", required=True)
    readers = {
        "Resource": _resource,
        "ContainerResource": _resource,
        "Pods": _pods,
        "Object": _outside,
        "External": _outside,
    }
    if kind not in readers:
        if kind is not None:
            metric.wrong("type", f"must be one of {', '.join(readers)}")
        return None
    key = kind[0].lower() + kind[1:]
    inner = metric.below(key, required=True)
    found = readers[kind](inner, scaled, given) if inner.data else None
    scaled.remark("policies", *metric.unread(), *inner.unread())
    return found


def _target(inner: Cursor, allowed: dict[str, str]) -> tuple[str, float] | None:
    """Return the kind of target that is given, and its value."""
    target = inner.below("target", required=True)
    kind = target.text("type", required=True)
    if kind is None:
        return None
    if kind not in allowed:
        target.wrong("type", f"must be one of {', '.join(allowed)} here")
        return None
    value = target.number(allowed[kind], above=True)
    return None if value is None else (kind, float(value))


def _resource(inner: Cursor, scaled: Scaled, given: MigrationOptions) -> Signal | None:
    name, container = inner.text("name", required=True), inner.text("container")
    target = _target(inner, {"Utilization": "averageUtilization", "AverageValue": "averageValue"})
    if name is None or target is None:
        return None
    if name not in {"cpu", "memory"}:
        rule = f"the HPA has {name} from an adapter, and its query is not in the manifest"
        scaled.remark("policies", inner.voice.lost(inner.at("name"), rule, "add a query of yours to a source"))
        return None
    kind, value = target
    share = value / 100 if kind == "Utilization" else None
    return pods_use(inner, "name", Use(name, kind, share, value, container), given)


def _named(inner: Cursor) -> tuple[str | None, dict[str, str], list[Remark]]:
    """Return a metric's name and the labels that select it."""
    metric = inner.below("metric", required=True)
    chosen = metric.below("selector")
    labels = chosen.below("matchLabels").data
    remarks = []
    if chosen.has("matchExpressions"):
        rule = "narrows the metric, and is not carried over"
        remarks.append(inner.voice.lost(chosen.at("matchExpressions"), rule, "add it to the query's labels"))
    return metric.text("name", required=True), {str(k): str(v) for k, v in labels.items()}, remarks


def _pods(inner: Cursor, scaled: Scaled, given: MigrationOptions) -> Signal | None:
    name, labels, remarks = _named(inner)
    target = _target(inner, {"AverageValue": "averageValue"})
    if name is None or target is None:
        return None
    within = {"namespace": given.target.namespace, "pod__re": given.target.pods, **labels}
    asked = promql.adapt_query(name, within, "avg")
    return _adapted(inner, Adapted(name, asked, "mean", *target, tuple(remarks)), scaled, given)


def _outside(inner: Cursor, scaled: Scaled, given: MigrationOptions) -> Signal | None:
    """External and Object: the same arithmetic."""
    name, labels, remarks = _named(inner)
    target = _target(inner, {"AverageValue": "averageValue", "Value": "value"})
    if inner.has("describedObject"):
        ref = inner.below("describedObject")
        kind = (ref.text("kind", required=True) or "object").lower()
        labels = {"namespace": given.target.namespace, kind: ref.text("name", required=True) or "", **labels}
    inner.skip("describedObject")
    if name is None or target is None:
        return None
    asked = promql.adapt_query(name, {k: v for k, v in labels.items() if promql.NAME.match(k)}, "sum")
    kind = "average_value" if target[0] == "AverageValue" else "value"
    return _adapted(inner, Adapted(name, asked, kind, *target, tuple(remarks)), scaled, given)


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapter's metric: its name, what to ask of Prometheus for it, the kind of target, and the target."""

    name: str
    asked: promql.ParsedQuery | None
    kind: str
    said: str
    target: float
    remarks: tuple[Remark, ...]


def _adapted(inner: Cursor, metric: Adapted, scaled: Scaled, given: MigrationOptions) -> Signal | None:
    place, asked = (*inner.at("metric"), "name"), metric.asked
    if asked is None:
        rule = "is an adapter's own name, and the query behind it is not in the manifest"
        hint = "import the ScaledObject, if it is KEDA's; else add a source of yours"
        scaled.remark("policies", inner.voice.lost(place, rule, hint, metric.name))
        return None
    plain = promql.series(metric.name)
    quantity = promql.identifier(plain[0] if plain else metric.name, given.names)
    return Signal(
        place=inner.place,
        type=metric.name,
        source=given.server(inner, "metric", "an adapter's API"),
        quantities=(quantity,),
        target=metric.target,
        said=metric.said,
        target_type=metric.kind,  # type: ignore[arg-type]
        queries={quantity: asked.query},
        times={quantity: asked.time},
        remarks=(inner.voice.differs(place, ADAPTER, CHECK), *metric.remarks),
    )
