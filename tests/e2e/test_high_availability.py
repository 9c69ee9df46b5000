"""Two daemons on a real API server: shares, handover, a crash, and a pause beyond the lease.

The crash also with leases in a real PostgreSQL.

The laws are read from the API server's audit log.
"""

from __future__ import annotations

import asyncio
import functools
import json
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path

import pytest
from aiohttp import web

from policies.model import Tick
from scaler.cli import main
from tests.servers import pausing
from tests.servers.control_plane import shared_plane, why_not
from tests.servers.daemon import Daemon, until
from tests.servers.daemons import ACCOUNTS, DURATION_S, PRICE_USD_PER_HOUR, SHARDS, Demand, Rig, held, holds, now_s, rig
from tests.servers.postgresql import INITDB, postgres
from tests.servers.tcp_fault import ProxyFault, tcp_proxy

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]

INTERVAL_S = 5.0
GPUS = 13
"""Limit of the fleet. Each of the four workloads begins with one."""
USD_PER_HOUR = GPUS * PRICE_USD_PER_HOUR
"""The same limit as a cost."""


async def each_answers_for_both(opened: Rig, *daemons: Daemon) -> None:
    """Return when each daemon lists and shows the workloads of all."""

    async def is_complete(d: Daemon) -> bool:
        _, text = await d.get("api/workloads")
        shown = [await d.get(f"api/workloads/{name}") for name in opened.names]
        listed = {line["workload"] for line in json.loads(text)["workloads"]}
        return listed == set(opened.names) and all(status == 200 for status, _ in shown)

    for d in daemons:
        await until(functools.partial(is_complete, d), d)


