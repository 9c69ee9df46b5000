"""A workload's specification: the loaded configuration that `decide` reads.

Defaults are defined here only. ``config/example/workload.yaml`` lists them all, and a test compares both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any

from policies.model import PolicyName, PoolName
from policies.model.cost_allocation import CostAllocationSpec
from policies.model.field_metadata import ByKind, FieldMetadata
from policies.model.limits import BlastRadius, Budget, LateGrowth, Maintenance, Override
from policies.model.names import NAME, WORKLOAD_NAME, RouteName

FALSE_ZERO_LOOKBACK_S = 2700.0
"""False zeros of a source change no decision after this time (`policies.signals.zero_suspicion`). Seconds."""


@dataclass(frozen=True, kw_only=True)
class ScaleUp:
    """Limits on the pace of growth."""

    window_s: Annotated[
        float,
        FieldMetadata(
            "Grow only to the smallest need in this window. The default of 0 grows at once. Raise it if short spikes"
            " cause needless scale-outs. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 0.0
    period_s: Annotated[
        float,
        FieldMetadata(
            "Period over which max_replicas and max_share limit growth. The default of 15 equals the Kubernetes"
            " HPA's. Raise it to grow more slowly. Seconds.",
            gt=0,
            le=3600,
        ),
    ] = 15.0
    max_replicas: Annotated[
        int,
        FieldMetadata(
            "Replicas that may always be added per period; max_share allows more for larger workloads. The default"
            " of 4 equals the Kubernetes HPA's. Raise it to grow faster from a small size. Replicas.",
            ge=1,
        ),
    ] = 4
    max_share: Annotated[
        float,
        FieldMetadata(
            "Maximum growth per period, as a share of the size at the period's start. The larger of it and"
            " max_replicas applies. The default of 1 allows doubling, like the Kubernetes HPA. Lower it to grow more"
            " gradually. Share.",
            ge=0,
        ),
    ] = 1.0


@dataclass(frozen=True, kw_only=True)
class ScaleDown:
    """Limits on the pace of scale-in."""

    window_s: Annotated[
        float,
        FieldMetadata(
            "Shrink only to the largest need in this window. The default of 300 equals the Kubernetes HPA's and"
            " bridges short dips. Lower it if replicas start fast; 0 shrinks at once. Seconds.",
            ge=0,
            le=86400,
        ),
    ] = 300.0
    period_s: Annotated[
        float,
        FieldMetadata(
            "Period over which max_replicas and max_share limit scale-in. The default of 60 removes at most half of"
            " a larger workload per minute. Raise it to shrink more slowly. Seconds.",
            gt=0,
            le=3600,
        ),
    ] = 60.0
    max_replicas: Annotated[
        int,
        FieldMetadata(
            "Replicas that may always be removed per period; max_share allows more for larger workloads. The default"
            " of 4 lets small workloads shrink quickly. Lower it for a slower scale-in. Replicas.",
            ge=1,
        ),
    ] = 4
    max_share: Annotated[
        float,
        FieldMetadata(
            "Maximum scale-in per period, as a share of the size at the period's start. The larger of it and"
            " max_replicas applies. The default of 0.5 at most halves the workload. Lower it to shrink more gradually."
            " Share.",
            ge=0,
            le=1,
        ),
    ] = 0.5
    max_evidence_gap_s: Annotated[
        float,
        FieldMetadata(
            "Maximum gap in the fresh readings of all policies and pools within a scale-down window or cooldown; a"
            " longer gap prevents scale-in. Gaps of up to 2.5 ticks are always allowed. The default of 60 allows three"
            " missed ticks at the default interval. Raise it only if readings often fail. Seconds.",
            gt=0,
        ),
    ] = 60.0


@dataclass(frozen=True, kw_only=True)
class Slo:
    """Latency SLO: the share of requests that must meet every limit that is set."""

    ttft_s: Annotated[
        float | None,
        FieldMetadata(
            "Maximum time to first token. Default: null, no limit. For interactive chat set 1 to 3. Seconds.",
            gt=0,
            example=2.5,
        ),
    ] = None
    itl_s: Annotated[
        float | None,
        FieldMetadata(
            "Maximum mean time between the tokens of a request. Default: null, no limit. For reading speed set 0.05,"
            " which is 20 tokens/s per request. Seconds.",
            gt=0,
            example=0.05,
        ),
    ] = None
    e2e_s: Annotated[
        float | None,
        FieldMetadata(
            "Maximum duration of a whole request. Default: null, no limit. Set it where answers have a similar length."
            " Seconds.",
            gt=0,
            example=30,
        ),
    ] = None
    share: Annotated[
        float,
        FieldMetadata(
            "Share of requests that must meet every limit. The default of 0.99 leaves 1 % as error budget. Raise it"
            " for a stricter SLO at a higher cost. Share.",
            gt=0,
            le=1,
        ),
    ] = 0.99
    surge: Annotated[
        float | None,
        FieldMetadata(
            "Be ready for this multiple of the current load at any time; null: for jumps that the forecast has seen."
            " Set it for launches: 3 costs about three times as much. Ratio.",
            ge=1,
            le=100,
            example=3,
        ),
    ] = None
    window_s: Annotated[
        float,
        FieldMetadata(
            "Window of the error budget: late requests within it spend the budget. The default of 2419200 is 28 days,"
            " as in Google's SRE workbook, and contains every weekday equally often. Lower it if older late requests"
            " should count no longer. Seconds.",
            ge=86_400,
            le=7_776_000,
        ),
    ] = 2_419_200.0

    @cached_property
    def limits_s(self) -> Mapping[str, float]:
        """The limits that are set, by setting. Seconds."""
        limits_s = {"ttft_s": self.ttft_s, "itl_s": self.itl_s, "e2e_s": self.e2e_s}
        return {key: limit_s for key, limit_s in limits_s.items() if limit_s is not None}

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.limits_s:
            yield "ttft_s", "an SLO needs a limit: set ttft_s, itl_s or e2e_s"


@dataclass(frozen=True, kw_only=True)
class WorkloadSpec:
    """One workload: a served model with its sources, policies and pools."""

    workload: Annotated[
        str,
        FieldMetadata(
            "Name of the workload, unique in the daemon. Metrics, logs and URLs contain it.",
            pattern=WORKLOAD_NAME,
            example="llama-chat",
        ),
    ]
    max_replicas: Annotated[
        int,
        FieldMetadata(
            "Maximum size in replica equivalents, and maximum number of replicas in all serving pools together. With"
            " work_per_replica: 2 and max_replicas: 10, a pool gets at most 5 replicas. Replicas.",
            ge=1,
            le=100_000,
            example=20,
        ),
    ]
    sources: Annotated[
        Mapping[str, Any],
        ByKind("source", required=False),
        FieldMetadata("Sources of readings, by name. The default of none fits a workload that follows a schedule."),
    ] = field(default_factory=dict)
    policies: Annotated[
        Mapping[PolicyName, Any],
        ByKind("policy", required=False),
        FieldMetadata(
            "Policies, by name. Each recommends a size, and the largest one wins. A policy with its own stabilization,"
            " such as hpa or keda, must be the only one. The default is one policy of kind predictive, where a source"
            " reports the load of engines, such as one with preset: vllm."
        ),
    ] = field(default_factory=dict)
    pools: Annotated[
        Mapping[PoolName, Any],
        ByKind("pool"),
        FieldMetadata(
            "Pools to resize, by name. Pools that do not differ in market, price or capacity are filled in the order"
            " listed. No two pools, of one or several workloads, may resize the same object."
        ),
    ]
    routes: Annotated[
        Mapping[RouteName, Any],
        ByKind("route", required=False),
        FieldMetadata(
            "Gateways that split the requests of the workload among its pools and providers, by name. The default of"
            " none leaves routing as it is."
        ),
    ] = field(default_factory=dict)
    group: Annotated[
        str | None,
        FieldMetadata(
            "Group of workloads that serve the same model in several places and take one another's requests, by routes"
            " whose backends name them. Default: null, none. A workload of a Kubernetes namespace is in a group with"
            " others of that namespace only.",
            pattern=NAME,
        ),
    ] = None
    regions: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Regions in which prompts of the workload may be processed, as names or patterns such as eu-*. The default"
            " of none is no restriction. With one, a pool or provider of another or an unknown region is refused.",
            example=("us-*",),
        ),
    ] = ()
    model: Annotated[
        str | None,
        FieldMetadata(
            "Served model, its GPUs and its engine, by a name of `forescale models`, as llama-3.1-70b-h100x4. It gives"
            " the predictive policy the first guess of a replica's throughput. Default: null, the guess for"
            " Llama-3.1-8B on an H100. Set it for a much larger or smaller model.",
        ),
    ] = None
    min_replicas: Annotated[
        int,
        FieldMetadata(
            "Minimum size. The default of 1 keeps one replica when there is no work. Set 0 to allow scale to zero,"
            " which needs a policy that detects load at zero replicas. Replica equivalents.",
            ge=0,
        ),
    ] = 1
    interval_s: Annotated[
        float,
        FieldMetadata(
            "Time between two ticks. The default of 15 equals the Kubernetes HPA's. Lower it to react faster, at"
            " more API calls. Seconds.",
            ge=0.01,
            le=3600,
        ),
    ] = 15.0
    deadline_s: Annotated[
        float,
        FieldMetadata(
            "Maximum time for each read and each write of a tick; a read that takes longer counts as failed. The"
            " default of 10 fits into the default interval. Raise it for slow APIs, to less than interval_s. Seconds.",
            gt=0,
            le=300,
        ),
    ] = 10.0
    cooldown_s: Annotated[
        float,
        FieldMetadata(
            "Scale to zero after this time without work above the activation threshold of any policy; a smaller need"
            " does not prevent it. scale_down.window_s does not apply then, but step limits do. The default of 300"
            " equals KEDA's. Raise it if cold starts are slow. Seconds.",
            ge=0,
            le=86400,
        ),
    ] = 300.0
    tolerance: Annotated[
        float,
        FieldMetadata(
            "Keep the size while the need differs from it by at most this share. The default of 0.1 equals the"
            " Kubernetes HPA's. Raise it to resize less often. Share.",
            ge=0,
            lt=1,
        ),
    ] = 0.1
    paused: Annotated[
        bool,
        FieldMetadata(
            "Keep the size, but continue to observe and decide. The default is false. Set it to stop all resizes of"
            " the workload without a restart."
        ),
    ] = False
    slo: Annotated[
        Slo | None,
        FieldMetadata(
            "Latency limits that policies aim at; null: no SLO, and no check of SLO feasibility. Set it for the"
            " policies that use latencies."
        ),
    ] = None
    slo_violation_cost_ratio: Annotated[
        float,
        FieldMetadata(
            "Cost of one replica equivalent of waiting work, divided by the cost of one idle replica. The size covers"
            " at most that quantile of the largest demand: 19 / (19 + 1) = 0.95 by default. Raise it for fewer SLO"
            " violations at a higher cost. Ratio.",
            gt=0,
            le=1e6,
        ),
    ] = 19.0
    priority: Annotated[
        int,
        FieldMetadata(
            "Priority under the limits of daemon.fleet: needs of a higher number are met first. The default of 0"
            " ranks all workloads equally. Raise it for workloads that must scale out first.",
            ge=-1000,
            le=1000,
        ),
    ] = 0
    override: Annotated[
        Override | None,
        FieldMetadata(
            "Temporary size set by an operator, as in {replicas: 12, until: '2026-06-01T10:00Z', reason: launch};"
            " null: none. It takes precedence over policies, windows, step limits and maintenance. Bounds (unless"
            " beyond_bounds is true), budgets, the blast radius, paused and missing evidence still limit it."
        ),
    ] = None
    cost_allocation: Annotated[
        CostAllocationSpec, FieldMetadata("How work is divided over pools that differ in market, price or capacity.")
    ] = field(default_factory=CostAllocationSpec)
    scale_up: Annotated[ScaleUp, FieldMetadata("Limits on the pace of growth.")] = field(default_factory=ScaleUp)
    scale_down: Annotated[ScaleDown, FieldMetadata("Limits on the pace of scale-in.")] = field(
        default_factory=ScaleDown
    )
    budget: Annotated[Budget, FieldMetadata("Maximum GPUs and cost of the workload at any time.")] = field(
        default_factory=Budget
    )
    blast_radius: Annotated[
        BlastRadius, FieldMetadata("Maximum share of the workload that may be removed within a window.")
    ] = field(default_factory=BlastRadius)
    slo_feasibility: Annotated[
        LateGrowth, FieldMetadata("When to stop adding replicas for latency, because more of them would not help.")
    ] = field(default_factory=LateGrowth)
    maintenance: Annotated[
        Maintenance, FieldMetadata("Weekly windows in which the size must not change, rise or fall.")
    ] = field(default_factory=Maintenance)

    @cached_property
    def serving_pools(self) -> Mapping[PoolName, Any]:
        """The pools that serve, without the headroom tiers."""
        return {name: pool for name, pool in self.pools.items() if pool.tier == "serving"}

    @property
    def group_key(self) -> str | None:
        """The group with the Kubernetes namespace of the workload; None without a group."""
        namespace, dot, _ = self.workload.rpartition(".")
        return None if self.group is None else f"{namespace}{dot}{self.group}"

    @property
    def slo_limits_s(self) -> Mapping[str, float]:
        """Limits of the SLO, by setting; empty without an SLO. Seconds."""
        return {} if self.slo is None else self.slo.limits_s

    @property
    def lookback_s(self) -> float:
        """Span of the history that a decision reads: equal ones give equal decisions."""
        windows = (
            max(self.scale_down.window_s, self.cooldown_s) + self.scale_down.max_evidence_gap_s,
            self.scale_up.window_s,
            self.scale_up.period_s,
            self.scale_down.period_s,
            self.blast_radius.window_s if self.blast_radius.share < 1.0 else 0.0,
            max(self.slo_feasibility.window_s, self.slo_feasibility.settle_s) if self.slo is not None else 0.0,
            FALSE_ZERO_LOOKBACK_S,
            *(float(pool.min_billed_s) for pool in self.pools.values()),
            *(float(policy.lookback_s) for policy in self.policies.values()),
        )
        return max(windows) + 2 * self.interval_s
