"""KServe's objects: the child that runs their replicas, and the fields that set its size.

KServe creates a Deployment or LeaderWorkerSet for each set of replicas. It writes the child's size where the object's
spec has one, and otherwise leaves the child's own size alone. An autoscaler that KServe runs forbids a resize.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds.kubernetes.custom_resources import CustomObject, CustomObjects
from scaler.clouds.kubernetes.objects import Path, ScalableState
from scaler.clouds.kubernetes.watch import SharedWatch
from scaler.clouds.response_validation import machine_count, one_line, unavailable_if_malformed
from scaler.clouds.timestamps import seconds_of
from scaler.config.kinds.kserve import DEPLOYMENT, GROUP, LEADER_WORKER_SET, KServe
from scaler.ports import Clock, Misconfigured

AUTOSCALER_CLASS: Final = f"{GROUP}/autoscalerClass"
DEFAULT_CLASS: Final = "hpa"
"""Autoscaler of an InferenceService without the annotation."""
DEPLOYMENT_MODE: Final = f"{GROUP}/deploymentMode"
STANDARD: Final = frozenset({"RawDeployment", "Standard"})
"""Both names of the mode without Knative; absent, the child shows whether it is this one."""
STOP: Final = f"{GROUP}/stop"
FAILED_TRANSITIONS: Final = frozenset({"BlockedByFailedLoad", "InvalidSpec"})
"""States of an InferenceService whose new replicas do not become ready."""
KINDS: Final = {kind: (version, kind) for version, kind in (DEPLOYMENT, LEADER_WORKER_SET)}


@dataclass(frozen=True, slots=True)
class Child:
    """The object that KServe runs replicas in."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Component:
    """One set of replicas of a KServe object.

    `size_fields` are the fields of the object's spec that set the size; empty where the child's own size counts.
    `refusal` is the reason with its remedy where KServe forbids a resize.
    """

    child: Child
    size_fields: tuple[Path, ...] = ()
    refusal: str = ""
    stopped: bool = False


def component_of(spec: KServe, parent: CustomObject) -> Component:
    """Return the replicas that a pool resizes.

    Raises `Misconfigured` where KServe does not run them in a child of a known kind, and `Unavailable` for a malformed
    object.
    """
    with unavailable_if_malformed(f"{spec.object_kind} {parent.name}"):
        component = _predictor(spec, parent) if spec.object_kind == "InferenceService" else _workload(spec, parent)
        if str(parent.annotations.get(STOP)).lower() == "true":
            refusal = f"it is stopped by its annotation {STOP}; remove the annotation"
            return replace(component, refusal=refusal, stopped=True)
        return component


def _predictor(spec: KServe, parent: CustomObject) -> Component:
    mode = parent.status.get("deploymentMode") or parent.annotations.get(DEPLOYMENT_MODE) or "Standard"
    if mode not in STANDARD:
        raise Misconfigured(
            f"InferenceService {parent.name}: in the deployment mode {one_line(mode)}, another autoscaler sizes it;"
            f" create it with the annotation {DEPLOYMENT_MODE}: Standard"
        )
    child = Child(*spec.child(multi_node=False))
    autoscaler = parent.annotations.get(AUTOSCALER_CLASS) or DEFAULT_CLASS
    if autoscaler == "external":
        return Component(child)
    if autoscaler == "none":
        return Component(child, (("predictor", "minReplicas"), ("predictor", "maxReplicas")))
    remedy = f"set its annotation {AUTOSCALER_CLASS} to external"
    return Component(child, refusal=f"KServe's autoscaler of class {one_line(autoscaler)} sizes it; {remedy}")


