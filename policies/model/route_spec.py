"""The settings of every kind of route: its backends and the limits of overflow."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from policies.model.field_metadata import FieldMetadata
from policies.model.names import NAME, WORKLOAD_NAME, BackendName, PoolName, WorkloadName
from policies.model.pool import YIELD_S, OtherWriterYield, Target
from policies.model.route import WEIGHT_TOTAL

LatencyTerm = Literal["ttft_s", "e2e_s"]
"""The limit of the SLO that a gateway's measured latency is compared with."""
Preference = Literal["cost", "latency", "locality"]
"""The order in which backends get requests."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A token API that takes requests of the workload for money."""

    usd_per_million_input_tokens: Annotated[
        float, FieldMetadata("Price of a million prompt tokens. USD.", ge=0, le=100_000, example=0.2)
    ]
    usd_per_million_output_tokens: Annotated[
        float, FieldMetadata("Price of a million generated tokens. USD.", ge=0, le=100_000, example=0.6)
    ]
    region: Annotated[
        str | None,
        FieldMetadata(
            "Region in which the provider processes prompts. Default: null, unknown. A workload with `regions` needs"
            " it.",
            example="us-east-1",
        ),
    ] = None
    max_requests_per_min: Annotated[
        float | None,
        FieldMetadata(
            "Rate limit of the provider for requests. Default: null, none. Set it so that the provider never answers"
            " 429. Requests per minute.",
            gt=0,
            example=600,
        ),
    ] = None
    max_tokens_per_min: Annotated[
        float | None,
        FieldMetadata(
            "Rate limit of the provider for prompt and generated tokens together. Default: null, none. Tokens per"
            " minute.",
            gt=0,
            example=1_000_000,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Backend:
    """A place that takes requests of a route: a pool, another workload, or a provider."""

    pool: Annotated[
        PoolName | None,
        FieldMetadata(
            "Serving pool of the workload. Default: null. Set either pool, workload or provider.", example="kubernetes"
        ),
    ] = None
    workload: Annotated[
        WorkloadName | None,
        FieldMetadata(
            "Another workload of the same group, whose engines serve the same model. Default: null. The backend must"
            " send requests to its engines, not to its own gateway, which could send them back.",
            pattern=WORKLOAD_NAME,
        ),
    ] = None
    provider: Annotated[
        Provider | None,
        FieldMetadata(
            "Token API with its prices and rate limits. Default: null. It sees prompts, and gets requests only with"
            " allow_external: true."
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if sum(place is not None for place in (self.pool, self.workload, self.provider)) != 1:
            yield "", "must have either pool, workload or provider"


@dataclass(frozen=True, kw_only=True)
class Overflow:
    """Limits of what goes to providers. All of them apply."""

    max_usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Maximum cost of the requests to providers. Default: null, which sends them nothing: a budget is always"
            " explicit. USD per hour.",
            ge=0,
            le=1_000_000,
            example=20,
        ),
    ] = None
    max_share: Annotated[
        float,
        FieldMetadata(
            "Maximum share of the requests that go to providers while a pool has ready replicas. The default of 1"
            " leaves the limit to the budget. Share.",
            ge=0,
            le=1,
        ),
    ] = 1.0
    max_tokens_per_min: Annotated[
        float | None,
        FieldMetadata(
            "Maximum tokens, prompt and generated ones together, that go to providers. Default: null, no limit."
            " Tokens per minute.",
            gt=0,
            example=1_000_000,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """Settings of every kind of route: backends, overflow, and the pace of changes."""

    can_reject: ClassVar[bool] = True
    """Whether the gateway can answer 503 with Retry-After while no backend may take requests."""
    weight_total: ClassVar[int] = WEIGHT_TOTAL
    """Sum of the weights of all backends, none of which may exceed what the gateway accepts."""

    backends: Annotated[
        Mapping[BackendName, Backend],
        FieldMetadata(
            "Pools, other workloads of the group, and providers among which the gateway splits the requests of the"
            " workload, by the name that the gateway gives them.",
            example={"gpus": {"pool": "kubernetes"}},
        ),
    ]
    allow_external: Annotated[
        bool,
        FieldMetadata(
            "Whether providers may see the prompts of the workload. The default of false sends them nothing. Set it to"
            " true once the data may leave."
        ),
    ] = False
    overflow: Annotated[Overflow, FieldMetadata("Limits of what goes to providers.")] = field(default_factory=Overflow)
    prefer: Annotated[
        Preference,
        FieldMetadata(
            "Order in which backends get requests. The default, cost, shares requests among pools in proportion to"
            " their ready capacity, and fills other workloads and then providers by price. latency fills providers by"
            " their measured latency. locality fills pools, then workloads, and then providers, from the nearest to"
            " the farthest from region."
        ),
    ] = "cost"
    region: Annotated[
        str | None,
        FieldMetadata(
            "Region of the gateway, for prefer: locality. Backends in this region are the nearest, then those in the"
            " same area, which is the part of the name before the first hyphen: eu for eu-west-1. Default: null. Set it"
            " with prefer: locality only."
        ),
    ] = None
    zero_replicas: Annotated[
        Literal["hold", "overflow", "reject"],
        FieldMetadata(
            "Destination of requests while no pool has a ready replica. The default, overflow, sends them to providers"
            " within their limits, and rejects them where these do not suffice. hold keeps the weights, for a gateway"
            " that queues requests. reject answers 503 with Retry-After."
        ),
    ] = "overflow"
    requests_per_replica_per_s: Annotated[
        float | None,
        FieldMetadata(
            "Requests per second that one replica carries within the SLO. Default: null: as the policy predictive has"
            " learned it. Set it for other policies. Requests per second.",
            gt=0,
            example=2.5,
        ),
    ] = None
    input_tokens_per_request: Annotated[
        float | None,
        FieldMetadata(
            "Mean prompt tokens of a request, for costs. Default: null: as the engines of the policy's source report"
            " them. Set it where they do not. Tokens.",
            ge=0,
            example=800,
        ),
    ] = None
    output_tokens_per_request: Annotated[
        float | None,
        FieldMetadata(
            "Mean generated tokens of a request, for costs. Default: null: as the engines of the policy's source"
            " report them. Set it where they do not. Tokens.",
            ge=0,
            example=250,
        ),
    ] = None
    min_change: Annotated[
        float,
        FieldMetadata(
            "Change the weights only if a share moves by at least this much, or a backend begins or ends to get"
            " requests. The default of 0.05 ignores noise. Share.",
            ge=0.001,
            le=0.5,
        ),
    ] = 0.05
    hold_s: Annotated[
        float,
        FieldMetadata(
            "Minimum time between two changes of the weights. A backend that must get nothing loses its weight at once."
            " The default of 10 lets the gateway measure each change. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 10.0
    return_s: Annotated[
        float,
        FieldMetadata(
            "Take requests back from providers only after the pools could carry them for this time, and from farther"
            " pools after nearer ones could. The default of 30 is two ticks at the default interval. Raise it if"
            " weights go up and down. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 30.0
    drain_s: Annotated[
        float,
        FieldMetadata(
            "Time between the last request to a pool and its resize to 0, in which its requests end. The default of 60"
            " is longer than most answers. Seconds.",
            ge=1,
            le=3600,
        ),
    ] = 60.0
    max_error_share: Annotated[
        float,
        FieldMetadata(
            "A backend with a larger share of errors gets no requests for eject_s, longer each time, and then slowly"
            " more. The default of 0.2 tolerates single failures. Share.",
            gt=0,
            le=1,
        ),
    ] = 0.2
    max_latency_s: Annotated[
        float | None,
        FieldMetadata(
            "A provider of which more than max_error_share of the responses come later gets requests only where no"
            " other one can take them, as one with errors does. Default: null: ttft_s of the SLO where the gateway"
            " measures when a response begins, and e2e_s where it measures whole responses; else no limit. Set it above"
            " the provider's usual latency. Seconds.",
            gt=0,
            le=3600,
            example=2,
        ),
    ] = None
    eject_s: Annotated[
        float,
        FieldMetadata(
            "Time without requests after the first ejection of a backend; the n-th one lasts n times as long, at most"
            " 300. The default of 30 equals Envoy's outlier detection. Seconds.",
            gt=0,
            le=3600,
        ),
    ] = 30.0
    slow_start_s: Annotated[
        float,
        FieldMetadata(
            "Time in which a backend gets its full share back after an ejection. The default of 60 reaches it in four"
            " ticks. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 60.0
    on_other_writer: Annotated[
        Literal["yield", "take_over"],
        FieldMetadata(
            "Action after another writer changed the route. The default, yield, leaves the weights unchanged for"
            " other_writer_yield_s and reports that. take_over writes them anyway."
        ),
    ] = "yield"
    other_writer_yield_s: OtherWriterYield = YIELD_S

    @property
    def latency_term(self) -> LatencyTerm:
        """The limit of the SLO for the latency that the gateway measures.

        `ttft_s` where it measures when a response begins, and `e2e_s` where it measures whole responses.
        """
        return "ttft_s"

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        """Return the objects that this route writes; every kind defines its own."""
        raise NotImplementedError(f"{type(self).__name__} states no target")

    @property
    def providers(self) -> Mapping[BackendName, Provider]:
        """The backends that are providers."""
        return {name: backend.provider for name, backend in self.backends.items() if backend.provider is not None}

    @property
    def workloads(self) -> Mapping[BackendName, WorkloadName]:
        """The backends that are other workloads."""
        return {name: backend.workload for name, backend in self.backends.items() if backend.workload is not None}

    @property
    def needs_demand(self) -> bool:
        """Whether requests may leave the pools, so that the gateway must count them."""
        return bool(self.workloads) or (self.allow_external and bool(self.providers))

    @property
    def max_external_usd_per_hour(self) -> float:
        """The maximum cost of the requests to providers; 0 where none may get any."""
        return (self.overflow.max_usd_per_hour or 0.0) if self.allow_external and self.providers else 0.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.backends:
            yield "backends", "must name at least one backend"
        for name in self.backends:
            if not re.match(NAME.regex, name):
                yield "backends", f"has the name {name!r}; a name must be {NAME.words}"
        pools = [backend.pool for backend in self.backends.values() if backend.pool is not None]
        if not pools:
            yield "backends", "must name at least one pool"
        if len(set(pools)) < len(pools):
            yield "backends", "must not name a pool twice"
        if len(set(self.workloads.values())) < len(self.workloads):
            yield "backends", "must not name a workload twice"
        if self.providers and self.allow_external and self.overflow.max_usd_per_hour is None:
            yield "overflow", "needs max_usd_per_hour with allow_external: true, so that the cost has a limit"
        if self.prefer == "latency" and len(self.providers) < 2:
            yield "prefer", "has no effect with fewer than two providers, which latency orders; remove it"
        if self.prefer == "locality" and self.region is None:
            yield "region", "must be set with prefer: locality; name the region of the gateway"
        if self.prefer != "locality" and self.region is not None:
            yield "region", "has no effect without prefer: locality; set that too, or remove region"
