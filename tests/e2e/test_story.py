"""The daemon on real servers: messages in SQS, a Deployment on a real API server, and injected faults.

One daemon, a story a fault. Each ends with what the journal tells of it, and the last test reads the whole journal:
nothing was ever scaled down on missing data.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from policies.model import Absent, Fresh, Result, SignalName, Stale, Tick
from tests.contracts.test_kubernetes import dropped, stalled_write
from tests.e2e.stage import (
    INTERVAL_S,
    MESSAGES_PER_REPLICA,
    TIMEOUT_S,
    WINDOW_S,
    Stage,
    after,
    settle,
    stage,
    wait_for_ticks,
)
from tests.servers.control_plane import WRITES, why_not
from tests.servers.daemon import Daemon, until
from tests.servers.prometheus import BINARY
from tests.servers.tcp_fault import Weather

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "-"),
    pytest.mark.skipif(BINARY is None, reason="no prometheus on PATH (Debian: apt install prometheus)"),
]
VISIBLE = SignalName("queue.visible")


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Stage]:
    async with stage(tmp_path) as s:
        yield s


async def test_the_whole_story(scene: Stage) -> None:
    async with scene.run() as d:
        await a_burst_comes_and_goes(scene, d)
        await the_api_server_is_killed_and_restarted(scene, d)
        await the_api_server_freezes(scene, d)
        await somebody_else_writes(scene, d)
        await the_api_server_throttles(scene, d)
        await sqs_times_out_for_ten_turns_in_a_burst(scene, d)
        await prometheus_is_gone(scene, d)
        await killed_between_decision_and_resize(scene, d)
    async with scene.run() as d:
        await the_next_daemon_finishes_the_job(scene, d)
        await d.stop()
    the_journal_tells_it_all(scene, d.ticks())


async def send(s: Stage, replicas: int) -> None:
    """Replace the queue's messages by those for this many replicas."""
    await s.cloud.drain(s.queue)
    await s.cloud.send(s.queue, replicas * MESSAGES_PER_REPLICA)


async def a_burst_comes_and_goes(s: Stage, d: Daemon) -> None:
    await settle(d, s, 1)
    await send(s, 6)
    await settle(d, s, 6)
    await until(lambda: d.ticks()[-1].decision.ready == 6, 60, d)
    await s.cloud.drain(s.queue)
    await settle(d, s, 1)


async def the_api_server_is_killed_and_restarted(s: Stage, d: Daemon) -> None:
    await asyncio.to_thread(s.kube.plane.kill_apiserver)
    began = d.ticks()[-1].at
    await send(s, 4)
    blind = await wait_for_ticks(d, 3, lambda t: "gpus" in t.observation.pool_errors or bool(failed(t)))
    assert all(t.decision.target in {None, 1, 4} for t in blind)
    await asyncio.to_thread(s.kube.plane.start_apiserver)
    await settle(d, s, 4)
    reported = [e for t in after(d, began) for e in [*t.observation.pool_errors.values(), *failed(t)]]
    assert any("gpus" in t.observation.pool_errors or failed(t) for t in after(d, began))
    assert reported


async def the_api_server_freezes(s: Stage, d: Daemon) -> None:
    s.kube.plane.freeze()
    try:
        await send(s, 7)
        frozen = await wait_for_ticks(d, 5)
        assert frozen[-1].at - frozen[0].at < 5 * (INTERVAL_S + 2.0), "the loop went on at its pace"
        assert any("no answer" in reason for t in frozen for reason in failed(t))
    finally:
        s.kube.plane.thaw()
    await settle(d, s, 7)


async def somebody_else_writes(s: Stage, d: Daemon) -> None:
    await s.kube.set_size(3)
    yielding = await wait_for_ticks(d, 2, lambda t: "yields to" in t.decision.reason)
    assert all(o.result is Result.UNCHANGED for t in yielding for o in t.outcomes)
    assert await s.kube.size() == 3, "left alone for a while"
    await settle(d, s, 7)
    await a_rollout_changes_the_object_all_the_time(s, d)


async def a_rollout_changes_the_object_all_the_time(s: Stage, d: Daemon) -> None:
    """Real 409s: the version seen is old by the time of the write; only a changed size would be a conflict."""
    done = asyncio.Event()

    async def touch() -> None:
        for i in range(10_000):
            if done.is_set():
                return
            annotations = {"metadata": {"annotations": {"touched": str(i)}}}
            await s.kube.call("PATCH", s.kube.path("deployments", "llm"), annotations)

    touching = asyncio.create_task(touch())
    try:
        await send(s, 9)
        await settle(d, s, 9)
    finally:
        done.set()
        await touching


