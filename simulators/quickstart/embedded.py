"""The quickstart's cloud: the simulator's world behind the daemon's own ports, in real time or faster.

Sources and pools of one world's name meet in one `simulators.quickstart.live_world.LiveWorld`: measured engines behind
a queue or a gateway, traffic without end, replicas that take their time to start. What stands here needs no compiler;
the world, which needs one, is loaded when the first adapter is opened.
"""

from __future__ import annotations

import asyncio
import dataclasses
import importlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from policies.model import Absent, Fresh, PoolName, PoolStatus, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import NAME, Pool, Target
from scaler.ports import Context
from scaler.registry import did_you_mean
from simulators.engine.models import catalogue
from simulators.quickstart.traffic import Traffic
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp

if TYPE_CHECKING:
    from simulators.quickstart.live_world import LiveWorld
    from simulators.world.world import World

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
NONE: Final = Phase(median_s=0.0)

WorldName = Annotated[str, FieldMetadata("The embedded world; sources and pools of one name share it.", pattern=NAME)]
Seed = Annotated[
    int,
    FieldMetadata(
        "Of all chance in the world, as the first adapter of it says; the same seed gives the same world.",
        ge=0,
        lt=2**63,
    ),
]


async def _live(context: Context, name: str, seed: int) -> LiveWorld:
    @asynccontextmanager
    async def begin() -> AsyncIterator[LiveWorld]:
        realtime = await asyncio.to_thread(_loaded)
        yield realtime.LiveWorld(name, context.clock, seed)

    return await context.shared(("embedded", name), begin)


def _loaded() -> Any:
    """The world's module, compiled. Raises `ImportError` where the simulator's packages are missing."""
    realtime = importlib.import_module("simulators.quickstart.live_world")
    realtime.warm_up()
    return realtime


@dataclass(frozen=True, kw_only=True)
class EmbeddedSource:
    """A queue, or the engines, of an embedded world.

    Its requests wait in a queue if any source reads one; else a gateway hands each to the replica that has the fewest.
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

    async def open(self, context: Context) -> EmbeddedReader:
        live = await _live(context, self.world, self.seed)
        live.read(queued=self.offers == "queue", traffic=self.traffic)
        return EmbeddedReader(self, live, context.promised_s)


class EmbeddedReader:
    """The source's port."""

    def __init__(self, spec: EmbeddedSource, live: LiveWorld, promised_s: Mapping[str, float]) -> None:
        self.live = live
        self._promised_s = promised_s
        self._spec = spec

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """What the queue's service, or the last scrape, tells; a lower bound while the world turns requests away."""
        self.live.follow(self._spec.traffic)
        world = await self.live.present()
        found = self._look(world)
        if not self.live.full:
            return found
        return {
            q: dataclasses.replace(r, missing=self.live.full) if isinstance(r, Fresh) else r for q, r in found.items()
        }

    def _look(self, world: World) -> dict[str, Fresh[float] | Absent]:
        if self._spec.offers == "engines":
            return world.engines.read(ENGINES, self._promised_s)
        told = world.view.read(world.counts())
        return {quantity: told[quantity] for quantity in QUEUE}


@dataclass(frozen=True, kw_only=True)
class EmbeddedPool(Pool):
    """Replicas in an embedded world, one a node. Beside the bounds, its settings hold from the daemon's start on."""

    world: WorldName = "demo"
    seed: Seed = 1
    model: Annotated[
        str, FieldMetadata("The replicas' service model, by its name in the catalogue (simulators/models/data).")
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
        """What the world is told of the pool."""
        start_up = Phase(median_s=self.start_up_s, sigma=self.start_up_sigma)
        return PoolOffer(
            model=self.model,
            price_usd_per_hour=self.price_usd_per_hour,
            market=self.market,
            zones={"zone-a": ZoneOffer(capacity=self.capacity, losses_per_node_hour=self.losses_per_node_hour)},
            start_up=StartUp(node=start_up, image=NONE, weights=NONE, compile=NONE, ready=NONE),
        )

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("pool of embedded world", (self.world,), pool),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> EmbeddedResizer:
        """Raises `Misconfigured` where the world has begun without this pool, or with another of its name."""
        live = await _live(context, self.world, self.seed)
        live.add(pool, self.offer, self.initial_replicas)
        return EmbeddedResizer(live, pool)


class EmbeddedResizer:
    """The actuator's port."""

    def __init__(self, live: LiveWorld, pool: PoolName) -> None:
        self.live = live
        self._pool = pool

    async def status(self) -> Fresh[PoolStatus]:
        world = await self.live.present()
        return Fresh(world.status(self._pool), world.now)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        (await self.live.present()).resize(self._pool, replicas)
