"""The keys of each kind of autoscaler by level.

They give hints on keys that are misspelled or at the wrong level.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean

Levels = Mapping[str, tuple[str, ...]]
"""The keys of each level. Where two levels have the same key, the first one is proposed."""
ROOT: Final = ("apiVersion", "kind", "metadata", "spec", "status")
RULES: Final = ("stabilizationWindowSeconds", "selectPolicy", "policies", "tolerance")
BEHAVIOR: Final = ("scaleUp", "scaleDown")


def _behavior(place: str) -> dict[str, tuple[str, ...]]:
    return {place: BEHAVIOR, **{f"{place}.{side}": RULES for side in BEHAVIOR}}


TRIGGER: Final = ("type", "name", "metadata", "authenticationRef", "metricType", "useCachedMetrics")
METADATA: Final = (
    "threshold", "query", "serverAddress", "activationThreshold", "ignoreNullValues", "customHeaders", "unsafeSsl",
    "authModes", "queueURL", "queueLength", "activationQueueLength", "awsRegion", "awsEndpoint", "scaleOnInFlight",
    "scaleOnDelayed", "identityOwner", "targetMetricValue", "activationTargetMetricValue", "namespace", "metricName",
    "dimensionName", "dimensionValue", "metricStat", "metricStatPeriod", "subscriptionName", "value", "activationValue",
    "mode", "queueName", "topicName", "messageCount", "activationMessageCount", "cloud", "endpointSuffix", "timezone",
    "start", "end", "desiredReplicas", "containerName",
)  # fmt: skip
"""Keys of all types of triggers that are imported."""
KEYS: Final[Mapping[str, Levels]] = {
    "ScaledObject": {
        "": ROOT,
        "spec": (
            "scaleTargetRef", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod", "idleReplicaCount",
            "minReplicaCount", "maxReplicaCount", "advanced", "triggers", "fallback",
        ),
        "spec.advanced": ("restoreToOriginalReplicaCount", "horizontalPodAutoscalerConfig", "scalingModifiers"),
        "spec.advanced.horizontalPodAutoscalerConfig": ("name", "behavior"),
        **_behavior("spec.advanced.horizontalPodAutoscalerConfig.behavior"),
        "spec.fallback": ("failureThreshold", "replicas", "behavior"),
        "spec.triggers[]": TRIGGER,
        "spec.triggers[].metadata": METADATA,
    },
    "HorizontalPodAutoscaler": {
        "": ROOT,
        "spec": (
            "scaleTargetRef", "minReplicas", "maxReplicas", "metrics", "behavior", "targetCPUUtilizationPercentage"
        ),
        **_behavior("spec.behavior"),
        "spec.metrics[]": ("type", "resource", "containerResource", "pods", "object", "external"),
        "spec.metrics[].external": ("metric", "target"),
    },
}  # fmt: skip


def level_of(place: Place, root: Place) -> str:
    """Return the level of a place below its object.

    Example: ``("spec", "triggers", 1)`` gives ``spec.triggers[]``.
    """
    text = "".join("[]" if isinstance(key, int) else f".{key}" for key in place[len(root) :])
    return text.removeprefix(".")


def hint(key: str, level: str, levels: Levels, known: Collection[str]) -> str:
    """Return the remedy for an unknown key: its right level or its right spelling.

    It is empty where no key is similar.
    """
    own = {*known, *levels.get(level, ())}
    others = {name: other for other, names in reversed(list(levels.items())) if other != level for name in names}
    if key in others:
        return f"it belongs under {others[key]}" if others[key] else "it belongs at the top of the object"
    if near := did_you_mean(key, sorted(own)):
        return near
    near_other = next((name for name in others if did_you_mean(key, [name])), None)
    return f"did you mean {near_other!r} under {others[near_other] or 'the object'}?" if near_other else ""