async def test_shares_and_handover_at_a_shutdown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with rig(tmp_path) as opened, opened.run("a") as a, opened.run("b") as b:
        await opened.is_shared(a, b)
        await each_answers_for_both(opened, a, b)
        assert await asyncio.to_thread(main, ["shards", str(tmp_path / "a"), "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert sorted(w for shard in printed["shards"] for w in shard["workloads"]) == sorted(opened.names)
        assert len({shard["holder"] for shard in printed["shards"]}) == len(printed["members"]) == 2
        assert await a.stop() == 0
        stopped = now_s()
        await until(lambda: opened.written("b", stopped) == set(opened.names), b)
        assert len(await held(b)) == SHARDS
        assert any(t.epoch is not None for t in b.ticks())
        _, metrics = await b.get("metrics")
        assert metrics.count("forescale_shard_epoch{") == SHARDS
        opened.check_laws()


@pytest.fixture(params=["kubernetes", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of the database with the leases; empty where they are objects of Kubernetes."""
    if request.param == "kubernetes":
        yield ""
    elif INITDB is None:
        pytest.skip("no initdb on PATH (Debian: apt install postgresql)")
    else:
        with postgres() as url:
            yield url


async def test_takeover_after_a_crash(tmp_path: Path, database: str) -> None:
    async with rig(tmp_path, database) as opened, opened.run("a") as a, opened.run("b") as b:
        await opened.is_shared(a, b)
        moved = opened.last_written("a")
        a.process.kill()
        killed = now_s()
        await until(lambda: opened.written("b", killed) == set(opened.names), b)
        taken = await opened.first_taken(killed)
        first = min(w.at for w in opened.writes() if w.user == "b" and w.target in moved and w.at > killed)
        assert first >= taken + DURATION_S  # a write of the killed daemon may still have been under way
        assert all(
            t.history_len > 0 for t in b.ticks() if t.workload in moved and t.at > killed
        )  # it continues by their snapshots
        opened.check_laws()


async def test_paused_daemon_writes_nothing_when_it_continues(tmp_path: Path) -> None:
    async with rig(tmp_path) as opened, opened.run("a") as a, opened.run("b") as b:
        await opened.is_shared(a, b)
        before = await held(a)
        pausing.pause(a.process.pid)
        paused = now_s()
        await until(lambda: opened.written("b", paused) == set(opened.names), b)
        a.process.send_signal(signal.SIGCONT)
        continued = now_s()
        await until(lambda: bool(opened.written("a", continued)), a)  # with shards that were handed back
        again = await held(a)
        assert all(epoch > before.get(shard, -1) for shard, epoch in again.items())
        opened.check_laws()


async def test_limit_of_the_fleet_holds_across_daemons_and_unused_shares_flow(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """First one workload needs ever more, so that it gets the shares of all shards; then all do."""
    async with rig(tmp_path, limits={"max_gpus": GPUS}) as opened:
        opened.demand.idle = set(opened.names)
        async with opened.run("a") as a, opened.run("b") as b:
            await holds(a, SHARDS // 2)
            await holds(b, SHARDS // 2)
            growing = opened.names[0]
            opened.demand.idle.remove(growing)
            await until(lambda: opened.sizes()[-1][growing] == GPUS - SHARDS + 1, b)
            opened.demand.idle.clear()
            await until(lambda: all(any(is_held_back(t) for t in d.ticks()) for d in (a, b)), b)

            async def are_published() -> bool:
                assert await asyncio.to_thread(main, ["shards", str(tmp_path / "a"), "--json"]) == 0
                shares = [member["share"]["gpus"] for member in json.loads(capsys.readouterr().out)["members"]]
                return bool(sum(s["granted"] for s in shares) == sum(s["used"] for s in shares) == GPUS)

            await until(are_published, b)
            assert max(sum(sizes.values()) for sizes in opened.sizes()) == GPUS
            opened.check_epochs()


def is_held_back(tick: Tick, limit: str = "max_gpus") -> bool:
    """Return whether a workload needs more than its shard's share of the limit."""
    reasons = [step.reason for step in tick.decision.steps if f"daemon.fleet.{limit}" in step.reason]
    return (tick.decision.demand or 0) > GPUS and any("in the share of shard" in reason for reason in reasons)


class Levels(Demand):
    """A source with a value for each workload, at first 1."""

    def __init__(self) -> None:
        super().__init__()
        self.levels: dict[str, int] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"running": self.levels.get(request.match_info["name"], 1)})


async def test_cost_of_all_daemons_stays_within_the_limit_while_one_is_cut_off(tmp_path: Path) -> None:
    """One daemon loses the API server before all workloads grow, and gets shards back when they are at the limit."""
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(shared_plane())
        proxy = await stack.enter_async_context(tcp_proxy("127.0.0.1", plane.port, tunnels=True))
        proxies, limits = {"a": f"http://127.0.0.1:{proxy.port}"}, {"max_usd_per_hour": USD_PER_HOUR}
        demand = Levels()
        opened = await stack.enter_async_context(rig(tmp_path, limits=limits, proxies=proxies, demand=demand))
        a, b = [await stack.enter_async_context(opened.run(account)) for account in ("a", "b")]
        await holds(a, SHARDS // 2)
        await holds(b, SHARDS // 2)
        demand.levels = dict.fromkeys(opened.names, 2)
        await until(lambda: set(opened.sizes()[-1].values()) == {2}, b)
        frozen, proxy.fault = now_s(), ProxyFault.FROZEN
        demand.levels = dict.fromkeys(opened.names, 2 * GPUS)
        await until(lambda: sum(opened.sizes()[-1].values()) == GPUS, b)
        await holds(b, SHARDS)
        assert not opened.written("a", frozen)
        proxy.tear_down()  # what was frozen is lost
        proxy.fault = ProxyFault.NONE
        healed = now_s()
        await holds(a, SHARDS // 2)
        await until(lambda: any(is_held_back(t, "max_usd_per_hour") for t in a.ticks() if t.at > healed), a)
        opened.check_epochs()
        assert max(sum(sizes.values()) for sizes in opened.sizes()) * PRICE_USD_PER_HOUR == USD_PER_HOUR
        granted = opened.granted()
        assert len({share.holder for shares in granted for share in shares.values()}) == 2
        assert max(sum(s.granted.usd_per_hour for s in shares.values()) for shares in granted) <= USD_PER_HOUR


async def holds_some(d: Daemon) -> bool:
    """Return whether a daemon holds a shard."""
    return bool(await held(d))


async def test_rolling_replacement_loses_no_tick_beyond_one_interval(tmp_path: Path) -> None:
    """Three daemons under a load that grows with each tick are replaced, one after the other."""
    async with rig(tmp_path, interval_s=INTERVAL_S) as opened, AsyncExitStack() as stack:
        daemons = {account: await stack.enter_async_context(opened.run(account)) for account in ACCOUNTS}

        def ticks() -> dict[str, list[float]]:
            """Return the times of all ticks by workload."""
            times: dict[str, list[float]] = {name: [] for name in opened.names}
            for tick in (tick for d in daemons.values() for tick in d.ticks()):
                times[tick.workload].append(tick.at)
            return {name: sorted(own) for name, own in times.items()}

        async def all_tick_after(at: float) -> None:
            await until(lambda: all(own and own[-1] > at for own in ticks().values()), daemons["b"])

        await all_tick_after(now_s())
        for account in ACCOUNTS:
            assert await daemons[account].stop() == 0
            daemons[account] = await stack.enter_async_context(opened.run(account))
            await until(functools.partial(holds_some, daemons[account]), daemons[account])
        await all_tick_after(now_s())
        for name, times in ticks().items():
            longest_s = max(later - earlier for earlier, later in pairwise(times))
            assert longest_s <= 2 * INTERVAL_S, f"{name}: {longest_s:.1f} s between two ticks"
        opened.check_laws()
