"""From what the metrics ask for to a size: the HorizontalPodAutoscaler's windows and rates.

Source: kubernetes/kubernetes, ``pkg/controller/podautoscaler/horizontal.go`` and
``pkg/apis/autoscaling/v2/defaults.go`` (master, mid-2026). Two paths, as there: with a ``behavior``, whose parts left
out take the v2 defaults, and without one, the older rule that most HPAs (KEDA's among them) still run.
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
"""``scaleUpLimitFactor``, ``scaleUpLimitMinimum``: without a behavior the size may double, or reach four."""


@dataclass(frozen=True, kw_only=True)
class ScalingPolicy:
    """How much may change in a period."""

    type: Annotated[
        Literal["pods", "percent"], FieldMetadata("Whether the value is replicas or percent.", example="pods")
    ]
    value: Annotated[int, FieldMetadata("By how much the size may change. Replicas, or percent.", ge=1, example=4)]
    period_s: Annotated[float, FieldMetadata("The period (periodSeconds). Seconds.", gt=0, le=1800, example=15)]

    def above(self, start: int) -> int:
        """Return the largest size that may be reached from `start`, the size at the period's start."""
        return start + self.value if self.type == "pods" else math.ceil(start * (1 + self.value / 100))

    def below(self, start: int) -> int:
        """Return the smallest size that may be reached from `start`."""
        return start - self.value if self.type == "pods" else int(start * (1 - self.value / 100))


FOUR_PODS = ScalingPolicy(type="pods", value=4, period_s=15.0)
ALL = ScalingPolicy(type="percent", value=100, period_s=15.0)
Select = Annotated[
    Literal["max", "min", "disabled"],
    FieldMetadata(
        "Which policy counts (selectPolicy): the largest change, the smallest, or no change in this direction."
    ),
]
ToleranceField = Annotated[
    float | None,
    FieldMetadata("Dead band in this direction; null: the metric's own tolerance. Share.", ge=0, lt=1, example=0.1),
]


@dataclass(frozen=True, kw_only=True)
class ScaleUpRules:
    """``behavior.scaleUp``."""

    stabilization_window_s: Annotated[
        float, FieldMetadata("Grow only to the smallest want of this window. Seconds.", ge=0, le=3600)
    ] = 0.0
    policies: Annotated[tuple[ScalingPolicy, ...], FieldMetadata("How much may be added.")] = (FOUR_PODS, ALL)
    select_policy: Select = "max"
    tolerance: ToleranceField = None

    def limit(self, size: int, past: BehaviorMemory) -> int:
        """Return the largest size that may be decided now."""
        if self.select_policy == "disabled":
            return size
        reach = [p.above(size - past.net_change(p.period_s)) for p in self.policies]
        return max(size, max(reach) if self.select_policy == "max" else min(reach))

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.policies:
            yield "policies", "must not be empty; to allow no change set select_policy: disabled"


@dataclass(frozen=True, kw_only=True)
class ScaleDownRules:
    """``behavior.scaleDown``."""

    stabilization_window_s: Annotated[
        float | None,
        FieldMetadata(
            "Shrink only to the largest want of this window; null: downscale_stabilization_s. Seconds.",
            ge=0,
            le=3600,
            example=300,
        ),
    ] = None
    policies: Annotated[tuple[ScalingPolicy, ...], FieldMetadata("How much may be removed.")] = (ALL,)
    select_policy: Select = "max"
    tolerance: ToleranceField = None

    def limit(self, size: int, past: BehaviorMemory) -> int:
        """Return the smallest size that may be decided now."""
        if self.select_policy == "disabled":
            return size
        reach = [p.below(size - past.net_change(p.period_s)) for p in self.policies]
        return min(size, min(reach) if self.select_policy == "max" else max(reach))

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.policies:
            yield "policies", "must not be empty; to allow no change set select_policy: disabled"


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """``spec.behavior``. A part left out has the defaults of autoscaling/v2."""

    scale_up: Annotated[ScaleUpRules, FieldMetadata("How it grows.")] = field(default_factory=ScaleUpRules)
    scale_down: Annotated[ScaleDownRules, FieldMetadata("How it shrinks.")] = field(default_factory=ScaleDownRules)

    @property
    def lookback_s(self) -> float:
        """The longest of its windows and periods. Seconds."""
        rules = (self.scale_up, self.scale_down)
        return max(*(r.stabilization_window_s or 0.0 for r in rules), *(p.period_s for r in rules for p in r.policies))


