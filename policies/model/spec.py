"""A workload's specification: the loaded configuration that `decide` reads.

Defaults are defined here only. ``config/example/workload.yaml`` lists them all, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from policies.model import PolicyName, PoolName
from policies.model.field_metadata import ByKind, FieldMetadata
from policies.model.limits import BlastRadius, Budget, LateGrowth, Maintenance, Override

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Names are DNS labels, so that metrics, files and URLs contain them unquoted."""
FALSE_ZERO_LOOKBACK_S = 2700.0
"""False zeros of a source change no decision after this time (`policies.signals.zero_suspicion`). Seconds."""


@dataclass(frozen=True, kw_only=True)
class ScaleUp:
    """How fast a workload may grow."""

    window_s: Annotated[
        float,
        FieldMetadata("Grow only to the smallest need seen in this window; 0 grows at once. Seconds.", ge=0, le=3600),
    ] = 0.0
    period_s: Annotated[float, FieldMetadata("The period over which growth is limited. Seconds.", gt=0, le=3600)] = 15.0
    max_replicas: Annotated[int, FieldMetadata("Replicas that may be added in a period, at the least.", ge=1)] = 4
    max_share: Annotated[
        float, FieldMetadata("Share of the size at the period's start that may be added, if that is more.", ge=0)
    ] = 1.0


@dataclass(frozen=True, kw_only=True)
class ScaleDown:
    """How fast a workload may shrink."""

    window_s: Annotated[
        float, FieldMetadata("Shrink only to the largest need seen in this window. Seconds.", ge=0, le=86400)
    ] = 300.0
    period_s: Annotated[float, FieldMetadata("The period over which shrinking is limited. Seconds.", gt=0, le=3600)] = (
        60.0
    )
    max_replicas: Annotated[int, FieldMetadata("Replicas that may be removed in a period, at the least.", ge=1)] = 4
    max_share: Annotated[
        float,
        FieldMetadata("Share of the size at the period's start that may be removed, if that is more.", ge=0, le=1),
    ] = 0.5
    max_evidence_gap_s: Annotated[
        float,
        FieldMetadata(
            "A window with a longer stretch without full evidence proves nothing: no scale-in. Seconds.", gt=0
        ),
    ] = 60.0


class Target(NamedTuple):
    """One size that a pool writes. No other pool may write it.

    `what` names the kind of object and which of its sizes, `scope` its location, such as cluster or account and region.
    """

    what: str
    scope: tuple[str, ...]
    name: str


@dataclass(frozen=True, kw_only=True)
class Pool:
    """What every pool has, whatever resizes it: bounds, worth and price, and what to do about another writer."""

    min_replicas: Annotated[int, FieldMetadata("Never fewer replicas than this in the pool.", ge=0)] = 0
    max_replicas: Annotated[
        int | None, FieldMetadata("Never more replicas than this in the pool; null: the workload's maximum.", ge=0)
    ] = None
    quantum: Annotated[
        int,
        FieldMetadata(
            "Replicas come and go in multiples of this: nodes that hold several, slices, one node in each zone.", ge=1
        ),
    ] = 1
    market: Annotated[
        Literal["reserved", "on_demand", "spot"],
        FieldMetadata(
            "How its nodes are bought: reserved ones are paid whether used or not, spot ones may be taken away."
        ),
    ] = "on_demand"
    tier: Annotated[
        Literal["serving", "awake_spare", "slept", "warm_node"],
        FieldMetadata("What its replicas do: serve, or wait as headroom of the pool named in serves."),
    ] = "serving"
    serves: Annotated[
        PoolName | None, FieldMetadata("For a tier of headroom: the pool whose scale-out takes from it.", example=None)
    ] = None
    price_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "What a replica costs; null: not known, and as dear as the dearest. USD per hour.", ge=0, le=100_000
        ),
    ] = None
    gpus_per_replica: Annotated[
        int, FieldMetadata("What a replica counts for in budgets of GPUs. GPUs.", ge=0, le=1024)
    ] = 1
    work_per_replica: Annotated[
        float,
        FieldMetadata(
            "What a replica carries, as a share of a replica of reference (1): 0.4 for a smaller GPU.", gt=0, le=1000
        ),
    ] = 1.0
    lead_time_s: Annotated[
        float,
        FieldMetadata("From decision to serving, until it has been measured. Seconds.", ge=0, le=7200),
    ] = 120.0
    notice_s: Annotated[
        float,
        FieldMetadata(
            "How long ahead its cloud announces that it takes a spot replica, where that is heard and it serves on:"
            " AWS 120, Google and Azure 30; half believed until losses show. 0: never. Seconds.",
            ge=0,
            le=7200,
        ),
    ] = 0.0
    zone: Annotated[str | None, FieldMetadata("Its zone, where it has one: shortages are remembered by it.")] = None
    accelerator: Annotated[str | None, FieldMetadata("Its GPU or machine type: shortages are remembered by it.")] = None
    on_other_writer: Annotated[
        Literal["yield", "take_over"],
        FieldMetadata("When somebody else sizes this pool too: leave it to them and say so, or write all the same."),
    ] = "yield"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        """Return the sizes that this pool writes, by its names; every kind defines its own."""
        raise NotImplementedError(f"{type(self).__name__} states no target")


@dataclass(frozen=True, kw_only=True)
class Slo:
    """What users are promised: the share of requests that meet every limit given."""

    ttft_s: Annotated[
        float | None, FieldMetadata("Time to first token at most; null: not promised. Seconds.", gt=0)
    ] = 1.0
    itl_s: Annotated[
        float | None, FieldMetadata("A request's mean time between tokens at most; null: not promised. Seconds.", gt=0)
    ] = 0.05
    e2e_s: Annotated[float | None, FieldMetadata("Whole request at most; null: not promised. Seconds.", gt=0)] = None
    share: Annotated[float, FieldMetadata("Share of requests that must meet them.", gt=0, le=1)] = 0.99

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.ttft_s is None and self.itl_s is None and self.e2e_s is None:
            yield "ttft_s", "something must be promised: give ttft_s, itl_s or e2e_s"


