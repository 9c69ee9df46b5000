"""How many replicas a metric asks for, by the Kubernetes HorizontalPodAutoscaler v2.

Source: kubernetes/kubernetes, ``pkg/controller/podautoscaler/replica_calculator.go`` (master, mid-2026). Kubernetes
holds metrics as whole thousandths (``resource.Quantity.MilliValue``); so does this, and the quotients round exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The dead band around the target, as shares of it, for shrinking and for growing."""

    down: float
    up: float

    def holds(self, ratio: float) -> bool:
        """Return whether the metric is so near its target that nothing should change."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def milli(value: float) -> int:
    """Return a value in whole thousandths."""
    return round(value * MILLI)


def by_average_value(total: float, target: float, size: int, tolerance: Tolerance) -> int:
    """External or object metric, target type AverageValue: a total shared out over all `size` replicas.

    What a replica gets does not depend on how many are ready, so a slow start is not multiplied; but a backlog that
    grows while replicas start is turned into replicas one to one.
    """
    amount, each = milli(total), milli(target)
    if size and tolerance.holds(amount / (each * size)):
        return size
    return -(-amount // each)


def by_value(total: float, target: float, size: int, ready: int, tolerance: Tolerance) -> int:
    """External or object metric, target type Value: the ratio to the target, times the *ready* replicas.

    The ratio ignores those that are still starting: if a backlog lasts while replicas start, each batch that turns
    ready is multiplied by the whole ratio again (llm-d-autoscaling PR 1019: 22,745 pods for 100 requests a second). No
    replica ready at all proposes 0 (kubernetes issue 130130).
    """
    amount, wanted = milli(total), milli(target)
    if size == 0:
        return -(-amount // wanted)
    if tolerance.holds(amount / wanted):
        return size
    return -(-amount * ready // wanted)


@dataclass(frozen=True, slots=True)
class PodGroups:
    """A workload's pods as the controller groups them: with a sample, not ready, running without a sample."""

    measured: int
    unready: int = 0
    missing: int = 0


def by_pods(mean: float, target: float, size: int, pods: PodGroups, tolerance: Tolerance) -> int | None:
    """Pods metric: the mean over the pods with a sample, the others filled in so that the change gets smaller.

    A pod without a sample counts as at the target when shrinking and as idle when growing, an unready one as idle when
    growing. Where that turns the direction round, nothing changes. None if no pod has a sample.
    """
    if pods.measured == 0:
        return None
    each, used = milli(target), milli(mean) * pods.measured
    ratio = used / (each * pods.measured)
    growing = ratio > 1.0
    filled = pods.measured
    if pods.missing and ratio != 1.0:
        filled += pods.missing
        used += 0 if growing else each * pods.missing
    if pods.unready and growing:
        filled += pods.unready
    corrected = used / (each * filled)
    if tolerance.holds(corrected) or (ratio < 1.0 < corrected) or (corrected < 1.0 < ratio):
        return size
    wanted = -(-used // each)
    if filled > pods.measured and (wanted < size if corrected > 1.0 else wanted > size):
        return size
    return wanted
