"""Workloads that share a fleet, through their controllers: grants, priorities, and the replay of the records."""

from __future__ import annotations

import asyncio
from typing import Any

from policies.history.ticks import History
from policies.model import PoolName, Quota, Result, RuleId, Tick, WorkloadName
from policies.model.limits import BlastRadius
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload, workload_from
from scaler.controller import Controller
from scaler.journal.explain import paragraphs
from scaler.journal.replay import replay
from scaler.ports import Unavailable
from scaler.quota_ledger import QuotaLedger
from scaler.setup import Setup
from scaler.telemetry.fleet import FleetCollector
from scaler.telemetry.log import grant_text
from scaler.telemetry.metrics import Metrics
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.scaler.test_controller import MAIN


class Member:
    """One workload's fake adapters and controller."""

    def __init__(self, name: str, ledger: QuotaLedger, clock: ManualClock, size: int, **settings: Any) -> None:
        document = {
            "workload": name,
            "max_replicas": 50,
            "sources": {"queue": {"kind": "embedded"}},
            "policies": {"depth": {"kind": "queue_depth"}},
            "pools": {"main": {"kind": "embedded", "price_usd_per_hour": 2.0}},
            "scale_up": {"max_replicas": 1000},
            "scale_down": {"window_s": 60, "max_replicas": 1000},
            **settings,
        }
        self.workload: Workload = workload_from(document)
        self.clock = clock
        self.source = FakeSource(clock, {"visible": 0.0, "in_flight": 0.0, "delayed": 0.0, "oldest_age_s": 0.0})
        self.actuators = {PoolName(pool): FakeActuator(clock, size) for pool in self.workload.spec.pools}
        self.actuator = self.actuators[MAIN]
        self.ticks: list[Tick] = []
        self.setup = Setup(self.workload, {"queue": self.source}, self.actuators, ledger=ledger)
        self.controller = Controller(self.setup, clock, History(), self.ticks.append)

    async def tick(self, need: float) -> int:
        """Run a tick that needs `need` replicas, and return the requested size."""
        self.source.values["visible"] = need * 10
        await self.controller.tick(self.clock.now())
        return self.actuator.desired


class Shared:
    """Two workloads, the first with the higher priority."""

    def __init__(self, limits: FleetLimits, sizes: tuple[int, int] = (2, 6), **settings: Any) -> None:
        self.clock = ManualClock()
        self.ledger = QuotaLedger(limits)
        self.chat = Member("chat", self.ledger, self.clock, sizes[0], **{"priority": 10, **settings})
        self.batch = Member("batch", self.ledger, self.clock, sizes[1], **settings)

    async def tick_both(self, chat: float, batch: float) -> tuple[int, int]:
        self.clock.advance(15)
        return await self.chat.tick(chat), await self.batch.tick(batch)

    async def rounds(self, n: int, chat: float, batch: float) -> list[tuple[int, int]]:
        return [await self.tick_both(chat, batch) for _ in range(n)]


async def test_lower_priority_scales_in_after_its_window_down_to_its_minimum() -> None:
    shared = Shared(FleetLimits(max_gpus=8))
    await shared.tick_both(2, 6)
    sizes = await shared.rounds(9, chat=20, batch=6)
    assert all(a + b <= 8 for a, b in sizes)
    assert sizes[2] == (2, 6), "its scale-down window of 60 s has not elapsed"
    assert sizes[-1] == (7, 1)
    reason = " ".join(s.reason for s in shared.batch.ticks[-1].decision.steps)
    assert "daemon.fleet.max_gpus is 8, the fleet uses 8, this workload (priority 0) may use 1" in reason


async def test_quota_released_by_higher_priority_goes_to_lower_priority() -> None:
    shared = Shared(FleetLimits(max_gpus=8), (7, 1))
    sizes = await shared.rounds(9, chat=2, batch=20)
    assert all(a + b <= 8 for a, b in sizes)
    assert sizes[-1] == (2, 6)


async def test_fleet_limit_on_usd_per_hour_is_kept() -> None:
    shared = Shared(FleetLimits(max_usd_per_hour=11.0), (1, 1))
    assert (await shared.rounds(3, chat=4, batch=9))[-1] == (4, 1)


async def test_overlapping_ticks_never_share_the_same_quota() -> None:
    shared = Shared(FleetLimits(max_gpus=8), (1, 1))
    await shared.tick_both(1, 1)
    for member in (shared.chat, shared.batch):
        member.source.values["visible"] = 200.0
    shared.clock.advance(15)
    await asyncio.gather(*(m.controller.tick(shared.clock.now()) for m in (shared.batch, shared.chat)))
    assert shared.chat.actuator.desired + shared.batch.actuator.desired <= 8


async def test_unread_pool_of_another_workload_counts_in_full() -> None:
    shared = Shared(FleetLimits(max_gpus=60), (1, 1))
    shared.batch.actuator.status_error = Unavailable("API down")
    assert await shared.tick_both(40, 0) == (10, 1)
    assert "never read, counted at their maximum: batch" in shared.chat.ticks[-1].decision.reason
    shared.batch.actuator.status_error = None
    await shared.tick_both(40, 0)
    assert await shared.tick_both(40, 0) == (40, 1)


async def test_unread_workload_shrinks_no_other() -> None:
    shared = Shared(FleetLimits(max_gpus=60), (1, 20))
    shared.chat.actuator.status_error = Unavailable("API down")
    assert (await shared.rounds(24, 1, 20))[-1] == (1, 20)


