"""The daemon and a real Envoy with its routes in a file: a burst overflows and returns."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.e2e.chat_rig import ready, rises_once
from tests.e2e.overflow_story import BURST_PER_S, CHAT, OPENAI, story
from tests.servers.daemon import daemon, until
from tests.servers.envoy import needs_envoy

pytestmark = [needs_envoy, pytest.mark.slow]


async def test_burst_overflows_until_replicas_are_ready(tmp_path: Path) -> None:
    async with story(tmp_path) as told:
        told.clients.per_s = BURST_PER_S
        await told.until_share(lambda share: share > 0.4)
        await told.until_share(lambda share: share == 0.0)
        told.clients.stopping = True
        assert told.clients.failures == []
        assert told.provider.chats > 0
        assert told.engines.awake >= 5
        ticks = told.ticks()
        for tick, status in ticks:
            demand, weights = tick.decision.routes[CHAT].demand, tick.decision.routes[CHAT].weights
            if demand is not None and demand <= 2.0 and status.share(OPENAI) == 0.0:
                assert not weights.get(OPENAI), "no overflow while the pool carries the demand"
        first = next(i for i, (tick, _) in enumerate(ticks) if (tick.decision.routes[CHAT].demand or 0.0) > 4.0)
        assert ticks[first][0].decision.routes[CHAT].weights[OPENAI] > 4000, "overflow begins in the tick that sees it"
        assert rises_once(ticks, CHAT, OPENAI), [tick.decision.routes[CHAT].weights for tick, _ in ticks]
        assert ready(ticks[-1][0]) > ready(ticks[first][0])
        reasons = [tick.decision.routes[CHAT].reason for tick, _ in ticks]
        assert any("% of requests go to openai: 2 of" in reason for reason in reasons)


async def test_killed_daemon_leaves_the_split_to_envoy_and_its_successor_continues(tmp_path: Path) -> None:
    async with story(tmp_path) as told:
        told.clients.per_s = BURST_PER_S
        await told.until_share(lambda share: share > 0.4)
        await told.daemon.stop(signal.SIGKILL)
        seen, file = len(told.ticks()), told.gateway.file.read_bytes()
        before, answered = await told.gateway.requests("gpus", "openai"), told.clients.answered
        await until(lambda: told.clients.answered > answered + 50)
        after = await told.gateway.requests("gpus", "openai")
        assert told.gateway.file.read_bytes() == file
        assert all(after[backend] > before[backend] for backend in before), "Envoy splits without the daemon"

        async with daemon(str(told.file), journal=tmp_path / "journal") as told.daemon:
            await until(lambda: len(told.ticks()) > seen, told.daemon)
            first, status = told.ticks()[seen]
            assert first.decision.routes[CHAT].weights == status.weights, "a start without counters keeps the split"
            await told.until_share(lambda share: share == 0.0)
            told.clients.stopping = True
            assert told.clients.failures == []
            assert told.engines.awake >= 5


async def test_killed_provider_fails_only_the_streams_that_it_had_begun(tmp_path: Path) -> None:
    async with story(tmp_path) as told:
        told.clients.per_s = BURST_PER_S
        await told.until_share(lambda share: share > 0.4)
        begun = sum(server.running for server in told.provider.servers.values())
        await told.provider_stack.aclose()
        answered = told.clients.answered
        await told.until_share(lambda share: share == 0.0)
        await until(lambda: told.clients.answered > answered + 50, told.daemon)
        told.clients.stopping = True
        assert len(told.clients.failures) <= begun, told.clients.failures
        assert any("openai.ejections" in tick.decision.routes[CHAT].memory for tick, _ in told.ticks())
