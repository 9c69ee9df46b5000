"""Routes in a tick: read, split, written, recorded, and shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, PoolName, Result, Stale, Tick
from policies.model.names import BackendName, RouteName
from policies.model.route import BackendTraffic, RouteDecision, RouteStatus
from scaler.adapter_faults import Faults
from scaler.config.load import Workload, workload_from
from scaler.controller import Controller
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.explain import paragraphs
from scaler.journal.replay import replay
from scaler.ports import Conflict, Unavailable
from scaler.setup import Setup
from scaler.telemetry.dashboard.route_rows import routes
from scaler.telemetry.metrics import Metrics
from tests.fakes import FakeActuator, FakeSource, ManualClock

CHAT, GPUS, OPENAI = RouteName("chat"), BackendName("gpus"), BackendName("openai")
MAIN = PoolName("main")


def workload(**settings: Any) -> Workload:
    provider = {"usd_per_million_input_tokens": 0.1, "usd_per_million_output_tokens": 0.4}
    chat = {
        "kind": "envoy",
        "file": "/routes/chat.json",
        "admin_url": "http://127.0.0.1:9901",
        "backends": {"gpus": {"pool": "main"}, "openai": {"provider": provider}},
        "allow_external": True,
        "overflow": {"max_usd_per_hour": 100},
        "requests_per_replica_per_s": 2.0,
        "input_tokens_per_request": 1000,
        "output_tokens_per_request": 500,
    }
    document = {
        "workload": "llm",
        "max_replicas": 50,
        "sources": {"queue": {"kind": "embedded"}},
        "policies": {"depth": {"kind": "queue_depth"}},
        "pools": {"main": {"kind": "embedded"}},
        "routes": {"chat": chat},
        **settings,
    }
    return workload_from(document)


class FakeGateway:
    """A gateway that counts requests at a rate, and applies or refuses splits."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.weights = {GPUS: 10_000}
        self.requests_per_s = 4.0
        self.refusal: Exception | None = None
        self.failure: Exception | None = None
        self.writes: list[RouteDecision] = []

    async def status(self) -> Fresh[RouteStatus]:
        if self.failure is not None:
            raise self.failure
        requests = self.requests_per_s * 15.0
        traffic = {n: BackendTraffic(requests * self.weights.get(n, 0) / 10_000) for n in (GPUS, OPENAI)}
        return Fresh(RouteStatus(dict(self.weights), traffic, 15.0, version="7"), self.clock.now())

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        assert observed.version == "7"
        if self.refusal is not None:
            raise self.refusal
        self.writes.append(split)
        self.weights = dict(split.weights)


class Rig:
    def __init__(self, *, dry_run: bool = False, faults: Faults | None = None) -> None:
        self.clock = ManualClock()
        self.workload = workload()
        self.source = FakeSource(self.clock, {"visible": 3.0, "in_flight": 0.0, "delayed": 0.0, "oldest_age_s": 0.0})
        self.actuator = FakeActuator(self.clock)
        self.gateway = FakeGateway(self.clock)
        self.ticks: list[Tick] = []
        setup = Setup(
            self.workload, {"queue": self.source}, {MAIN: self.actuator}, routes={CHAT: self.gateway}, faults=faults
        )
        self.controller = Controller(setup, self.clock, History(), self.ticks.append, dry_run=dry_run)

    async def tick(self) -> Tick:
        self.clock.advance(15.0)
        return await self.controller.tick(self.clock.now())


async def burst(**settings: Any) -> tuple[Rig, Tick]:
    """Return a rig after a tick that overflows: 1 of 5 replicas is ready."""
    rig = Rig(**settings)
    rig.gateway.requests_per_s = 10.0
    return rig, await rig.tick()


async def test_tick_splits_and_records() -> None:
    rig, tick = await burst()
    assert [split.weights for split in rig.gateway.writes] == [{GPUS: 2000, OPENAI: 8000}]
    (outcome,) = tick.route_outcomes
    assert (outcome.before, outcome.after) == ({GPUS: 10_000}, {GPUS: 2000, OPENAI: 8000})
    assert outcome.result is Result.ACCEPTED
    tick = await rig.tick()
    assert tick.route_outcomes[0].result is Result.UNCHANGED
    assert len(rig.gateway.writes) == 1
    assert tick.decision.target == 5


