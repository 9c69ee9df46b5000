"""Responses of Google Cloud and Azure, over a socket: the response to one call is mutated, all others are valid."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from policies.model import PoolStatus
from policies.signals.plausibility import implausible_size
from scaler.config.kinds.gcp_pools import GceMig, GkeNodePool
from scaler.ports import PortError
from tests.fuzz.kinds.loop import loop
from tests.fuzz.kinds.readings import unwritable
from tests.fuzz.mutate import json_text
from tests.fuzz.rng import Rng
from tests.scaler.clouds.azure_place import agent_pool, place, serving
from tests.scaler.clouds.gcp_place import CLUSTER, ZONES, there
from tests.servers.spoiling import LATER_S, is_count

MOST: Final = 1_000_000
FOLDER: Final = "fuzz-cloud-"


@dataclass(frozen=True, slots=True)
class Lane:
    """One pool in its own cloud, and the valid response to each call that its status needs."""

    server: Any
    clock: Any
    ask: Callable[[], Awaitable[PoolStatus]]
    answers: dict[str, Any]


@functools.cache
def _lanes() -> dict[str, Lane]:
    return loop().run(_open())


async def _open() -> dict[str, Lane]:
    gcp = await loop().keep(there(Path(tempfile.mkdtemp(prefix=FOLDER)), at_once=True))
    gcp.cloud.token_life_s = 10**7
    gcp.mig(location="us-central1").resize(3)
    gcp.cloud.container.add(CLUSTER, "h100", ZONES[:2], nodes_per_zone=1, spot=True)
    azure = await loop().keep(place(Path(tempfile.mkdtemp(prefix=FOLDER)), at_once=True))
    serving(azure.cloud, 2)
    agent_pool(azure.cloud, 2)
    project = gcp.cloud.project()
    pools = {
        "mig": (gcp, await gcp.pool(GceMig(project=project, name="vllm", location="us-central1"))),
        "node-pool": (
            gcp,
            await gcp.pool(
                GkeNodePool(
                    project=project, cluster="serving", location="us-central1", name="h100", quantum=2, market="spot"
                )
            ),
        ),
        "vmss": (azure, await azure.vmss()),
        "aks": (azure, await azure.aks()),
    }
    return {name: await _lane(where, pool) for name, (where, pool) in pools.items()}


async def _lane(where: Any, pool: Any) -> Lane:
    answers: dict[str, Any] = {}

    async def ask() -> PoolStatus:
        found: PoolStatus = (await pool.status()).value
        return found

    def note(name: str, body: Any) -> Any:
        answers.setdefault(name, json.loads(json.dumps(body)))
        return body

    where.clock.ahead_s += LATER_S
    where.cloud.mangle = note
    await ask()
    where.cloud.mangle = None
    return Lane(where.cloud, where.clock, ask, answers)


def mutated(rng: Rng) -> bytes:
    name, lane = rng.choice(sorted(_lanes().items(), key=lambda item: item[0]))
    call = rng.choice(sorted(lane.answers))
    return f"{name} {call}\n".encode() + json_text(rng, lane.answers[call])


def check(data: bytes) -> str:
    head, _, body = data.partition(b"\n")
    name, _, call = head.decode().partition(" ")
    lane = _lanes()[name]
    lane.server.mangle = lambda asked, honest: body if asked == call else honest
    lane.clock.ahead_s += LATER_S
    try:
        return _wrong(loop().run(_asked(lane)))
    except PortError as e:
        return unwritable(str(e))
    finally:
        lane.server.mangle = None


async def _asked(lane: Lane) -> PoolStatus:
    return await lane.ask()


def _wrong(found: PoolStatus) -> str:
    counts = (found.desired, found.ready, found.interruption_pending, found.failed, found.interrupted)
    if not all(map(is_count, counts)) or (max(counts) > MOST and not implausible_size(found)):
        return f"counts are {counts!r}"
    texts = (
        found.version,
        found.other_writer or "",
        found.shortfall.reason if found.shortfall else "",
        *(p.zone for p in found.parts),
    )
    return next((problem for one in texts if (problem := unwritable(one))), "")
