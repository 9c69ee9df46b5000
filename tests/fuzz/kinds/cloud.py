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
from tests.fuzz.kinds.readings import encoding_problem
from tests.fuzz.mutate import json_text
from tests.fuzz.rng import Rng
from tests.scaler.clouds.azure_place import agent_pool, azure_environment, serving
from tests.scaler.clouds.gcp_place import CLUSTER, ZONES, gcp_environment
from tests.servers.spoiling import LATER_S, is_count

MAX_COUNT: Final = 1_000_000
FOLDER: Final = "fuzz-cloud-"


@dataclass(frozen=True, slots=True)
class CloudPool:
    """One pool in its own cloud, and the valid response to each call that its status needs."""

    server: Any
    clock: Any
    read_status: Callable[[], Awaitable[PoolStatus]]
    answers: dict[str, Any]


@functools.cache
def _cloud_pools() -> dict[str, CloudPool]:
    return loop().run(_open())


async def _open() -> dict[str, CloudPool]:
    gcp = await loop().keep(gcp_environment(Path(tempfile.mkdtemp(prefix=FOLDER)), at_once=True))
    gcp.cloud.token_life_s = 10**7
    gcp.mig(location="us-central1").resize(3)
    gcp.cloud.container.add(CLUSTER, "h100", ZONES[:2], nodes_per_zone=1, spot=True)
    azure = await loop().keep(azure_environment(Path(tempfile.mkdtemp(prefix=FOLDER)), at_once=True))
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
    return {name: await _open_pool(site, pool) for name, (site, pool) in pools.items()}


async def _open_pool(site: Any, pool: Any) -> CloudPool:
    answers: dict[str, Any] = {}

    async def read_status() -> PoolStatus:
        status: PoolStatus = (await pool.status()).value
        return status

    def record_answer(name: str, body: Any) -> Any:
        answers.setdefault(name, json.loads(json.dumps(body)))
        return body

    site.clock.ahead_s += LATER_S
    site.cloud.mangle = record_answer
    await read_status()
    site.cloud.mangle = None
    return CloudPool(site.cloud, site.clock, read_status, answers)


def mutated(rng: Rng) -> bytes:
    name, cloud_pool = rng.choice(sorted(_cloud_pools().items(), key=lambda item: item[0]))
    call = rng.choice(sorted(cloud_pool.answers))
    return f"{name} {call}\n".encode() + json_text(rng, cloud_pool.answers[call])


def check(data: bytes) -> str:
    head, _, body = data.partition(b"\n")
    name, _, call = head.decode().partition(" ")
    cloud_pool = _cloud_pools()[name]
    cloud_pool.server.mangle = lambda requested_call, valid: body if requested_call == call else valid
    cloud_pool.clock.ahead_s += LATER_S
    try:
        return _invalid_status(loop().run(_status(cloud_pool)))
    except PortError as e:
        return encoding_problem(str(e))
    finally:
        cloud_pool.server.mangle = None


async def _status(cloud_pool: CloudPool) -> PoolStatus:
    return await cloud_pool.read_status()


def _invalid_status(status: PoolStatus) -> str:
    counts = (status.desired, status.ready, status.interruption_pending, status.failed, status.interrupted)
    if not all(map(is_count, counts)) or (max(counts) > MAX_COUNT and not implausible_size(status)):
        return f"counts are {counts!r}"
    texts = (
        status.version,
        status.other_writer or "",
        status.shortfall.reason if status.shortfall else "",
        *(p.zone for p in status.parts),
    )
    return next((problem for text in texts if (problem := encoding_problem(text))), "")