async def test_journal_record_equals_the_tick_and_replays() -> None:
    rig, _ = await burst()
    rig.gateway.failure = Unavailable("connection refused")
    await rig.tick()
    rig.gateway.failure = None
    for _ in range(3):
        await rig.tick()
    records = [decode_tick(json.loads(json.dumps(encode_tick(tick)))) for tick in rig.ticks]
    assert records == rig.ticks
    replayed = list(replay(records, {rig.workload.fingerprint: rig.workload}))
    assert [list(tick.differences()) for tick in replayed] == [[]] * 5


async def test_explain_tells_the_share_with_its_cost() -> None:
    rig, tick = await burst()
    lines = list(paragraphs(tick))
    assert (
        "  Route chat: 80 % openai, 20 % gpus (80% of requests go to openai: 1 of 1 replicas are ready, for a demand of"
        " 5.0; costs 8.64 USD per hour)"
    ) in lines
    assert "    route chat: 100 % gpus, 10.0 requests/s" in lines
    assert "    route chat 100 % gpus -> 80 % openai, 20 % gpus: accepted" in lines
    rig.gateway.failure = Unavailable("connection refused")
    lines = list(paragraphs(await rig.tick()))
    assert "    route chat: not changed: last read 15 s ago with 100 % gpus (connection refused)" in lines, lines


async def test_unread_gateway_is_stale_and_stays() -> None:
    rig, _ = await burst()
    rig.gateway.failure = Unavailable("connection refused")
    tick = await rig.tick()
    assert isinstance(tick.observation.routes[CHAT], Stale)
    assert tick.observation.route_errors == {CHAT: "connection refused"}
    assert tick.route_outcomes == ()
    unread = Rig()
    unread.gateway.failure = Unavailable("connection refused")
    assert (await unread.tick()).observation.routes == {CHAT: Absent("connection refused")}


async def test_dry_run_writes_nothing() -> None:
    rig, tick = await burst(dry_run=True)
    assert rig.gateway.writes == []
    assert tick.route_outcomes[0].result is Result.DRY_RUN


@pytest.mark.parametrize(
    ("refusal", "result"),
    [
        (Conflict("changed"), Result.CONFLICT),
        (Unavailable("no"), Result.UNAVAILABLE),
        (KeyError("x"), Result.UNAVAILABLE),
    ],
)
async def test_refused_split_is_an_outcome(refusal: Exception, result: Result) -> None:
    rig = Rig(faults=Faults())
    rig.gateway.requests_per_s, rig.gateway.refusal = 10.0, refusal
    tick = await rig.tick()
    assert tick.route_outcomes[0].result is result
    assert rig.gateway.weights == {GPUS: 10_000}


async def test_metrics_have_the_shares() -> None:
    _, tick = await burst()
    metrics = Metrics("1")
    metrics.observe(tick)
    lines = metrics.exposition().decode().splitlines()
    assert 'forescale_route_share{backend="openai",route="chat",workload="llm"} 0.8' in lines
    assert 'forescale_route_demand_replicas{route="chat",workload="llm"} 5.0' in lines
    assert 'forescale_route_rejects{route="chat",workload="llm"} 0.0' in lines
    assert 'forescale_splits_total{result="accepted",route="chat",workload="llm"} 1.0' in lines


async def test_dashboard_rows_have_shares_and_measured_requests() -> None:
    rig, _ = await burst()
    (row,) = routes(await rig.tick())
    assert (row["route"], row["usd_per_hour"], row["result"]) == ("chat", 8.64, "unchanged")
    assert row["backends"] == [
        {"backend": "gpus", "share": 0.2, "requests_per_s": 2.0, "error_share": 0.0},
        {"backend": "openai", "share": 0.8, "requests_per_s": 8.0, "error_share": 0.0},
    ]