@dataclass(frozen=True, slots=True)
class BehaviorMemory:
    """What the controller keeps in memory: past wants, and the changes of size that were made.

    `made_at` and `changes` are aligned, `wanted_at` and `wants` are. Before the first want stands the size then found,
    as the controller seeds its list when it starts.
    """

    now: float
    wanted_at: NDArray[np.float64]
    wants: NDArray[np.float64]
    made_at: NDArray[np.float64]
    changes: NDArray[np.float64]

    def wants_since(self, window_s: float) -> NDArray[np.float64]:
        """Return the wants younger than `window_s`."""
        return self.wants[self.wanted_at > self.now - window_s]

    def net_change(self, period_s: float) -> int:
        """Return what was added less what was removed in the last `period_s`."""
        return int(np.sum(self.changes[self.made_at > self.now - period_s]))


def memory_of(view: PolicyContext, size: int, span_s: float, *, rests_at_zero: bool) -> BehaviorMemory:
    """Return the last `span_s` as the controller would remember them.

    A change counts as far as it was both decided and then found: a write refused was no event. `rests_at_zero` leaves
    out turns found at zero, in which an HPA that does not scale to zero itself is disabled.
    """
    since = view.at - span_s
    at, wants, found, decided = (view.history.column(c, since) for c in (AT, CAPPED_NEED, CURRENT, TARGET))
    then = np.append(found[1:], float(size))[: found.size]
    meant = np.nan_to_num(decided - found)
    seen = np.nan_to_num(then - found)
    changes = np.where(meant * seen > 0, np.sign(meant) * np.minimum(np.abs(meant), np.abs(seen)), 0.0)
    known = ~np.isnan(wants) & ~(rests_at_zero & (found == 0))
    began, size_then = view.at, float(size)
    if len(view.history):
        began = float(view.history.column(AT)[0])
        size_then = float(np.nan_to_num(view.history.column(CURRENT)[0], nan=size))
    return BehaviorMemory(view.at, np.append(began, at[known]), np.append(size_then, wants[known]), at, changes)


def settle(
    raw: int,
    size: int,
    past: BehaviorMemory,
    behavior: Behavior | None,
    stabilization_s: float,
) -> tuple[int, str]:
    """Return the size that the controller would decide before the bounds.

    With it comes why it differs from `raw`, or an empty text.
    """
    if behavior is None:
        return _settle_legacy(raw, size, past, stabilization_s)
    down_s = behavior.scale_down.stabilization_window_s
    down_s = stabilization_s if down_s is None else down_s
    up_s = behavior.scale_up.stabilization_window_s
    lowest = int(np.min(past.wants_since(up_s), initial=raw))
    highest = int(np.max(past.wants_since(down_s), initial=raw))
    steady = min(max(size, lowest), highest)
    why = ""
    if steady != raw:
        which, window_s = ("smallest", up_s) if raw > size else ("largest", down_s)
        why = f"the {which} want of the last {window_s:g} s makes it {steady}"
    if steady > size and steady > (limit := behavior.scale_up.limit(size, past)):
        return limit, f"scaleUp allows {limit}"
    if steady < size and steady < (limit := behavior.scale_down.limit(size, past)):
        return limit, f"scaleDown allows {limit}"
    return steady, why


def _settle_legacy(raw: int, size: int, past: BehaviorMemory, stabilization_s: float) -> tuple[int, str]:
    """Without a behavior: the largest want of the window, and at most the larger of twice the size and four."""
    inside = past.wants[past.wanted_at >= past.now - stabilization_s]
    steady = int(np.max(inside, initial=raw))
    limit = max(LEGACY_FACTOR * size, LEGACY_MINIMUM)
    if steady > limit:
        return limit, f"at most the larger of twice the size and {LEGACY_MINIMUM}"
    return steady, f"the largest want of the last {stabilization_s:g} s is {steady}" if steady != raw else ""