@dataclass(frozen=True, kw_only=True)
class CostAllocationSpec:
    """How work is shared out over pools that differ in market, price or worth."""

    floor_replicas: Annotated[
        int, FieldMetadata("Replicas' worth kept where nothing is taken away: on demand or reserved.", ge=0)
    ] = 0
    floor_share: Annotated[float, FieldMetadata("The same as a share of the work, if that is more.", ge=0, le=1)] = 0.0
    payback_s: Annotated[
        float,
        FieldMetadata("A move to a cheaper pool must earn back its start within this time. Seconds.", gt=0, le=604_800),
    ] = 3600.0


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """One served model being scaled."""

    workload: Annotated[
        str, FieldMetadata("The workload's name, unique in the daemon.", pattern=NAME, example="llama-chat")
    ]
    max_replicas: Annotated[
        int,
        FieldMetadata(
            "Maximum size in replica equivalents, and maximum number of replicas of all serving pools together. With"
            " work_per_replica: 2 and max_replicas: 10, a pool gets at most 5 replicas.",
            ge=1,
            le=100_000,
            example=20,
        ),
    ]
    sources: Annotated[Mapping[str, Any], ByKind("source"), FieldMetadata("Where readings come from, by name.")]
    policies: Annotated[
        Mapping[PolicyName, Any], ByKind("policy"), FieldMetadata("What each wants; the largest need wins.")
    ]
    pools: Annotated[
        Mapping[PoolName, Any], ByKind("pool"), FieldMetadata("What is resized, by name, filled in the order listed.")
    ]
    min_replicas: Annotated[
        int, FieldMetadata("Minimum size in replica equivalents; 0 allows scale to zero.", ge=0)
    ] = 1
    interval_s: Annotated[float, FieldMetadata("Between two turns. Seconds.", ge=0.01, le=3600)] = 15.0
    deadline_s: Annotated[float, FieldMetadata("For each read and each write of a turn. Seconds.", gt=0, le=300)] = 10.0
    cooldown_s: Annotated[
        float,
        FieldMetadata(
            "To zero once no policy saw work above its activation for this long, whatever need is left; scale_down's"
            " window is not waited for, its steps are. Seconds.",
            ge=0,
            le=86400,
        ),
    ] = 300.0
    tolerance: Annotated[
        float, FieldMetadata("A need within this share of the present size changes nothing. Share.", ge=0, lt=1)
    ] = 0.1
    paused: Annotated[bool, FieldMetadata("Observe and decide, but hold the size.")] = False
    slo: Annotated[Slo | None, FieldMetadata("What users are promised; null: nothing that policies could aim at.")] = (
        None
    )
    slo_violation_cost_ratio: Annotated[
        float,
        FieldMetadata(
            "The price of a replica's worth of work that waits, over the price of a replica that idles: 19 covers the"
            " 0.95 quantile of demand.",
            gt=0,
            le=1e6,
        ),
    ] = 19.0
    priority: Annotated[
        int,
        FieldMetadata("Whose need goes first where the fleet's budget is short: the higher number.", ge=-1000, le=1000),
    ] = 0
    override: Annotated[
        Override | None,
        FieldMetadata(
            "A size set by hand, for a while, as in {replicas: 12, until: '2026-06-01T10:00Z', reason: launch}; null:"
            " none. It stands above policies, windows, steps and maintenance. Bounds hold unless it says beyond_bounds:"
            " true; budgets and the blast radius hold, and nothing shrinks blind."
        ),
    ] = None
    cost_allocation: Annotated[
        CostAllocationSpec, FieldMetadata("How pools that differ in market, price or worth share the work.")
    ] = field(default_factory=CostAllocationSpec)
    scale_up: Annotated[ScaleUp, FieldMetadata("How fast it may grow.")] = field(default_factory=ScaleUp)
    scale_down: Annotated[ScaleDown, FieldMetadata("How fast it may shrink.")] = field(default_factory=ScaleDown)
    budget: Annotated[Budget, FieldMetadata("What it may hold at a time.")] = field(default_factory=Budget)
    blast_radius: Annotated[BlastRadius, FieldMetadata("How much of it may be scaled in within a window.")] = field(
        default_factory=BlastRadius
    )
    slo_feasibility: Annotated[
        LateGrowth, FieldMetadata("When to stop buying replicas because users wait too long.")
    ] = field(default_factory=LateGrowth)
    maintenance: Annotated[Maintenance, FieldMetadata("Weekly windows in which the size is left alone.")] = field(
        default_factory=Maintenance
    )

    @property
    def lookback_s(self) -> float:
        """Span of the history that a decision reads: equal ones give equal decisions."""
        windows = (
            self.scale_down.window_s + self.scale_down.max_evidence_gap_s,
            self.cooldown_s + self.scale_down.max_evidence_gap_s,
            self.scale_up.window_s,
            self.scale_up.period_s,
            self.scale_down.period_s,
            self.blast_radius.window_s if self.blast_radius.share < 1.0 else 0.0,
            max(self.slo_feasibility.window_s, self.slo_feasibility.settle_s) if self.slo is not None else 0.0,
            FALSE_ZERO_LOOKBACK_S,
            *(float(policy.lookback_s) for policy in self.policies.values()),
        )
        return max(windows) + 2 * self.interval_s
