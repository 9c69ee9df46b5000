"""Faults of a fleet of daemons. Each function injects one fault for a random time and then removes it."""

from __future__ import annotations

import asyncio
import signal
from typing import Final

from tests.servers import pausing
from tests.servers.daemons import ACCOUNTS
from tests.servers.tcp_fault import ProxyFault
from tests.soak.fleet import FleetFault, FleetTarget

MAX_PAUSE_S: Final = 60.0
MAX_PARTITION_S: Final = 30.0
BLIND_S: Final = 20.0
"""Time of a source without answers, longer than evidence may be old. Seconds."""


async def kill(target: FleetTarget) -> None:
    """Kill a daemon, and start it again after up to ten seconds."""
    account = target.rng.choice(ACCOUNTS)
    await target.end(account)
    await asyncio.sleep(target.rng.uniform(0.0, 10.0))
    await target.start(account)


async def pause(target: FleetTarget) -> None:
    """Stop a daemon's process for 1 to 60 s, and continue it."""
    process = target.daemons[target.rng.choice(ACCOUNTS)].process
    pausing.pause(process.pid)
    await asyncio.sleep(target.rng.scale(1.0, MAX_PAUSE_S))
    process.send_signal(signal.SIGCONT)


async def partition(target: FleetTarget) -> None:
    """Reset or freeze the connections of a daemon to the API server. What was frozen is lost."""
    proxy = target.proxies[target.rng.choice(ACCOUNTS)]
    proxy.fault = target.rng.choice((ProxyFault.RESET, ProxyFault.FROZEN, ProxyFault.SILENT))
    if proxy.fault is ProxyFault.RESET:
        proxy.tear_down()
    await asyncio.sleep(target.rng.scale(1.0, MAX_PARTITION_S))
    proxy.tear_down()
    proxy.fault = ProxyFault.NONE


async def lost_answers(target: FleetTarget) -> None:
    """Cut the answers of the API server to a daemon, after it has executed the requests."""
    proxy = target.proxies[target.rng.choice(ACCOUNTS)]
    proxy.cut_after, proxy.fault = 0, ProxyFault.CUT
    await asyncio.sleep(target.rng.scale(1.0, 10.0))
    proxy.fault = ProxyFault.NONE


async def restart_api_server(target: FleetTarget) -> None:
    """Kill the API server, and start it again."""
    await asyncio.to_thread(target.plane.kill_apiserver)
    await asyncio.sleep(target.rng.uniform(0.0, 5.0))
    await asyncio.to_thread(target.plane.start_apiserver)


async def slow_disk(target: FleetTarget) -> None:
    """Let no write of the API server reach its disk, by stopping etcd, for 1 to 10 s."""
    target.plane.freeze("etcd")
    await asyncio.sleep(target.rng.scale(1.0, 10.0))
    target.plane.thaw("etcd")


async def blind(target: FleetTarget) -> None:
    """Let the source of all workloads respond with errors."""
    target.waves.blind = True
    await asyncio.sleep(BLIND_S)
    target.waves.blind = False


FAULTS: Final[tuple[FleetFault, ...]] = (
    kill,
    pause,
    partition,
    lost_answers,
    restart_api_server,
    slow_disk,
    blind,
)
QUICK: Final[tuple[FleetFault, ...]] = (lost_answers, kill)
"""Faults that take a few seconds."""
