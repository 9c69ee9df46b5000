"""Replay of the recorded sizes in the rebuilt world, which shows the world's own error."""

from __future__ import annotations

import math
from collections.abc import Callable

from policies.model import PoolName
from scaler.ports import Misconfigured, OutOfCapacity
from simulators.backtest.recorded_run import RecordedRun
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.invariants import check
from simulators.experiments.run import SimulationRun, Timeline, build_world, run_end_s
from simulators.experiments.scenario import Case
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World


def replay_sizes(
    recorded: RecordedRun,
    case: Case,
    seed: int,
    trace: RequestTrace,
    progress: Callable[[float], None] = lambda _: None,
) -> SimulationRun:
    """Run the case with the recorded sizes, tick by tick. An unknown size stays as it was.

    The same record, case, seed and trace give the same run.
    """
    world = build_world(case, seed, trace)
    timeline = Timeline(case.scenario.epoch_s)
    end_ps = round(run_end_s(case, trace) * PS_PER_S)
    for k, time_s in enumerate(recorded.at):
        now_ps = round(float(time_s - recorded.at[0]) * PS_PER_S)
        if now_ps >= end_ps:
            break
        world.run_until(now_ps)
        for name in world.pools:
            _resize(world, name, float(recorded.pools[name]["desired"][k]), now_ps)
        _record_sizes(timeline, world, now_ps)
        if k % 64 == 0:
            progress(k / len(recorded))
    world.run_until(end_ps)
    check(world)
    progress(1.0)
    return SimulationRun(case, seed, trace, world, timeline)


def _resize(world: World, name: PoolName, replicas: float, now_ps: int) -> None:
    if not math.isfinite(replicas) or replicas == world.pools[name].status(now_ps).desired:
        return
    try:
        world.pools[name].resize(int(replicas), now_ps)
    except (OutOfCapacity, Misconfigured):
        return  # the next tick tries again


def _record_sizes(timeline: Timeline, world: World, now_ps: int) -> None:
    statuses = {name: world.status(name) for name in world.pools}
    timeline.at_s.append(now_ps / PS_PER_S)
    timeline.demand.append(math.nan)
    timeline.desired.append(sum(s.desired for s in statuses.values()))
    timeline.ready.append(sum(s.ready for s in statuses.values()))
    for name, status in statuses.items():
        timeline.pools.setdefault(name, []).append(status.desired)
