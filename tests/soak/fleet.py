"""Three daemons with leases on a real API server, under random faults one after the other, judged by its audit log."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiohttp import web

from scaler.clock import stopwatch_s
from tests.fuzz.rng import Rng
from tests.patience import PATIENCE_S
from tests.servers.control_plane import ControlPlane, shared_plane
from tests.servers.daemon import Daemon, until
from tests.servers.daemons import ACCOUNTS, API, DURATION_S, Demand, Rig, now_s, rig
from tests.servers.tcp_fault import TcpProxy, tcp_proxy
from tests.soak.fleet_laws import problems, scale_ins

INTERVAL_S: Final = 2.0
WAVE_S: Final = 40.0
"""Period of the demand. Seconds."""
READY_S: Final = 0.5
"""Time between two reports of ready replicas. Seconds."""
GOAL_S: Final = DURATION_S + INTERVAL_S
"""Time after a fault within which each workload ticks again, on a machine that is not busy. Seconds."""
WORKLOAD: Final = {"scale_down": {"window_s": 4.0}}


class Waves(Demand):
    """A source whose value rises and falls. While it is `blind`, it responds with errors."""

    def __init__(self) -> None:
        super().__init__()
        self.blind = False
        self.requested_at: dict[str, float] = {}
        """Time of each workload's last request."""
        self.answered: dict[str, list[float]] = {}
        """Times of each workload's answered requests."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        name, now = request.match_info["name"], now_s()
        self.requested_at[name] = now
        if self.blind:
            return web.Response(status=503)
        self.answered.setdefault(name, []).append(now)
        return web.json_response({"running": round(20 + 15 * math.sin(2 * math.pi * stopwatch_s() / WAVE_S))})


@dataclass
class FleetTarget:
    """The daemons by account, each with its proxy before the API server."""

    rig: Rig
    waves: Waves
    plane: ControlPlane
    proxies: dict[str, TcpProxy]
    rng: Rng
    daemons: dict[str, Daemon] = field(default_factory=dict)
    contexts: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, account: str) -> None:
        self.contexts[account] = AsyncExitStack()
        self.daemons[account] = await self.contexts[account].enter_async_context(self.rig.run(account))

    async def end(self, account: str) -> None:
        """Kill a daemon, and wait until it has ended."""
        del self.daemons[account]
        await self.contexts.pop(account).aclose()

    async def tick_after(self, at: float) -> None:
        """Return when each workload has read its source after a time. Fails after `PATIENCE_S`."""
        about = next(iter(self.daemons.values()))
        await until(lambda: all(self.waves.requested_at.get(name, 0.0) > at for name in self.rig.names), about)


FleetFault = Callable[[FleetTarget], Awaitable[None]]


@asynccontextmanager
async def fleet(folder: Path, seed: int) -> AsyncIterator[FleetTarget]:
    """Run three daemons on the control plane of this process."""
    waves = Waves()
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(shared_plane())
        proxies = {
            a: await stack.enter_async_context(tcp_proxy("127.0.0.1", plane.port, tunnels=True)) for a in ACCOUNTS
        }
        urls = {account: f"http://127.0.0.1:{proxy.port}" for account, proxy in proxies.items()}
        opened = await stack.enter_async_context(
            rig(folder, interval_s=INTERVAL_S, demand=waves, workload=WORKLOAD, proxies=urls)
        )
        target = FleetTarget(opened, waves, plane, proxies, Rng(seed, "soak/fleet"))
        readiness = asyncio.create_task(_make_ready(opened))
        try:
            await asyncio.gather(*(target.start(account) for account in ACCOUNTS))
            yield target
        finally:
            for account in list(target.daemons):
                await target.end(account)
            readiness.cancel()
            await asyncio.gather(readiness, return_exceptions=True)


async def _make_ready(rig: Rig) -> None:
    """Report all replicas of each object as ready: no controller follows their kind, and sizes would never fall."""
    while True:
        for name in rig.names:
            path = rig.kube.path("engines", name, f"apis/{API}")
            with contextlib.suppress(OSError):  # the API server may be down
                size = (await rig.kube.call("GET", path))["spec"]["replicas"]
                status = {"replicas": size, "readyReplicas": size}
                await rig.kube.call("PATCH", f"{path}/status", {"status": status})
        await asyncio.sleep(READY_S)


@dataclass
class FleetReport:
    """Faults by name, the time after each one until all workloads ticked again, and problems."""

    faults: Counter[str] = field(default_factory=Counter)
    recovery_s: list[float] = field(default_factory=list)
    writes: int = 0
    scale_ins: int = 0
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        times = sorted(self.recovery_s) or [math.nan]
        late = sum(time_s > GOAL_S for time_s in self.recovery_s)
        counts = ", ".join(f"{n} {name}" for name, n in sorted(self.faults.items()))
        text = (
            f"fleet: {self.faults.total()} faults, {self.writes:,} writes, {self.scale_ins:,} of smaller sizes; all"
            " workloads ticked again after"
            f" {times[len(times) // 2]:.1f} s (median), {times[-1]:.1f} s at most, {late} times after more than"
            f" {GOAL_S:g} s"
        )
        return "\n  ".join([text, f"faults: {counts}", *self.problems])


async def soak_fleet(
    target: FleetTarget, faults: Sequence[FleetFault], count: int, log: Callable[[str], None]
) -> FleetReport:
    """Inject `count` faults, the next one when all workloads have ticked after the last, and judge the writes."""
    report, start_s = FleetReport(), stopwatch_s()
    await target.tick_after(now_s())
    for number in range(1, count + 1):
        fault = faults[number - 1] if number <= len(faults) else target.rng.choice(faults)
        log(f"fleet {stopwatch_s() - start_s:.0f} s: {number} of {count}, {fault.__name__}")
        await fault(target)
        ended = now_s()
        try:
            await target.tick_after(ended)
        except AssertionError:
            text = f"{fault.__name__}, fault {number}: a workload has no tick within {PATIENCE_S:g} s after it"
            report.problems.append(text)
            break
        report.faults[fault.__name__] += 1
        report.recovery_s.append(now_s() - ended)
    writes = target.rig.writes()
    report.writes, report.scale_ins = len(writes), len(list(scale_ins(writes)))
    report.problems += problems(target.rig, target.waves.answered)
    return report