def _workload(spec: KServe, parent: CustomObject) -> Component:
    prefix: Path = ("prefill",) if spec.component == "prefill" else ()
    workload: Mapping[str, Any] = parent.spec
    if prefix:
        workload = parent.spec.get("prefill") or {}
        if not workload:
            raise Misconfigured(f"LLMInferenceService {parent.name} has no spec.prefill; set component: main")
    child = _referenced_child(spec, parent) or Child(*spec.child(multi_node=workload.get("worker") is not None))
    if workload.get("scaling") is not None:
        path = ".".join(("spec", *prefix, "scaling"))
        return Component(child, refusal=f"KServe's autoscaler sizes it; replace {path} by replicas, or remove it")
    return Component(child, ((*prefix, "replicas"),) if workload.get("replicas") is not None else ())


def _referenced_child(spec: KServe, parent: CustomObject) -> Child | None:
    """Return the child that the status names; None before KServe created one."""
    workloads = parent.status.get("workloads") or {}
    reference = workloads.get("prefill" if spec.component == "prefill" else "primary")
    if not reference:
        return None
    kind = reference["kind"]
    if kind not in KINDS:
        raise Misconfigured(
            f"LLMInferenceService {parent.name}: its replicas are in a {one_line(kind)}, which this kind of pool cannot"
            " resize; only a Deployment and a LeaderWorkerSet are supported"
        )
    return Child(*KINDS[kind], str(reference["name"]))


def missing_replicas(parent: CustomObject, pending: int, unapplied: int) -> tuple[int, Shortfall | None]:
    """Return the number of pending replicas that KServe reports as failed, and its reason.

    They are all pending ones where the model cannot be loaded. They are the `unapplied` ones, which the child lacks,
    where KServe observed the new size and refused it.
    """
    with unavailable_if_malformed(f"the status of {parent.name}"):
        ready = parent.condition("Ready")
        changed_at = seconds_of(ready.get("lastTransitionTime"), parent.at)
        model = parent.status.get("modelStatus") or {}
        if model.get("transitionStatus") in FAILED_TRANSITIONS:
            failure = model.get("lastFailureInfo") or {}
            text = _reported(failure.get("reason") or model["transitionStatus"], failure.get("message"))
            return pending, Shortfall(seconds_of(failure.get("time"), changed_at), text)
        is_observed = parent.generation is not None and parent.status.get("observedGeneration") == parent.generation
        if unapplied and is_observed and ready.get("status") == "False":
            return min(pending, unapplied), Shortfall(changed_at, _reported(ready.get("reason"), ready.get("message")))
        return 0, None


def reason_not_ready(parent: CustomObject) -> str:
    """Return KServe's own reason why an object is not ready; empty without one."""
    with unavailable_if_malformed(f"the status of {parent.name}"):
        ready = parent.condition("Ready")
        return _reported(ready.get("reason"), ready.get("message")) if ready.get("status") == "False" else ""


def _reported(reason: object, message: object) -> str:
    return one_line(f"KServe reports {reason or 'no reason'}: {message or 'no message'}")


class ParentSizes:
    """The sizes of children that fields of their parents set, as `SizedObjects`.

    Its states are those of the child, with size, version and writer of the parent.
    """

    def __init__(self, parents: CustomObjects, parent: str, fields: tuple[Path, ...], children: SharedWatch) -> None:
        self._parents = parents
        self._parent = parent
        self._fields = fields
        self._children = children

    @property
    def clock(self) -> Clock:
        return self._children.clock

    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState:
        parent = await self._parents.get(self._parent, timeout_s, refresh=refresh)
        child = await self._children.state(name, timeout_s)
        with unavailable_if_malformed(f"the size of {self._parent}"):
            value: Any = parent.spec
            for key in self._fields[0]:
                value = value.get(key)
            writer = parent.writer(self._fields[0])
        desired = child.desired if value is None else machine_count(".".join(("spec", *self._fields[0])), value)
        at = min(child.at, self._parents.confirmed_since(parent))
        return replace(child, desired=desired, version=parent.version, writer=writer, at=at)

    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None:
        spec: dict[str, Any] = {}
        for *outer, field in self._fields:
            place = spec
            for key in outer:
                place = place.setdefault(key, {})
            place[field] = replicas
        await self._parents.patch(self._parent, spec, version, timeout_s)
