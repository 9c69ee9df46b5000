"""The settings of every kind of pool, and the size that a pool writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal, NamedTuple

from policies.model import PoolName
from policies.model.field_metadata import FieldMetadata

OtherWriterYield = Annotated[
    float,
    FieldMetadata(
        "After another writer changes the size, leave it unchanged for this time. The default of 600 lets an"
        " operator finish a manual change. Applies with on_other_writer: yield. Seconds.",
        ge=0,
        le=86400,
    ),
]
"""The setting `other_writer_yield_s` of pools that detect another writer by its changes."""
YIELD_S: Final = 600.0
"""Default of `OtherWriterYield`. Seconds."""


class Target(NamedTuple):
    """One size that a pool writes. No other pool may write it.

    `what` names the kind of object and which of its sizes, `scope` its location, such as cluster or account and region.
    """

    what: str
    scope: tuple[str, ...]
    name: str


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Settings of every kind of pool: bounds, capacity, price, and other writers."""

    min_replicas: Annotated[
        int,
        FieldMetadata(
            "Minimum number of replicas in the pool. The default of 0 lets the workload empty it. Raise it where"
            " this pool must always serve. Replicas.",
            ge=0,
        ),
    ] = 0
    max_replicas: Annotated[
        int | None,
        FieldMetadata(
            "Maximum number of replicas in the pool; null: the workload's max_replicas. Set it where the pool's"
            " capacity or quota is smaller. Replicas.",
            ge=0,
        ),
    ] = None
    quantum: Annotated[
        int,
        FieldMetadata(
            "Replicas are added and removed in multiples of this number. The default of 1 allows any size. Set it"
            " for nodes that hold several replicas, TPU slices, or one node in each zone. Replicas.",
            ge=1,
        ),
    ] = 1
    market: Annotated[
        Literal["reserved", "on_demand", "spot"],
        FieldMetadata(
            "How the pool's nodes are bought. Reserved nodes are paid for whether used or not, and spot nodes may be"
            " interrupted. The default, on_demand, assumes neither."
        ),
    ] = "on_demand"
    tier: Annotated[
        Literal["serving", "awake_spare", "slept", "warm_node"],
        FieldMetadata(
            "Role of the pool's replicas. The default, serving, takes requests, and at least one pool must. The other"
            " tiers are headroom for the pool named in serves."
        ),
    ] = "serving"
    serves: Annotated[
        PoolName | None,
        FieldMetadata(
            "Serving pool whose scale-out uses the replicas of this headroom tier; null: this pool serves itself.",
            example=None,
        ),
    ] = None
    price_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Price of one replica. null means unknown: the pool counts as the most expensive one. Set it to place work"
            " by cost, or if a budget in USD applies. USD per hour.",
            ge=0,
            le=100_000,
            example=6.88,
        ),
    ] = None
    gpus_per_replica: Annotated[
        int,
        FieldMetadata(
            "GPUs that one replica uses, for GPU budgets. The default of 1 fits single-GPU engines. Set it for"
            " engines that span several GPUs, or to 0 for CPU replicas. GPUs.",
            ge=0,
            le=1024,
        ),
    ] = 1
    work_per_replica: Annotated[
        float,
        FieldMetadata(
            "Capacity of one replica, relative to a reference replica with 1. The default of 1 treats all pools"
            " alike. Set 0.4 for a GPU with 40 % of the reference's throughput. Replica equivalents.",
            gt=0,
            le=1000,
        ),
    ] = 1.0
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to a serving replica, used until three starts have been measured. The default of"
            " 120 is a rough guess. Set it to your typical start time; that of a headroom tier must be below that of"
            " the pool in serves. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 120.0
    min_billed_s: Annotated[
        float,
        FieldMetadata(
            "Minimum time that the platform bills an added replica for, counted from its request. An earlier removal"
            " saves nothing, so the replica stays that long. The default of 0 fits billing by the second. Set 3600 for"
            " units billed by the hour. Seconds.",
            ge=0,
            le=86400,
        ),
    ] = 0.0
    notice_s: Annotated[
        float,
        FieldMetadata(
            "Time between a spot interruption notice and the interruption: 120 on AWS, 30 on Google Cloud and Azure."
            " Half of it is assumed until interruptions are observed. The default of 0 assumes no notice. Set it"
            " only where notices are watched and nodes serve until interrupted. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 0.0
    region: Annotated[
        str | None,
        FieldMetadata(
            "Region or cloud in which the pool's replicas run; null: unknown. A workload with `regions` needs it.",
            example="us-east-1",
        ),
    ] = None
    zone: Annotated[
        str | None,
        FieldMetadata(
            "Zone of the pool; null: unknown. A capacity shortage also counts for the other pools of the same zone,"
            " accelerator and market.",
            example="us-east-1a",
        ),
    ] = None
    accelerator: Annotated[
        str | None,
        FieldMetadata(
            "GPU or machine type of the pool; null: unknown. A capacity shortage also counts for the other pools of"
            " the same zone, accelerator and market.",
            example="h100",
        ),
    ] = None
    on_other_writer: Annotated[
        Literal["yield", "take_over"],
        FieldMetadata(
            "Action while another controller or person also resizes the pool. The default, yield, leaves the"
            " pool to it and reports that. take_over resizes it anyway."
        ),
    ] = "yield"

    def keeps_replicas(self) -> bool:
        """Return whether the pool never shrinks: what it gives back may not be available again."""
        return False

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        """Return the sizes that this pool writes, by its names; every kind defines its own."""
        raise NotImplementedError(f"{type(self).__name__} states no target")

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        """Return the objects that serialize this pool's writes: its targets, or larger ones.

        With high availability, pools with a common lock are in one daemon.
        """
        return self.targets(workload, pool)


@dataclass(frozen=True, kw_only=True)
class HeadroomPool(Pool):
    """Settings of the kinds of pools whose replicas never serve by themselves."""

    serves: Annotated[
        PoolName | None,
        FieldMetadata(
            "Serving pool whose scale-out uses the replicas of this pool. Null is refused.", example="kubernetes"
        ),
    ] = None
    lead_time_s: Annotated[
        float,
        FieldMetadata(
            "Time from the decision to a serving replica, used until three starts have been measured. The default of"
            " 60, half of a serving pool's, assumes that only the engine starts. Set it to your typical start time,"
            " below that of the pool in serves. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 60.0
