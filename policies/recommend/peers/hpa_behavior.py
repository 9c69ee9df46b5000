"""The HorizontalPodAutoscaler's windows and rates.

They lead from the proposal of the metrics to a size.

Source: kubernetes/kubernetes, ``pkg/controller/podautoscaler/horizontal.go`` and
``pkg/apis/autoscaling/v2/defaults.go`` (master, mid-2026). There are two paths, as in the source: with a ``behavior``,
whose missing parts have the v2 defaults, and without one, the older rule that most HPAs (KEDA's among them) still use.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal

import numpy as np

from policies.history.ticks import AT, CAPPED_NEED, CURRENT, TARGET
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import PolicyContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

DOWNSCALE_STABILIZATION_S: Final = 300.0
"""``--horizontal-pod-autoscaler-downscale-stabilization``."""
LEGACY_FACTOR: Final = 2
LEGACY_MINIMUM: Final = 4
"""``scaleUpLimitFactor`` and ``scaleUpLimitMinimum``: without a behavior the size may double, or reach four."""


@dataclass(frozen=True, kw_only=True)
class ScalingPolicy:
    """The maximum change of the size within a period."""

    type: Annotated[
        Literal["pods", "percent"],
        FieldMetadata("Unit of value: pods, or percent of the size at the start of the period.", example="pods"),
    ]
    value: Annotated[
        int, FieldMetadata("Maximum change of the size within the period. Replicas, or percent.", ge=1, example=4)
    ]
    period_s: Annotated[
        float, FieldMetadata("periodSeconds: length of the period. Seconds.", gt=0, le=1800, example=15)
    ]

    def largest_from(self, start: int) -> int:
        """Return the largest size from `start`, the size at the period's start.

        Example: from 5, it is 9 with 4 pods and 8 with 50 %.
        """
        return start + self.value if self.type == "pods" else math.ceil(start * (1 + self.value / 100))

    def smallest_from(self, start: int) -> int:
        """Return the smallest size from `start`: 1 from 5 with 4 pods, 2 with 50 %."""
        return start - self.value if self.type == "pods" else int(start * (1 - self.value / 100))


FOUR_PODS = ScalingPolicy(type="pods", value=4, period_s=15.0)
ALL = ScalingPolicy(type="percent", value=100, period_s=15.0)
Select = Annotated[
    Literal["max", "min", "disabled"],
    FieldMetadata(
        "selectPolicy: max allows the largest change of all policies, min the smallest, disabled none. The default of"
        " max is that of Kubernetes."
    ),
]
ToleranceField = Annotated[
    float | None,
    FieldMetadata(
        "Dead band in this direction. null means the tolerance of the policy. Share.", ge=0, lt=1, example=0.1
    ),
]


@dataclass(frozen=True, kw_only=True)
class ScaleUpRules:
    """``behavior.scaleUp``: the rules for scale-out."""

    stabilization_window_s: Annotated[
        float,
        FieldMetadata(
            "Scale out only to the smallest recommendation of this window. The default of 0, that of Kubernetes,"
            " scales out at once. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 0.0
    policies: Annotated[
        tuple[ScalingPolicy, ...],
        FieldMetadata(
            "Maximum increases. The default, that of Kubernetes, adds 4 pods or doubles the size within 15 s."
        ),
    ] = (FOUR_PODS, ALL)
    select_policy: Select = "max"
    tolerance: ToleranceField = None

    def limit(self, size: int, memory: BehaviorMemory) -> int:
        """Return the largest size allowed now.

        Example: 4 pods per 60 s, a size of 7, and 2 pods were added in the last 60 s: (7 - 2) + 4 = 9.
        """
        if self.select_policy == "disabled":
            return size
        limits = [p.largest_from(size - memory.net_change(p.period_s)) for p in self.policies]
        return max(size, max(limits) if self.select_policy == "max" else min(limits))

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.policies:
            yield "policies", "must not be empty; to allow no change set select_policy: disabled"


@dataclass(frozen=True, kw_only=True)
class ScaleDownRules:
    """``behavior.scaleDown``: the rules for scale-in."""

    stabilization_window_s: Annotated[
        float | None,
        FieldMetadata(
            "Scale in only to the largest recommendation of this window. null means downscale_stabilization_s."
            " Seconds.",
            ge=0,
            le=3600,
            example=300,
        ),
    ] = None
    policies: Annotated[
        tuple[ScalingPolicy, ...],
        FieldMetadata("Maximum decreases. The default, that of Kubernetes, allows all pods to be removed within 15 s."),
    ] = (ALL,)
    select_policy: Select = "max"
    tolerance: ToleranceField = None

    def limit(self, size: int, memory: BehaviorMemory) -> int:
        """Return the smallest size allowed now.

        Example: 2 pods per 60 s, a size of 9, and 1 pod was removed in the last 60 s: (9 + 1) - 2 = 8.
        """
        if self.select_policy == "disabled":
            return size
        limits = [p.smallest_from(size - memory.net_change(p.period_s)) for p in self.policies]
        return min(size, min(limits) if self.select_policy == "max" else max(limits))

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.policies:
            yield "policies", "must not be empty; to allow no change set select_policy: disabled"


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """``spec.behavior``. A part left out has the defaults of autoscaling/v2."""

    scale_up: Annotated[ScaleUpRules, FieldMetadata("Rules for scale-out.")] = field(default_factory=ScaleUpRules)
    scale_down: Annotated[ScaleDownRules, FieldMetadata("Rules for scale-in.")] = field(default_factory=ScaleDownRules)

    @property
    def lookback_s(self) -> float:
        """The longest of its windows and periods. Seconds."""
        rules = (self.scale_up, self.scale_down)
        return max(*(r.stabilization_window_s or 0.0 for r in rules), *(p.period_s for r in rules for p in r.policies))


@dataclass(frozen=True, slots=True)
class BehaviorMemory:
    """The controller's memory: earlier recommendations, and the changes of size that took place.

    `changes` took place at `changed_at`, and `recommended` sizes were recommended at `recommended_at`. The first
    recommendation is the size at the first tick: the controller seeds its list with it.
    """

    now: float
    recommended_at: NDArray[np.float64]
    recommended: NDArray[np.float64]
    changed_at: NDArray[np.float64]
    changes: NDArray[np.float64]

    def recommended_since(self, window_s: float) -> NDArray[np.float64]:
        """Return the sizes recommended within `window_s`."""
        return self.recommended[self.recommended_at > self.now - window_s]

    def net_change(self, period_s: float) -> int:
        """Return the replicas added less the replicas removed in the last `period_s`."""
        return int(np.sum(self.changes[self.changed_at > self.now - period_s]))


def behavior_memory(context: PolicyContext, size: int, lookback_s: float, *, disabled_at_zero: bool) -> BehaviorMemory:
    """Return the controller's memory of the last `lookback_s`.

    A change counts as far as it was both decided and then observed, since a refused write is not an event. Example: 9
    were decided at a size of 5, and 7 are observed in the next tick: a change of 2. `disabled_at_zero` leaves out ticks
    at a size of zero, in which an HPA that does not scale to zero itself is disabled. It leaves out changes from and to
    zero too: KEDA's operator makes these, and the HPA does not count them.
    """
    since = context.at - lookback_s
    at, recommended, sizes, targets = (context.history.column(c, since) for c in (AT, CAPPED_NEED, CURRENT, TARGET))
    next_size = np.append(sizes[1:], float(size))[: sizes.size]
    intended = np.nan_to_num(targets - sizes)
    observed = np.nan_to_num(next_size - sizes)
    made = np.sign(intended) * np.minimum(np.abs(intended), np.abs(observed))
    by_operator = disabled_at_zero & ((sizes == 0) | (targets == 0))
    changes = np.where((intended * observed > 0) & ~by_operator, made, 0.0)
    known = ~np.isnan(recommended) & ~(disabled_at_zero & (sizes == 0))
    started_at, first_size = context.at, float(size)
    if len(context.history):
        started_at = float(context.history.column(AT)[0])
        first_size = float(np.nan_to_num(context.history.column(CURRENT)[0], nan=size))
    return BehaviorMemory(
        context.at, np.append(started_at, at[known]), np.append(first_size, recommended[known]), at, changes
    )


def stabilized_size(
    proposal: int,
    size: int,
    memory: BehaviorMemory,
    behavior: Behavior | None,
    stabilization_s: float,
) -> tuple[int, str]:
    """Return the size that the controller decides before the bounds.

    The text says why it differs from `proposal`. It is empty if it does not.

    Example: the size is 10 and 2 are proposed. The largest size recommended in the last 300 s is 10, so it stays at 10.
    """
    if behavior is None:
        return _legacy_size(proposal, size, memory, stabilization_s)
    down_s = behavior.scale_down.stabilization_window_s
    down_s = stabilization_s if down_s is None else down_s
    up_s = behavior.scale_up.stabilization_window_s
    lowest = int(np.min(memory.recommended_since(up_s), initial=proposal))
    highest = int(np.max(memory.recommended_since(down_s), initial=proposal))
    stabilized = min(max(size, lowest), highest)
    reason = ""
    if stabilized != proposal:
        extreme, window_s = ("smallest", up_s) if proposal > size else ("largest", down_s)
        reason = f"stabilized to {stabilized} by the {extreme} recommendation of the last {window_s:g} s"
    if stabilized > size and stabilized > (limit := behavior.scale_up.limit(size, memory)):
        return limit, f"behavior.scaleUp allows at most {limit}"
    if stabilized < size and stabilized < (limit := behavior.scale_down.limit(size, memory)):
        return limit, f"behavior.scaleDown allows at least {limit}"
    return stabilized, reason


def _legacy_size(proposal: int, size: int, memory: BehaviorMemory, stabilization_s: float) -> tuple[int, str]:
    """Return the size without a behavior, and why it differs from `proposal`.

    The size is the largest one recommended in the window, but at most the larger of twice the size and four.

    Example: at a size of 1, a proposal of 50 gives 4, then 8, then 16.
    """
    recent = memory.recommended[memory.recommended_at >= memory.now - stabilization_s]
    stabilized = int(np.max(recent, initial=proposal))
    limit = max(LEGACY_FACTOR * size, LEGACY_MINIMUM)
    if stabilized > limit:
        return limit, f"limited to {limit}, the larger of twice the size and {LEGACY_MINIMUM}"
    if stabilized == proposal:
        return stabilized, ""
    return stabilized, f"stabilized to {stabilized} by the largest recommendation of the last {stabilization_s:g} s"
