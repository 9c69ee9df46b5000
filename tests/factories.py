"""Builders of the core's records with defaults, so that a test sets only the values it checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policies.history.ticks import History
from policies.model import (
    Absent,
    Decision,
    Fresh,
    Observation,
    Outcome,
    PolicyName,
    PoolName,
    PoolStatus,
    Reading,
    SignalName,
    Stale,
    Tick,
    WorkloadName,
)
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp, Slo, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.threshold import QueueDepth

NOW = 1_800_000_000.0
DEADLINE_S = 30.0  # of adapters whose answers a test expects: a loaded machine meets it
MAIN = PoolName("main")
FREE_UP = ScaleUp(max_replicas=10_000)
FREE_DOWN = ScaleDown(window_s=0.0, max_replicas=10_000)
CHAT_SLO = Slo(ttft_s=1.0, itl_s=0.05)


def spec(
    policies: Mapping[str, Any] | None = None, pools: Mapping[str, Pool] | None = None, **settings: Any
) -> WorkloadSpec:
    """Return a workload with one queue policy and one pool, without windows and step limits by default."""
    defaults: dict[str, Any] = {"scale_up": FREE_UP, "scale_down": FREE_DOWN, "tolerance": 0.0, "max_replicas": 100}
    return WorkloadSpec(
        workload="llm",
        sources={},
        policies={PolicyName(n): p for n, p in (policies or {"queue": QueueDepth(source="queue")}).items()},
        pools={PoolName(n): p for n, p in (pools or {"main": Pool()}).items()},
        **{**defaults, **settings},
    )


def fresh(value: float, age_s: float = 0.0, now: float = NOW) -> Fresh[float]:
    return Fresh(value, now - age_s)


def stale(value: float, age_s: float = 100.0, now: float = NOW) -> Stale[float]:
    return Stale(value, now - age_s, age_s)


ABSENT = Absent("gone")


def queue(visible: float, in_flight: float = 0.0) -> dict[str, Reading[float]]:
    return {"queue.visible": fresh(visible), "queue.in_flight": fresh(in_flight)}


def seen(
    readings: Mapping[str, Reading[float]],
    desired: int = 1,
    ready: int | None = None,
    at: float = NOW,
    foreign: str | None = None,
    pools: Mapping[str, Reading[PoolStatus]] | None = None,
) -> Observation:
    status = Fresh(PoolStatus(desired, desired if ready is None else ready, foreign), at)
    return Observation(
        WorkloadName("llm"),
        at,
        {SignalName(n): r for n, r in readings.items()},
        {PoolName(n): p for n, p in (pools or {"main": status}).items()},
    )


def tick_of(observation: Observation, decision: Decision, spec_id: str = "abc", history_len: int = 0) -> Tick:
    return Tick(spec_id, observation, decision, (), history_len, 0.0, 0.0)


def next_tick(
    workload: WorkloadSpec,
    history: History,
    at: float,
    readings: Mapping[str, float],
    pools: Mapping[PoolName, PoolStatus],
    resize: Callable[[PoolName, int], Outcome] | None = None,
) -> Decision:
    """Decide on fresh readings and pools, and append the tick; `resize` writes each target."""
    values = {SignalName(name): Fresh(value, at) for name, value in readings.items()}
    observation = Observation(WorkloadName("llm"), at, values, {name: Fresh(p, at) for name, p in pools.items()})
    decision = decide(workload, history, observation)
    outcomes = () if resize is None else tuple(resize(name, target) for name, target in decision.targets.items())
    history.append(Tick("abc", observation, decision, outcomes, len(history), 0.0, 0.0))
    return decision


def live(
    workload: WorkloadSpec, demands: Sequence[Mapping[str, Reading[float]]], start: int = 1, step_s: float = 15.0
) -> list[Decision]:
    """Return the decisions of one tick per reading; each target takes effect at once, the last tick is at `NOW`."""
    history = History()
    size, decisions = start, []
    for i, readings in enumerate(demands):
        at = NOW - (len(demands) - 1 - i) * step_s
        observation = seen(readings, size, at=at)
        decision = decide(workload, history, observation)
        history.append(tick_of(observation, decision))
        size = decision.target if decision.target is not None else size
        decisions.append(decision)
    return decisions


def targets(decisions: Sequence[Decision]) -> list[int | None]:
    return [d.target for d in decisions]
