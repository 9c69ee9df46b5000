"""Configuration records of the embedded world: pure data, without the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Literal

from policies.model.field_metadata import FieldMetadata
from policies.model.names import NAME
from policies.model.pool import Pool, Target
from scaler.registry import did_you_mean
from simulators.engine.models import catalogue
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp

QUEUE: Final = ("visible", "in_flight", "delayed", "oldest_age_s")
ENGINES: Final = (
    "running",
    "waiting",
    "kv_cache_usage",
    "utilization",
    "requests_per_s",
    "prompt_tokens_per_s",
    "generation_tokens_per_s",
    "ttft_mean_s",
    "ttft_late_share",
    "ttft_p95_s",
    "itl_mean_s",
    "itl_late_share",
    "itl_p95_s",
    "e2e_late_share",
)
MODEL: Final = "llama-3.1-8b-h100-vllm"
NO_PHASE: Final = Phase(median_s=0.0)

WorldName = Annotated[
    str, FieldMetadata("Name of the embedded world. Sources and pools with the same name share it.", pattern=NAME)
]
Seed = Annotated[
    int,
    FieldMetadata(
        "Random seed of the world; equal seeds give equal worlds. The seed of the first opened source or pool applies.",
        ge=0,
        lt=2**63,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Arrival of requests, by the time since the world's start. It repeats every week."""

    shape: Annotated[
        Literal["daily", "batches"],
        FieldMetadata("Shape of the traffic. daily: a daily wave with a flash crowd. batches: periodic bursts."),
    ] = "daily"
    mean_rps: Annotated[
        float, FieldMetadata("Mean rate of the daily wave, or rate within a batch. Requests per second.", ge=0, le=100)
    ] = 10.0
    swing: Annotated[
        float, FieldMetadata("Amplitude of the daily wave as a share of the mean rate. Share.", ge=0, le=1)
    ] = 0.6
    crowd_at_s: Annotated[
        float, FieldMetadata("Start of the flash crowd, after the start of the world. Seconds.", ge=0)
    ] = 600.0
    crowd_s: Annotated[float, FieldMetadata("Duration of the flash crowd at its peak. Seconds.", ge=0)] = 600.0
    crowd_factor: Annotated[
        float,
        FieldMetadata("Peak rate of the flash crowd over the normal rate; 1: no flash crowd. Factor.", ge=1, le=10),
    ] = 3.0
    every_s: Annotated[float, FieldMetadata("Time between the starts of two batches. Seconds.", gt=0)] = 1800.0
    batch_s: Annotated[float, FieldMetadata("Duration of a batch. Seconds.", gt=0)] = 300.0
    prompt_tokens: Annotated[float, FieldMetadata("Mean prompt length. Tokens.", ge=1, le=16384)] = 1000.0
    output_tokens: Annotated[float, FieldMetadata("Mean output length. Tokens.", ge=1, le=4096)] = 200.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.batch_s >= self.every_s:
            yield "batch_s", f"must be below every_s, {self.every_s:g}: batches cannot overlap"


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource:
    """Metrics of an embedded world: its queue or its engines.

    Requests wait in a queue if any source of the world reads it. Otherwise a gateway sends each request to the least
    loaded replica.
    """

    window_s: ClassVar[float] = 60.0
    """Window of the rates of its engines: four scrapes of 15 s. Seconds."""

    world: WorldName = "demo"
    offers: Annotated[
        Literal["queue", "engines"],
        FieldMetadata(
            "Metrics to read. queue: approximate message counts. engines: engine metrics, scraped every 15 s."
        ),
    ] = "queue"
    seed: Seed = 1
    traffic: Annotated[
        Traffic | None,
        FieldMetadata(
            "Traffic of the world. Default: null, the traffic of another source of the world, or a daily wave."
        ),
    ] = None
    max_age_s: Annotated[
        float, FieldMetadata("Maximum age of a reading. The default covers four scrapes. Seconds.", gt=0)
    ] = 60.0

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(QUEUE if self.offers == "queue" else ENGINES, self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class EmbeddedPool(Pool):
    """Replicas in an embedded world, one per node.

    Changes of settings other than the bounds need a restart.
    """

    world: WorldName = "demo"
    seed: Seed = 1
    model: Annotated[
        str, FieldMetadata("Service model of the replicas: a name in the catalogue (simulators/engine/models/data).")
    ] = MODEL
    price_usd_per_hour: Annotated[
        float,
        FieldMetadata("Price of a replica. Default: an on-demand H100 (AWS p5.4xlarge). USD per hour.", ge=0),
    ] = 6.88
    market: Annotated[Literal["reserved", "on_demand", "spot"], FieldMetadata("Market of the nodes.")] = "on_demand"
    capacity: Annotated[
        int | None,
        FieldMetadata("Available nodes. Default: null, no limit. Set it to simulate a capacity shortage. Nodes.", ge=0),
    ] = None
    losses_per_node_hour: Annotated[
        float,
        FieldMetadata(
            "Rate of interruptions (spot) or failures (other markets). Default: 0, no losses. Per node and hour.",
            ge=0,
            le=3600,
        ),
    ] = 0.0
    start_up_s: Annotated[
        float,
        FieldMetadata(
            "Median lead time from request to serving. Default: a warm compile cache and image streaming (fleet"
            " catalogue). Seconds.",
            gt=0,
            le=86400,
        ),
    ] = 210.0
    start_up_sigma: Annotated[
        float,
        FieldMetadata("Log-normal spread of start_up_s: p95 = median * exp(1.645 sigma). Sigma.", ge=0, le=3),
    ] = 0.25
    initial_replicas: Annotated[int, FieldMetadata("Ready replicas at the start. Replicas.", ge=0, le=1000)] = 1

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.model not in (names := catalogue.names()):
            yield (
                "model",
                f"{self.model} is not in the catalogue: {did_you_mean(self.model, names) or ', '.join(names)}",
            )
        if self.market == "reserved" and self.capacity is None:
            yield "capacity", "is required: a reserved pool pays for a fixed number of nodes"
        yield from ((key, rule) for key, rule in self.offer.problems() if key == "price_usd_per_hour")

    @property
    def offer(self) -> PoolOffer:
        """The pool's offer in the simulated world."""
        start_up = Phase(median_s=self.start_up_s, sigma=self.start_up_sigma)
        return PoolOffer(
            model=self.model,
            price_usd_per_hour=self.price_usd_per_hour,
            market=self.market,
            zones={"zone-a": ZoneOffer(capacity=self.capacity, losses_per_node_hour=self.losses_per_node_hour)},
            start_up=StartUp(node=start_up, image=NO_PHASE, weights=NO_PHASE, compile=NO_PHASE, ready=NO_PHASE),
        )

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("pool of embedded world", (self.world,), pool),)
