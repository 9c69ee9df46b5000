"""The replicas that a metric proposes, by the Kubernetes HorizontalPodAutoscaler v2.

Source: kubernetes/kubernetes, ``pkg/controller/podautoscaler/replica_calculator.go`` (master, mid-2026). Kubernetes
stores metrics as whole thousandths (``resource.Quantity.MilliValue``). So does this module, so that quotients round
exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MILLI: Final = 1000


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The dead band around the target, as shares of it: `down` for scale-in, `up` for scale-out."""

    down: float
    up: float

    def holds(self, ratio: float) -> bool:
        """Return whether the metric is within the dead band.

        Example: with 0.1 both ways, 1.05 is within it and 1.11 is not.
        """
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def milli(value: float) -> int:
    """Return a value in whole thousandths: 2,500 for 2.5."""
    return round(value * MILLI)


def by_average_value(total: float, target: float, size: int, tolerance: Tolerance) -> int:
    """Return the proposal of an External or Object metric with target type AverageValue.

    The target is a total per replica. The ready replicas do not matter, so a slow start is not multiplied. But a
    backlog that grows while replicas start becomes replicas one to one. Example: 1,101 at 100 per replica proposes 12.
    At 10 replicas and a tolerance of 10 %, 1,100 proposes no change.
    """
    amount, per_replica = milli(total), milli(target)
    if size and tolerance.holds(amount / (per_replica * size)):
        return size
    return -(-amount // per_replica)


def by_value(total: float, target: float, size: int, ready: int, tolerance: Tolerance) -> int:
    """Return the proposal of an External or Object metric with target type Value.

    It is the ratio of the metric to its target, times the ready replicas. The ratio ignores replicas that are starting.
    If a backlog lasts while replicas start, each batch that becomes ready is multiplied by the whole ratio again
    (llm-d-autoscaling PR 1019: 22,745 pods for 100 requests a second). Without a ready replica the proposal is 0
    (kubernetes issue 130130).

    Example: 300 at a target of 100 proposes 12 with 4 ready replicas, and 36 once these 12 are ready.
    """
    amount, target_amount = milli(total), milli(target)
    if size == 0:
        return -(-amount // target_amount)
    if tolerance.holds(amount / target_amount):
        return size
    return -(-amount * ready // target_amount)


@dataclass(frozen=True, slots=True)
class PodGroups:
    """The pods of a workload by group: with a sample, not ready, and running without a sample."""

    measured: int
    unready: int = 0
    missing: int = 0


def by_pods(mean: float, target: float, size: int, pods: PodGroups, tolerance: Tolerance) -> int | None:
    """Return the proposal of a Pods metric.

    It is by the mean over the pods with a sample, damped by the other pods. A pod without a sample counts as at the
    target for scale-in and as idle for scale-out, an unready pod as idle for scale-out. If that reverses the direction,
    nothing changes. None if no pod has a sample.

    Example: 6 pods with a target of 1.0, 3 of them without a sample. A mean of 3.0 proposes 3 * 3.0 = 9. Example: 10
    pods, 5 of them without a sample. A mean of 0.4 proposes 5 * 0.4 + 5 * 1.0 = 7.
    """
    if pods.measured == 0:
        return None
    per_replica, usage = milli(target), milli(mean) * pods.measured
    ratio = usage / (per_replica * pods.measured)
    growing = ratio > 1.0
    counted = pods.measured
    if pods.missing and ratio != 1.0:
        counted += pods.missing
        usage += 0 if growing else per_replica * pods.missing
    if pods.unready and growing:
        counted += pods.unready
    corrected = usage / (per_replica * counted)
    if tolerance.holds(corrected) or (ratio < 1.0 < corrected) or (corrected < 1.0 < ratio):
        return size
    proposal = -(-usage // per_replica)
    if counted > pods.measured and (proposal < size if corrected > 1.0 else proposal > size):
        return size
    return proposal
