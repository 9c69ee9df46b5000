"""API server actions that the pools need, as permissions name them."""

from __future__ import annotations

from typing import Final

from scaler.clouds.kubernetes.objects import ScalableKind, group_of
from scaler.clouds.kubernetes.permissions import Action
from scaler.config.custom_resource import GROUP, PLURAL
from scaler.config.kinds.kserve import GROUP as KSERVE_GROUP

ROUTES: Final = "kubernetes-routes.yaml"
"""The file in config/deploy that grants the actions on routes."""


def sizing(kind: ScalableKind, namespace: str) -> list[Action]:
    """Return the actions to read and set the size of a kind, and to detect other autoscalers."""
    within = namespace if kind.namespaced else ""
    write = Action("patch", group_of(kind.api_version), f"{kind.plural}/scale", within)
    return [write, *observing(kind, namespace), *events_about_resizes(namespace)]


def observing(kind: ScalableKind, namespace: str) -> list[Action]:
    """Return the actions to read the size of a kind, and to find the autoscalers that write it."""
    kind_namespace = namespace if kind.namespaced else ""
    group, plural = group_of(kind.api_version), kind.plural
    actions = [Action(verb, group, plural, kind_namespace) for verb in ("get", "list", "watch")]
    if not kind.known:
        actions.append(Action("get", group, f"{plural}/scale", kind_namespace))
    purpose = "detection of other autoscalers"
    actions.append(Action("list", "autoscaling", "horizontalpodautoscalers", namespace, needed=False, for_what=purpose))
    actions.append(Action("list", "keda.sh", "scaledobjects", namespace, needed=False, for_what=purpose))
    return actions


def events_about_resizes(namespace: str) -> list[Action]:
    """Return the actions to write events on resized objects."""
    purpose = "events about resizes"
    return [
        Action(verb, "events.k8s.io", "events", namespace, needed=False, for_what=purpose)
        for verb in ("create", "patch")
    ]


def custom_resources(namespace: str) -> list[Action]:
    """Return the actions to read Workloads, and to write their status.

    An empty namespace stands for all.
    """
    verbs = {PLURAL: ("list", "watch"), f"{PLURAL}/status": ("patch",)}
    return [
        Action(verb, GROUP, resource, namespace, manifest="kubernetes-workloads.yaml")
        for resource, allowed in verbs.items()
        for verb in allowed
    ]


def config_maps(namespace: str) -> list[Action]:
    """Return the actions to read workloads in ConfigMaps. An empty namespace stands for all."""
    return [
        Action(verb, "", "configmaps", namespace, manifest="kubernetes-workloads.yaml") for verb in ("list", "watch")
    ]


def leases(namespace: str) -> list[Action]:
    """Return the actions to share workloads among daemons."""
    verbs = ("get", "list", "watch", "create", "patch", "delete")
    return [
        Action(verb, "coordination.k8s.io", "leases", namespace, manifest="kubernetes-leases.yaml") for verb in verbs
    ]


def following(namespace: str, *, drain: bool = False) -> list[Action]:
    """Return the actions to follow pods, their nodes and events.

    With `drain`, they include the action to patch pods.
    """
    purposes = {"pods": "zones and interruption notices", "events": "unschedulable pods"}
    actions = [
        Action(verb, "", plural, namespace, needed=drain and plural == "pods", for_what=purpose)
        for plural, purpose in purposes.items()
        for verb in ("list", "watch")
    ]
    actions += [
        Action(verb, "", "nodes", needed=False, for_what="zones, markets and interruption notices")
        for verb in ("list", "watch")
    ]
    if drain:
        actions.append(Action("patch", "", "pods", namespace))
    return actions


def karpenter(events_in: str) -> list[Action]:
    """Return the actions to size a static NodePool and follow its nodes."""
    verbs = {"nodepools": ("get", "list", "watch"), "nodepools/scale": ("patch",), "nodeclaims": ("list", "watch")}
    actions = [
        Action(verb, "karpenter.sh", resource, manifest="kubernetes-nodes.yaml")
        for resource, allowed in verbs.items()
        for verb in allowed
    ]
    for verb in ("list", "watch"):
        actions.append(Action(verb, "", "nodes", needed=False, for_what="interruption notices"))
        actions.append(Action(verb, "", "events", events_in, needed=False, for_what="capacity shortages"))
    return actions


def kserve(plural: str, namespace: str) -> list[Action]:
    """Return the actions to read KServe's objects of a kind."""
    return [Action(verb, KSERVE_GROUP, plural, namespace) for verb in ("get", "list", "watch")]


def kserve_sizing(plural: str, namespace: str, child: ScalableKind) -> list[Action]:
    """Return the actions to set the size in KServe's objects, and to follow their children."""
    write = Action("patch", KSERVE_GROUP, plural, namespace)
    return [write, *observing(child, namespace), *events_about_resizes(namespace)]


def kserve_group(plural: str, namespace: str) -> list[Action]:
    """Return the actions to read the members of a routing group, and to write their weights."""
    return [*kserve(plural, namespace), Action("patch", KSERVE_GROUP, plural, namespace)]


def buffers(namespace: str) -> list[Action]:
    """Return the actions to size a CapacityBuffer."""
    verbs = ("get", "list", "watch", "patch")
    actions = [Action(verb, "autoscaling.x-k8s.io", "capacitybuffers", namespace) for verb in verbs]
    return actions + events_about_resizes(namespace)


def routing(api_version: str, plural: str, namespace: str, name: str, *, write: bool = True) -> list[Action]:
    """Return the actions to read a route, and to write its weights."""
    verbs = ("get", "patch") if write else ("get",)
    return [Action(verb, group_of(api_version), plural, namespace, manifest=ROUTES, name=name) for verb in verbs]
