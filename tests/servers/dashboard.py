"""A dashboard over scripted ticks, behind a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

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
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import Facts
from tests.servers.site import listening

NOON: Final = 1_780_000_000.25
INTERVAL_S: Final = 15.0
HOSTILE: Final = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'


@dataclass
class Known:
    """Scripted facts about workloads."""

    configured: list[WorkloadName] = field(default_factory=list)
    stalling: dict[WorkloadName, str] = field(default_factory=dict)
    about: Facts = field(default_factory=lambda: Facts(1, 24, INTERVAL_S, False, 90.0, 121.5, 7))

    def names(self) -> Iterable[WorkloadName]:
        return self.configured

    def stalled(self) -> Mapping[WorkloadName, str]:
        return self.stalling

    def facts(self, name: WorkloadName, *, lead_times: bool) -> Facts:
        del name, lead_times
        return self.about


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
) -> Tick:
    """Return the tick `turn` intervals after noon, without problems by default."""
    at = NOON + turn * INTERVAL_S
    gpus = PoolName("gpus")
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
        steps=(step or Step(RuleId.DEMAND, demand or 0.0, "queue-depth wants 2.50: 40 messages at 16 per replica"),),
    )
    outcomes = () if target is None or current is None else (Outcome(gpus, current, target, result, why),)
    observation = Observation(WorkloadName(workload), at, seen, {gpus: size}, dict(errors or {}))
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
                grown = Step(RuleId.DEMAND, 9, "queue-depth wants 9.00: 144 messages at 16 per replica")
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


@asynccontextmanager
async def serving(dashboard: Dashboard, port: int = 0) -> AsyncIterator[str]:
    """Serve the dashboard; yield its URL."""
    app = web.Application()
    dashboard.mount(app)
    async with listening(app, port=port) as bound:
        yield f"http://127.0.0.1:{bound}/"
