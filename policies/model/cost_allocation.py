"""Settings of the division of work over pools."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata


@dataclass(frozen=True, kw_only=True)
class CostAllocationSpec:
    """How work is divided over pools that differ in market, price or capacity."""

    floor_replicas: Annotated[
        int,
        FieldMetadata(
            "Capacity that stays in on-demand or reserved pools, which are not interrupted. The default of 0 allows"
            " all work on spot. Raise it to keep a base through spot shortages. Replica equivalents.",
            ge=0,
        ),
    ] = 0
    floor_share: Annotated[
        float,
        FieldMetadata(
            "The same floor as a share of the work. The larger of it and floor_replicas applies. The default of 0"
            " allows all work on spot. Share.",
            ge=0,
            le=1,
        ),
    ] = 0.0
    payback_s: Annotated[
        float,
        FieldMetadata(
            "Time within which a move to a cheaper pool must save the cost of its start. The default of 3600 rejects"
            " moves that save less in an hour. Lower it for fewer moves. Seconds.",
            gt=0,
            le=604_800,
        ),
    ] = 3600.0
