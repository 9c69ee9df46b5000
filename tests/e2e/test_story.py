"""The daemon on real servers: messages in SQS, a Deployment on a real API server, and injected faults.

One daemon runs a scenario for each fault and checks its journal records. The last step reads the whole journal:
no pool was scaled in on missing data.
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
from tests.contracts.test_kubernetes import abort_connection, stalled_write
from tests.e2e.stage import (
    INTERVAL_S,
    MESSAGES_PER_REPLICA,
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
from tests.servers.tcp_fault import ProxyFault

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


async def test_scaling_with_injected_faults_on_real_servers(scene: Stage) -> None:
    async with scene.run() as d:
        await burst_scales_out_and_in(scene, d)
        await resize_recovers_after_an_api_server_restart(scene, d)
        await frozen_api_server_does_not_stop_the_loop(scene, d)
        await pool_yields_to_another_writer(scene, d)
        await throttled_write_is_retried(scene, d)
        await sqs_outage_blocks_scale_in(scene, d)
        await prometheus_outage_blocks_scale_in_only(scene, d)
        await daemon_is_killed_before_the_resize(scene, d)
    async with scene.run() as d:
        await next_daemon_applies_the_size(scene, d)
        await d.stop()
    check_journal(scene, d.ticks())


async def send(s: Stage, replicas: int) -> None:
    """Replace the queue's messages by those for this many replicas."""
    await s.cloud.drain(s.queue)
    await s.cloud.send(s.queue, replicas * MESSAGES_PER_REPLICA)


async def burst_scales_out_and_in(s: Stage, d: Daemon) -> None:
    await settle(d, s, 1)
    await send(s, 6)
    await settle(d, s, 6)
    await until(lambda: d.ticks()[-1].decision.ready == 6, d)
    await s.cloud.drain(s.queue)
    await settle(d, s, 1)


async def resize_recovers_after_an_api_server_restart(s: Stage, d: Daemon) -> None:
    await asyncio.to_thread(s.kube.plane.kill_apiserver)
    began = d.ticks()[-1].at
    await send(s, 4)
    blind = await wait_for_ticks(d, 3, lambda t: "gpus" in t.observation.pool_errors or bool(failure_reasons(t)))
    assert all(t.decision.target in {None, 1, 4} for t in blind)
    await asyncio.to_thread(s.kube.plane.start_apiserver)
    await settle(d, s, 4)
    reported = [e for t in after(d, began) for e in [*t.observation.pool_errors.values(), *failure_reasons(t)]]
    assert any("gpus" in t.observation.pool_errors or failure_reasons(t) for t in after(d, began))
    assert reported


async def frozen_api_server_does_not_stop_the_loop(s: Stage, d: Daemon) -> None:
    s.kube.plane.freeze()
    try:
        await send(s, 7)
        frozen = await wait_for_ticks(d, 5)
        assert frozen[-1].at - frozen[0].at < 5 * (INTERVAL_S + 2.0), "the loop kept its interval"
        assert any("no response within" in reason for t in frozen for reason in failure_reasons(t))
    finally:
        s.kube.plane.thaw()
    await settle(d, s, 7)


async def pool_yields_to_another_writer(s: Stage, d: Daemon) -> None:
    await s.kube.set_size(3)
    yielding = await wait_for_ticks(d, 2, lambda t: "is not resized (on_other_writer: yield)" in t.decision.reason)
    assert all(o.result is Result.UNCHANGED for t in yielding for o in t.outcomes)
    assert await s.kube.size() == 3, "the other writer's size is kept for the yield time"
    await settle(d, s, 7)
    await resize_succeeds_during_constant_object_changes(s, d)


async def resize_succeeds_during_constant_object_changes(s: Stage, d: Daemon) -> None:
    """Provoke real 409 responses: the observed version is old by the time of the write, but the size is unchanged."""
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


