"""Configuration records of the embedded world: pure data, without the compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import NAME, Pool, Target
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
)
MODEL: Final = "llama-3.1-8b-h100-vllm"
NO_PHASE: Final = Phase(median_s=0.0)

WorldName = Annotated[str, FieldMetadata("The embedded world; sources and pools of one name share it.", pattern=NAME)]
Seed = Annotated[
    int,
    FieldMetadata(
        "Of all chance in the world, as the first adapter of it says; the same seed gives the same world.",
        ge=0,
        lt=2**63,
    ),
]


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Arrival of requests, by the time since the world's start. It repeats every week."""

    shape: Annotated[
        Literal["daily", "batches"],
        FieldMetadata("daily: a day's wave and a flash crowd; batches: a burst, then nothing."),
    ] = "daily"
    mean_rps: Annotated[
        float, FieldMetadata("Mean rate of the wave, or rate within a batch. Requests a second.", ge=0, le=100)
    ] = 10.0
    swing: Annotated[float, FieldMetadata("Share of the mean by which the day's wave swings.", ge=0, le=1)] = 0.6
    crowd_at_s: Annotated[
        float, FieldMetadata("When the flash crowd begins to gather, after the world's start. Seconds.", ge=0)
    ] = 600.0
    crowd_s: Annotated[float, FieldMetadata("How long it stays once it is there. Seconds.", ge=0)] = 600.0
    crowd_factor: Annotated[
        float, FieldMetadata("How many times the usual rate it brings; 1: no crowd comes.", ge=1, le=10)
    ] = 3.0
    every_s: Annotated[float, FieldMetadata("From one batch to the next. Seconds.", gt=0)] = 1800.0
    batch_s: Annotated[float, FieldMetadata("How long a batch arrives. Seconds.", gt=0)] = 300.0
    prompt_tokens: Annotated[float, FieldMetadata("Mean length of a prompt. Tokens.", ge=1, le=16384)] = 1000.0
    output_tokens: Annotated[float, FieldMetadata("Mean length of an output. Tokens.", ge=1, le=4096)] = 200.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.batch_s >= self.every_s:
            yield "batch_s", f"must be below every_s, {self.every_s:g}: one batch ends before the next begins"


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource:
    """A queue, or the engines, of an embedded world.

    Its requests wait in a queue if any source reads one. Otherwise a gateway gives each to the least loaded replica.
    """

    world: WorldName = "demo"
    offers: Annotated[
        Literal["queue", "engines"],
        FieldMetadata(
            "Which side is read: the queue's approximate counts, or the engines' metrics, scraped every 15 s."
        ),
    ] = "queue"
    seed: Seed = 1
    traffic: Annotated[
        Traffic | None,
        FieldMetadata("How requests arrive; null: as another source of this world says, or else as by default."),
    ] = None
    max_age_s: Annotated[float, FieldMetadata("Older readings are stale. Seconds.", gt=0)] = 60.0

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(QUEUE if self.offers == "queue" else ENGINES, self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class EmbeddedPool(Pool):
    """Replicas in an embedded world, one per node. Its settings, except for the bounds, need a restart to change."""

    world: WorldName = "demo"
    seed: Seed = 1
    model: Annotated[
        str, FieldMetadata("The replicas' service model, by its name in the catalogue (simulators/engine/models/data).")
    ] = MODEL
    price_usd_per_hour: Annotated[
        float,
        FieldMetadata("A replica's price; the default is an H100's on demand (AWS p5.4xlarge). USD per hour.", ge=0),
    ] = 6.88
    market: Annotated[Literal["reserved", "on_demand", "spot"], FieldMetadata("How its nodes are bought.")] = (
        "on_demand"
    )
    capacity: Annotated[int | None, FieldMetadata("Nodes that can be had at once; null: no limit.", ge=0)] = None
    losses_per_node_hour: Annotated[
        float,
        FieldMetadata(
            "Each node's rate of being interrupted (spot) or failing (else). Per node and hour.", ge=0, le=3600
        ),
    ] = 0.0
    start_up_s: Annotated[
        float,
        FieldMetadata(
            "Median time from asked for to serving; the default is a warm compile cache and a streamed image (fleet"
            " catalogue). Seconds.",
            gt=0,
            le=86400,
        ),
    ] = 210.0
    start_up_sigma: Annotated[
        float, FieldMetadata("Log-normal spread of that: the p95 is exp(1.645 sigma) medians.", ge=0, le=3)
    ] = 0.25
    initial_replicas: Annotated[int, FieldMetadata("Replicas that serve from the start.", ge=0, le=1000)] = 1

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.model not in (names := catalogue.names()):
            yield "model", f"the catalogue has no {self.model}: {did_you_mean(self.model, names) or ', '.join(names)}"
        if self.market == "reserved" and self.capacity is None:
            yield "capacity", "must be given: a reserved pool pays for a fixed number of nodes"
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