async def the_api_server_throttles(s: Stage, d: Daemon) -> None:
    path = s.kube.path("deployments", "llm") + "/scale"
    stalled = [await stalled_write(s.kube.plane, path) for _ in range(WRITES)]
    try:
        await send(s, 2)
        throttled = await wait_for_ticks(d, 2, lambda t: bool(failed(t)))
        assert any("too many requests" in reason.lower() for t in throttled for reason in failed(t))
        assert await s.kube.size() == 9
    finally:
        for writer in stalled:
            await dropped(writer)
    await settle(d, s, 2)


async def sqs_times_out_for_ten_turns_in_a_burst(s: Stage, d: Daemon) -> None:
    await send(s, 6)
    await settle(d, s, 6)
    s.sqs_proxy.weather = Weather.SILENT
    s.sqs_proxy.tear_down()
    try:
        await s.cloud.drain(s.queue)  # the backlog is gone, but nobody can know
        blind = await wait_for_ticks(d, 10, lambda t: "queue" in t.observation.source_errors)
        assert {t.decision.target for t in blind} == {6}
        assert all(isinstance(t.observation.readings[VISIBLE], Stale) for t in blind)
        assert all(not t.decision.may_scale_in for t in blind)
        assert await s.kube.size() == 6
    finally:
        s.sqs_proxy.weather = Weather.CLEAR
    back = (await wait_for_ticks(d, 1, lambda t: isinstance(t.observation.readings[VISIBLE], Fresh)))[0]
    await settle(d, s, 1)
    lowered = next(t for t in after(d, back.at) if t.decision.target == 1)
    assert lowered.at - back.at > WINDOW_S - 2.0, "after an outage the window must be seen anew"


async def prometheus_is_gone(s: Stage, d: Daemon) -> None:
    await send(s, 5)
    await settle(d, s, 5)
    s.prometheus_proxy.weather = Weather.RESET
    s.prometheus_proxy.tear_down()
    try:
        await s.cloud.drain(s.queue)
        blind = await wait_for_ticks(
            d, int(2 * WINDOW_S / INTERVAL_S), lambda t: "engines" in t.observation.source_errors
        )
        assert {t.decision.target for t in blind} == {5}
        assert any("concurrency" in t.decision.reason for t in blind)
        await send(s, 8)
        await settle(d, s, 8)  # one fresh signal is enough to grow
    finally:
        s.prometheus_proxy.weather = Weather.CLEAR


async def killed_between_decision_and_resize(s: Stage, d: Daemon) -> None:
    await s.cloud.drain(s.queue)
    await settle(d, s, 1)
    s.kube.plane.freeze()
    await send(s, 5)
    await wait_for_ticks(d, 1, lambda t: t.decision.target == 5)
    assert await d.stop(signal.SIGKILL) == -9
    s.kube.plane.thaw()


async def the_next_daemon_finishes_the_job(s: Stage, d: Daemon) -> None:
    await settle(d, s, 5)
    await s.cloud.drain(s.queue)
    await s.wait_for_size(
        1, d, 4 * TIMEOUT_S
    )  # the same work went and came all the time: such zeros are doubted for a while


def the_journal_tells_it_all(s: Stage, ticks: list[Tick]) -> None:
    for t in ticks:
        lowered = [o for o in t.outcomes if o.after < o.before]
        if lowered:
            assert t.decision.may_scale_in, t
            assert all(isinstance(r, Fresh) for r in t.observation.pools.values())
        if any(isinstance(r, Absent | Stale) for n, r in t.observation.readings.items() if used(t, n)):
            assert not lowered, t
    replayed = forescale("replay", str(s.journals), "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    reported = json.loads(replayed.stdout)
    assert (reported["different"], reported["damaged_lines"]) == (0, 0)
    assert reported["equal"] == len(ticks)
    explained = forescale("explain", str(s.journals), "--workload", "llm")
    assert "llm at " in explained.stdout


def used(t: Tick, signal: SignalName) -> bool:
    return any(signal in r.used for r in t.decision.recommendations)


def failed(t: Tick) -> list[str]:
    return [o.reason for o in t.outcomes if o.result in {Result.UNAVAILABLE, Result.CONFLICT}]


def forescale(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "scaler.cli", *args], capture_output=True, text=True, check=False)