async def test_unread_pool_of_the_same_workload_counts_in_full() -> None:
    pools = {name: {"kind": "embedded", "price_usd_per_hour": 2.0} for name in ("main", "spare")}
    pools["spare"] |= {"tier": "awake_spare", "serves": "main"}
    shared = Shared(FleetLimits(max_gpus=16), (2, 6), pools=pools)
    shared.chat.actuators[PoolName("spare")].status_error = Unavailable("API down")
    await shared.tick_both(2, 6)
    assert await shared.tick_both(20, 6) == (2, 6), "batch has 12, and the size of chat's spare pool is unknown"
    shared.chat.actuators[PoolName("spare")].status_error = None
    assert await shared.tick_both(20, 6) == (2, 6), "its spare pool has 2"
    shared.chat.actuators[PoolName("spare")].desired = 0
    assert await shared.tick_both(20, 6) == (4, 6)


async def test_quota_of_a_failed_resize_is_released() -> None:
    shared = Shared(FleetLimits(max_gpus=8), (1, 1), priority=0)
    await shared.tick_both(1, 1)
    shared.chat.actuator.resize_error = Unavailable("503")
    await shared.tick_both(6, 1)
    assert shared.chat.ticks[-1].outcomes[0].result is Result.UNAVAILABLE
    assert shared.ledger.held()["gpus"] == 7, "the write may have succeeded"
    shared.chat.actuator.resize_error = None
    assert await shared.tick_both(1, 7) == (1, 7)


async def test_size_read_before_the_last_decision_releases_no_quota() -> None:
    shared = Shared(FleetLimits(max_gpus=8), (1, 1))
    await shared.tick_both(1, 1)
    await shared.tick_both(6, 1)
    observation = shared.chat.ticks[-1].observation
    shared.ledger.grant(WorkloadName("chat"), observation)  # a watch that has not caught up with the write
    assert shared.ledger.held()["gpus"] == 7


async def test_fleet_blast_radius_spans_workloads() -> None:
    shared = Shared(FleetLimits(blast_radius=BlastRadius(share=0.25, window_s=120)), (8, 8), scale_down={"window_s": 0})
    await shared.tick_both(8, 8)
    sizes = [sum(s) for s in await shared.rounds(18, chat=1, batch=1)]
    assert sizes[0] == 12, "a quarter of 16"
    assert sizes[7] == 12
    assert all(sizes[i] >= 0.75 * sizes[max(0, i - 8)] - 1 for i in range(len(sizes)))
    assert any(step.rule == RuleId.FLEET_BLAST_RADIUS for step in shared.batch.ticks[1].decision.steps)


async def test_recorded_ticks_replay_equal_with_their_grants() -> None:
    shared = Shared(FleetLimits(max_gpus=8, blast_radius=BlastRadius(share=0.5)))
    for need in (2, 20, 20, 3, 9, 1, 1, 1, 20):
        await shared.tick_both(need, 6)
    ticks = sorted([*shared.chat.ticks, *shared.batch.ticks], key=lambda t: t.at)
    specs = {m.workload.fingerprint: m.workload for m in (shared.chat, shared.batch)}
    compared = list(replay(ticks, specs))
    assert len(compared) == 18
    assert all(c.equal and c.comparable for c in compared)


async def test_policy_with_own_stabilization_obeys_fleet_limits() -> None:
    peer = {
        "policies": {"size": {"kind": "static", "replicas": 9}},
        "scale_up": {},
        "scale_down": {},
    }
    shared = Shared(FleetLimits(max_gpus=8), (2, 2), **peer)
    assert all(a + b <= 8 for a, b in await shared.rounds(40, 0, 0))
    assert shared.chat.actuator.desired == 7, "the lower priority scales in within its default window"


async def test_changed_limits_apply_from_the_next_tick() -> None:
    shared = Shared(FleetLimits(), (2, 2))
    assert await shared.tick_both(2, 2) == (2, 2)
    assert shared.chat.ticks[-1].observation.grant is None
    shared.ledger.set_limits(FleetLimits(max_gpus=6))
    assert await shared.tick_both(9, 2) == (4, 2)
    shared.ledger.forget(WorkloadName("batch"))
    shared.clock.advance(15)
    assert await shared.chat.tick(9) == 6, "a removed workload does not count against the fleet"


async def test_grant_is_reported_in_text_and_metrics() -> None:
    shared = Shared(FleetLimits(max_gpus=8, max_usd_per_hour=20.0, blast_radius=BlastRadius(share=0.25)))
    metrics = Metrics("test")
    metrics.registry.register(FleetCollector(shared.ledger))
    await shared.tick_both(2, 6)
    await shared.tick_both(20, 6)
    tick = shared.chat.ticks[-1]
    assert tick.observation.grant is not None
    assert isinstance(tick.observation.grant.gpus, Quota)
    assert grant_text(tick.observation.grant) == "2 GPUs, 8.00 USD per hour, 2 replicas may be removed"
    assert any("daemon.fleet.max_gpus is 8" in line for line in paragraphs(tick))
    metrics.observe(tick)
    text = metrics.exposition().decode()
    assert 'forescale_granted{of="gpus",workload="chat"} 2.0' in text
    assert 'forescale_rules_total{rule="fleet",workload="chat"} 1.0' in text
    assert "forescale_fleet_gpus 8.0" in text
    assert "forescale_fleet_max_usd_per_hour 20.0" in text