async def throttled_write_is_retried(s: Stage, d: Daemon) -> None:
    path = s.kube.path("deployments", "llm") + "/scale"
    stalled = [await stalled_write(s.kube.plane, path) for _ in range(WRITES)]
    try:
        await send(s, 2)
        throttled = await wait_for_ticks(d, 2, lambda t: bool(failure_reasons(t)))
        assert any("too many requests" in reason.lower() for t in throttled for reason in failure_reasons(t))
        assert await s.kube.size() == 9
    finally:
        for writer in stalled:
            await abort_connection(writer)
    await settle(d, s, 2)


async def sqs_outage_blocks_scale_in(s: Stage, d: Daemon) -> None:
    await send(s, 6)
    await settle(d, s, 6)
    s.sqs_proxy.fault = ProxyFault.SILENT
    s.sqs_proxy.tear_down()
    try:
        await s.cloud.drain(s.queue)  # the backlog is gone, but SQS cannot be read
        blind = await wait_for_ticks(d, 10, lambda t: "queue" in t.observation.source_errors)
        assert {t.decision.target for t in blind} == {6}
        assert all(isinstance(t.observation.readings[VISIBLE], Stale) for t in blind)
        assert all(not t.decision.may_scale_in for t in blind)
        assert await s.kube.size() == 6
    finally:
        s.sqs_proxy.fault = ProxyFault.NONE
    recovered = (await wait_for_ticks(d, 1, lambda t: isinstance(t.observation.readings[VISIBLE], Fresh)))[0]
    await settle(d, s, 1)
    lowered = next(t for t in after(d, recovered.at) if t.decision.target == 1)
    assert lowered.at - recovered.at > WINDOW_S - 2.0, "the stabilization window starts again after an outage"


async def prometheus_outage_blocks_scale_in_only(s: Stage, d: Daemon) -> None:
    await send(s, 5)
    await settle(d, s, 5)
    s.prometheus_proxy.fault = ProxyFault.RESET
    s.prometheus_proxy.tear_down()
    try:
        await s.cloud.drain(s.queue)
        blind = await wait_for_ticks(d, int(2 * WINDOW_S / INTERVAL_S), is_blind)
        blind += await wait_for_ticks(d, 1, lambda t: is_blind(t) and "concurrency" in t.decision.reason)
        assert {t.decision.target for t in blind} == {5}
        await send(s, 8)
        await settle(d, s, 8)  # one fresh signal is enough to grow
    finally:
        s.prometheus_proxy.fault = ProxyFault.NONE


async def daemon_is_killed_before_the_resize(s: Stage, d: Daemon) -> None:
    await send(s, 1)
    await settle(d, s, 1)
    s.kube.plane.freeze()
    await send(s, 5)
    await wait_for_ticks(d, 1, lambda t: t.decision.target == 5)
    assert await d.stop(signal.SIGKILL) == -9
    s.kube.plane.thaw()


async def next_daemon_applies_the_size(s: Stage, d: Daemon) -> None:
    await settle(d, s, 5)
    await send(s, 1)
    await settle(d, s, 1)


def check_journal(s: Stage, ticks: list[Tick]) -> None:
    for t in ticks:
        lowered = [o for o in t.outcomes if o.after < o.before]
        if lowered:
            assert t.decision.may_scale_in, t
            assert all(isinstance(r, Fresh) for r in t.observation.pools.values())
        if any(isinstance(r, Absent | Stale) for n, r in t.observation.readings.items() if is_used(t, n)):
            assert not lowered, t
    replayed = forescale("replay", str(s.journals), "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    reported = json.loads(replayed.stdout)
    assert (reported["different"], reported["damaged_lines"]) == (0, 0)
    assert reported["equal"] == len(ticks)
    explained = forescale("explain", str(s.journals), "--workload", "llm")
    assert "llm at " in explained.stdout


def is_blind(t: Tick) -> bool:
    return "engines" in t.observation.source_errors


def is_used(t: Tick, signal: SignalName) -> bool:
    return any(signal in r.used for r in t.decision.recommendations)


def failure_reasons(t: Tick) -> list[str]:
    return [o.reason for o in t.outcomes if o.result in {Result.UNAVAILABLE, Result.CONFLICT}]


def forescale(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "scaler.cli", *args], capture_output=True, text=True, check=False)
