"""A dashboard over scripted ticks, behind a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from policies.model import (
    Absent,
    Decision,
    Evidence,
    Fresh,
    Observation,
    Outcome,
    PolicyName,
    PoolName,
    PoolPart,
    PoolStatus,
    Reading,
    Recommendation,
    Result,
    RuleId,
    SignalName,
    Stale,
    Step,
    Tick,
    WorkloadName,
)
from policies.model.limits import BlastRadius, Budget
from policies.model.pool import Pool
from policies.model.spec import Slo, WorkloadSpec
from policies.quota.fleet_quota import FleetLimits
from scaler.quota_ledger import QuotaLedger
from scaler.slo_record import record_of
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import Facts
from tests.factories import CHAT_SLO
from tests.servers.site import listening
from tests.slo import ENGINES, with_error_budgets

NOON: Final = 1_780_000_000.25
INTERVAL_S: Final = 15.0
HOSTILE: Final = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


GPUS: Final = PoolName("gpus")


def spec(workload: str = "chat", **changed: Any) -> WorkloadSpec:
    """Return a specification with one on-demand pool, without a price and without an SLO by default."""
    settings: dict[str, Any] = {"max_replicas": 24, "sources": {}, "policies": {}, "pools": {GPUS: Pool()}}
    return WorkloadSpec(workload=workload, **{**settings, **changed})


@dataclass
class Known:
    """Scripted facts about workloads."""

    configured: list[WorkloadName] = field(default_factory=list)
    stalling: dict[WorkloadName, str] = field(default_factory=dict)
    about: Facts = field(default_factory=lambda: Facts(spec(), 90.0, 121.5, 7))
    specs: dict[str, WorkloadSpec] = field(default_factory=dict)
    """Specifications of single workloads; the others have that of `about`."""
    ledger: QuotaLedger = field(default_factory=lambda: QuotaLedger(FleetLimits()))

    def names(self) -> Iterable[WorkloadName]:
        return self.configured

    def stalled(self) -> Mapping[WorkloadName, str]:
        return self.stalling

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        del lead_times
        return replace(self.about, spec=self.specs.get(name, self.about.spec))


def tick(
    workload: str = "chat",
    turn: int = 0,
    *,
    readings: Mapping[str, Reading[float]] | None = None,
    pool: Reading[PoolStatus] | None = None,
    demand: float | None = 2.5,
    current: int | None = 4,
    target: int | None = 4,
    wanted: int | None = None,
    ready: int | None = None,
    may_lower: bool = True,
    step: Step | None = None,
    result: Result = Result.UNCHANGED,
    why: str = "",
    errors: Mapping[str, str] | None = None,
    clock_step_s: float = 0.0,
    dry_run: bool = False,
    cost: float | None = None,
    pools: Mapping[PoolName, Reading[PoolStatus]] | None = None,
) -> Tick:
    """Return the tick `turn` intervals after noon, without problems by default."""
    at = NOON + turn * INTERVAL_S
    size = pool or Fresh(PoolStatus(current or 0, current or 0 if ready is None else ready), at - 1)
    seen = {SignalName(n): r for n, r in (readings or signals(at)).items()}
    evidence = Evidence.FULL if may_lower else Evidence.PARTIAL
    policy = Recommendation(PolicyName("queue-depth"), demand, evidence, True, "40 messages at 16 per replica")
    decision = Decision(
        at=at,
        recommendations=(policy,),
        demand=demand,
        capped_need=target if wanted is None else wanted,
        active=True,
        may_scale_in=may_lower,
        current=current,
        ready=None if current is None else (current if ready is None else ready),
        target=target,
        steps=(
            step or Step(RuleId.DEMAND, demand or 0.0, "queue-depth recommends 2.50: 40 messages at 16 per replica"),
        ),
        cost_usd_per_hour=cost,
    )
    outcomes = () if target is None or current is None else (Outcome(GPUS, current, target, result, why),)
    observation = Observation(WorkloadName(workload), at, seen, pools or {GPUS: size}, dict(errors or {}))
    return Tick("ab12cd34", observation, decision, outcomes, turn, 0.01, 0.2, clock_step_s, dry_run)


def signals(at: float, visible: float = 12.0, utilization: float = 0.93) -> dict[str, Reading[float]]:
    values = {
        "queue.visible": visible,
        "queue.in_flight": 28.0,
        "queue.delayed": 0.0,
        "queue.oldest_age_s": 3.5,
        "engines.running": 28.0,
        "engines.waiting": 2.0,
        "engines.kv_cache_usage": 0.55,
        "engines.utilization": utilization,
    }
    return {name: Fresh(value, at - 2.0) for name, value in values.items()}


def rough_hour(workload: str = "chat") -> Iterable[Tick]:
    """Return an hour of ticks: growth, stale and absent signals, a refused write, and hostile texts."""
    for turn in range(240):
        at = NOON + turn * INTERVAL_S
        wave = 4 + (turn % 60) / 6
        match turn:
            case 60 | 61 | 62:
                grown = Step(RuleId.DEMAND, 9, "queue-depth recommends 9.00: 144 messages at 16 per replica")
                yield tick(workload, turn, demand=9, current=turn - 56, target=turn - 55, ready=4, step=grown)
            case _ if 100 <= turn < 130:
                lost: dict[str, Reading[float]] = dict(signals(at))
                lost["queue.visible"] = Stale(12.0, at - 80, 80.0)
                lost["engines.utilization"] = Absent(f"no answer: {HOSTILE}")
                held = Step(RuleId.EVIDENCE, 7, "scale-in needs fresh evidence from every policy; missing: queue-depth")
                yield tick(workload, turn, readings=lost, current=7, target=7, may_lower=False, step=held)
            case _ if 180 <= turn < 184:
                refused = {"result": Result.UNAVAILABLE, "why": f"throttled {HOSTILE}"}
                yield tick(workload, turn, current=7, target=8, **refused)  # type: ignore[arg-type]
            case _:
                size = 4 if turn < 60 else 7
                yield tick(workload, turn, demand=wave / 2, current=size, target=size, readings=dict(signals(at, wave)))


LONG: Final = "mistral-code-assistant-eu-production"
SPOT, ON_DEMAND = PoolName("spot-h100"), PoolName("on-demand")


def busy_fleet() -> Dashboard:
    """Return two hours of six workloads with limits, prices and SLOs, in every state that a tick can have."""
    two: dict[PoolName, Pool] = {
        SPOT: Pool(market="spot", price_usd_per_hour=2.5, accelerator="h100", gpus_per_replica=2),
        ON_DEMAND: Pool(price_usd_per_hour=6.88, zone="us-east-1a", accelerator="h100", gpus_per_replica=2),
    }
    limits = FleetLimits(max_gpus=64, max_usd_per_hour=250, blast_radius=BlastRadius(share=0.25))
    known = Known(ledger=QuotaLedger(limits))
    engines = {"engines": ENGINES}
    specs = (
        spec("chat", slo=CHAT_SLO, sources=engines, pools=two, budget=Budget(gpus=40, usd_per_hour=90), priority=10),
        spec("summaries", pools={SPOT: Pool(market="spot", price_usd_per_hour=2.5, zone="us-east-1b")}),
        spec("embeddings", slo=Slo(ttft_s=0.2, itl_s=None), sources=engines),
        spec(LONG, slo=CHAT_SLO, sources=engines),
        spec("whisper", paused=True),
        spec("batch-eval"),
    )
    known.specs = {s.workload: s for s in specs}
    dashboard = Dashboard("1.2.3", known, clock_speed=60.0)
    records = {s.workload: record for s in specs if (record := record_of(s)) is not None}
    for turn in range(480):
        for t in _busy_turn(turn):
            (measured,) = with_error_budgets([t], known.specs[t.workload], records.get(t.workload))
            known.ledger.register(t.workload, known.specs[t.workload])
            known.ledger.record(t)
            dashboard.observe(measured)
    return dashboard


def _busy_turn(turn: int) -> Iterable[Tick]:
    at, last = NOON + turn * INTERVAL_S, turn > 470
    spot = 8 + turn // 40 % 3
    parts = (
        PoolPart("us-east-1a", "spot", spot // 2, 0, int(last)),
        PoolPart("us-east-1b", "spot", spot - spot // 2 - 1, 1),
    )
    lost = PoolStatus(spot, spot - 1, interruption_pending=int(last), interrupted=turn // 60, parts=parts)
    sizes: dict[PoolName, Reading[PoolStatus]] = {SPOT: Fresh(lost, at), ON_DEMAND: Fresh(PoolStatus(3, 3), at)}
    values = {"requests_per_s": 120.0, "prompt_tokens_per_s": 1_234_000.0, "itl_mean_s": 0.0104, "ttft_mean_s": 0.21}
    values |= {"ttft_late_share": 0.05 if last or turn % 100 < 20 else 0.002, "itl_late_share": 0.001}
    chat = {**signals(at), **{f"engines.{name}": Fresh(value, at) for name, value in values.items()}}
    step = {9: 2, 19: -1}.get(turn % 20, 0)
    size = spot + 3
    yield tick(
        "chat", turn, readings=chat, pools=sizes, demand=size - 0.6, current=size, target=size + step, ready=size - 1,
        result=Result.ACCEPTED, cost=2.5 * spot + 3 * 6.88,
    )  # fmt: skip
    idle: dict[PoolName, Reading[PoolStatus]] = {SPOT: Fresh(PoolStatus(2, 2), at)}
    yield tick("summaries", turn, pools=idle, demand=1.2, current=2, target=2, wanted=1, cost=5.0)
    silent: dict[str, Reading[float]] = {"engines.ttft_late_share": Absent("no observations in the last 60 s")}
    yield tick("embeddings", turn, readings=silent, demand=0.3, current=3, target=2, result=Result.ACCEPTED)
    held = Step(RuleId.EVIDENCE, 4, "scale-in needs fresh evidence from every policy; missing: queue-depth")
    yield tick(LONG, turn, readings={"engines.running": Stale(4.0, at - 90, 90.0)}, may_lower=False, step=held)
    yield tick("whisper", turn)
    yield tick("batch-eval", turn, target=6, result=Result.OUT_OF_QUOTA, why="the quota of p5.48xlarge is 16 vCPU")


@asynccontextmanager
async def serving(dashboard: Dashboard, port: int = 0) -> AsyncIterator[str]:
    """Serve the dashboard; yield its URL."""
    app = web.Application()
    dashboard.mount(app)
    async with listening(app, port=port) as bound:
        yield f"http://127.0.0.1:{bound}/"


async def api(dashboard: Dashboard, path: str) -> Any:
    """Return the body of one request. A constant that is not JSON, such as NaN, fails the test."""
    async with (
        serving(dashboard) as address,
        aiohttp.ClientSession() as session,
        session.get(f"{address}{path}") as reply,
    ):
        assert reply.status == 200, await reply.text()
        return json.loads(await reply.text(), parse_constant=pytest.fail)
