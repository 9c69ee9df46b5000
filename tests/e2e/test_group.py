"""Two workloads of a group, each behind a real Envoy, carry one another's requests."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policies.model import Tick
from policies.model.route import RouteStatus
from tests.e2e.chat_rig import TOLERANCE, measured_share, ready
from tests.e2e.group_story import BURST_PER_S, EU, FRONT, HOME, MIN_REPLICAS, OTHER, US, GroupStory, story
from tests.servers.daemon import daemon, until
from tests.servers.envoy import needs_envoy

pytestmark = [needs_envoy, pytest.mark.slow]
SHORTAGE_PER_S = 24.0
"""Less than what 5 replicas carry, as for the burst."""


async def test_members_carry_one_anothers_requests(tmp_path: Path) -> None:
    async with story(tmp_path) as told:
        await stays_at_home(told)
        await burst_goes_to_spare_replicas(told)
        assert told.failures == []
        at = await shortage_is_handed_over(told)
        assert told.failures == []
        await killed_member_is_ejected(told)
    explained = forescale("explain", str(told.journal), "--workload", EU, "--at", iso(at)).stdout
    kept = (
        r"requests/s stay at workload chat-us: the own pools can have [23] replicas\)"  # what was held at the refusal
    )
    assert re.search(kept, explained), explained
    replayed = forescale("replay", str(told.journal), "--json")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert json.loads(replayed.stdout)["different"] == 0


async def test_killed_daemon_leaves_the_split_to_envoy_and_its_successor_continues(tmp_path: Path) -> None:
    async with story(tmp_path) as told:
        told.eu.clients.per_s = BURST_PER_S
        await told.until_tick(lambda _, status: status.share(OTHER) > 0.2)
        await told.daemon.stop(signal.SIGKILL)
        before = told.ticks()
        decided = decided_share(before[-1][0])
        share = await measured_share(told.eu.gateway, HOME, OTHER, decided, (told.eu.engines, told.us.engines))
        assert share == pytest.approx(decided, abs=TOLERANCE)

        async with daemon(str(told.file), journal=told.journal) as told.daemon:
            first, *_ = await told.ticks_from(len(before), 1)
            assert decided_share(first) == decided, "a start without counters keeps the split"
            assert first.decision.target == first.decision.current, "nor is a replica removed"
            await told.until_tick(lambda tick, status: status.share(OTHER) == 0.0 and ready(tick) >= 4)
            assert told.failures == []


async def stays_at_home(told: GroupStory) -> None:
    """Steady load on both changes no weight."""
    seen = {name: len(told.ticks(name)) for name in (EU, US)}
    for name, first in seen.items():
        ticks = await told.ticks_from(first, 4, name)
        assert all(tick.decision.routes[FRONT].is_kept for tick in ticks)
        assert {status.share(OTHER) for _, status in told.ticks(name)[first:]} == {0.0}


async def burst_goes_to_spare_replicas(told: GroupStory) -> None:
    """A burst goes to ready replicas of the other member, and returns as own ones become ready."""
    told.eu.clients.per_s = BURST_PER_S
    begun = await told.until_tick(lambda tick, _: 0 < ready(tick) < demand(tick) - 0.8)
    assert max(decided_share(tick) for tick in await told.ticks_from(begun, 3)) > 0.2, "the excess leaves at once"
    back = await told.until_tick(lambda tick, status: status.share(OTHER) == 0.0 and ready(tick) >= 4)
    ticks = [tick for tick, _ in told.ticks()[begun:back]]
    assert any("% of requests go to other: " in tick.decision.routes[FRONT].reason for tick in ticks)
    assert not any(tick.decision.routes[FRONT].handed for tick in ticks), "its own platform has the replicas"


async def shortage_is_handed_over(told: GroupStory) -> float:
    """Requests beyond what the platform has are handed over, and return with its capacity.

    Returns the time of a tick in which they stay.
    """
    told.eu.engines.has_capacity.clear()
    lose_engines(told, 2)
    told.eu.clients.per_s = SHORTAGE_PER_S
    await told.until_tick(lambda tick, _: handed(tick) > 5.0)
    await told.until_tick(lambda tick, _: ready(tick) > MIN_REPLICAS[US], US)
    stays = await told.until_tick(lambda tick, status: status.share(OTHER) > 0.3 and handed(tick) > 5.0)
    kept = await told.ticks_from(stays, 3)
    told.eu.engines.has_capacity.set()
    await told.until_tick(lambda tick, status: status.share(OTHER) == 0.0 and ready(tick) >= 5)
    await told.until_tick(lambda tick, _: ready(tick) == MIN_REPLICAS[US], US)
    assert not handed(told.ticks()[-1][0])
    return kept[0].at


async def killed_member_is_ejected(told: GroupStory) -> None:
    """Requests to a member that dies return to the own engines."""
    lose_engines(told, 3)
    await told.until_tick(lambda _, status: status.share(OTHER) > 0.15)
    begun = sum(server.running for server in told.us.engines.servers.values())
    await told.us.engine_stack.aclose()
    await told.until_tick(lambda _, status: status.share(OTHER) == 0.0)
    answered = told.eu.clients.answered
    await until(lambda: told.eu.clients.answered > answered + 50, told.daemon)
    assert len(told.failures) <= begun, told.failures
    assert any("other.ejections" in tick.decision.routes[FRONT].memory for tick, _ in told.ticks()[-5:])


def lose_engines(told: GroupStory, left: int) -> None:
    """Let all but so many engines of the first member sleep."""
    for server in [server for server in told.eu.engines.servers.values() if server.awake][left:]:
        server.awake = False


def handed(tick: Tick) -> float:
    """Return the requests per second that the other member is to carry until further notice."""
    return tick.decision.routes[FRONT].handed.get(US, 0.0)


def demand(tick: Tick) -> float:
    return tick.decision.routes[FRONT].demand or 0.0


def decided_share(tick: Tick) -> float:
    return RouteStatus(tick.decision.routes[FRONT].weights).share(OTHER)


def iso(at: float) -> str:
    """Return a time just after a tick, as `forescale explain` reads it."""
    return datetime.fromtimestamp(at + 0.001, UTC).isoformat()


def forescale(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "scaler.cli", *args], capture_output=True, text=True, check=False)
