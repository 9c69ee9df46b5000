"""No autoscaling: the baseline of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from policies.model import Evidence, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import PolicyContext


@dataclass(frozen=True, kw_only=True)
class Static:
    """A fixed number of replicas: a baseline for comparisons, or a size set by an operator."""

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = True
    lookback_s: ClassVar[float] = 0.0

    replicas: Annotated[int, FieldMetadata("Number of replicas. Replicas.", ge=0, example=4)]

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        reason = f"fixed size of {self.replicas}"
        return Recommendation(name, float(self.replicas), Evidence.FULL, self.replicas > 0, reason)
