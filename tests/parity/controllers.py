"""A controller over simulated adapters of a world, or over live adapters that mirror it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import AsyncExitStack

from policies.history.ticks import History
from policies.model import Decision, Fresh, PoolName, Reading, Result, SignalName, Tick
from scaler.clock import SystemClock
from scaler.clouds.api_budget import Api, Bucket, Calls
from scaler.controller import Controller
from scaler.ports import Actuator, Source
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources
from simulators.experiments.run import HISTORY_S, build_world, run_end_s, traffic_of
from simulators.experiments.scenario import Case
from simulators.world import ports
from simulators.world.world import World
from tests.parity.mirror import MirroredPool, MirroredSource, Only, sizes
from tests.parity.rigs import Rigs

SEED = 3
DEADLINE_S = 8.0
"""Deadline of one live request, which a machine beside other work keeps. Seconds."""
Make = Callable[[World, Case], Awaitable[Setup]]
OpenEndpoints = Callable[[Setup], Awaitable[Mapping[PoolName, Actuator]]]


class CallsWithLargeBudgets(Calls):
    """Budgets 1000 times as large, since the fifteen seconds of a tick take milliseconds here."""

    def bucket(self, api: Api, scope: Hashable, now: float) -> Bucket:
        return super().bucket(dataclasses.replace(api, per_s=1000 * api.per_s), scope, now)


def pool_sizes(tick: Tick) -> dict[PoolName, tuple[int, ...]]:
    return {n: sizes(r.value) for n, r in tick.observation.pools.items() if isinstance(r, Fresh)}


def readings(tick: Tick) -> Mapping[SignalName, Reading[float]]:
    return tick.observation.readings


def decision(tick: Tick) -> Decision:
    return tick.decision


def outcomes(tick: Tick) -> list[tuple[PoolName, int, int, Result]]:
    return [(o.pool, o.before, o.after, o.result) for o in tick.outcomes]


def require_equal(simulated: list[Tick], live: list[Tick]) -> None:
    """Require equal sizes, readings, decisions and outcomes, tick by tick."""
    for one, other in zip(simulated, live, strict=True):
        for compared in (pool_sizes, readings, decision, outcomes):
            a, b = compared(one), compared(other)
            assert a == b, f"{compared.__name__} at {one.decision.at}: simulated {a}, live {b}\n{one}\n{other}"


async def simulated_setup(world: World, case: Case) -> Setup:
    setup = ports.setup(world, case.workload, case.pools, {})
    sources = {name: Only(source, "visible") for name, source in setup.sources.items()}
    return dataclasses.replace(setup, sources=sources, ports_may_wait=True)


async def no_endpoints(_: Setup) -> Mapping[PoolName, Actuator]:
    """Return the mirrored managed endpoints of a world that has none."""
    return {}


async def live_setup(
    stack: AsyncExitStack, rigs: Rigs, world: World, case: Case, endpoints: OpenEndpoints = no_endpoints
) -> Setup:
    """Return the simulated setup with a live adapter between the controller and each part of the world.

    `endpoints` opens the managed endpoints; `rigs` are those of the other pools.
    """
    simulated = await simulated_setup(world, case)
    clock, wall = ports.SimulatedClock(world), SystemClock()

    async def new_resources() -> Resources:
        resources = await stack.enter_async_context(Resources())
        resources.calls = CallsWithLargeBudgets()
        return resources

    shared = await new_resources()

    async def opening() -> AdapterContext:
        return AdapterContext(shared if rigs.together else await new_resources(), wall, DEADLINE_S)

    sources: dict[str, Source] = {}
    for name, source in simulated.sources.items():
        rig = await stack.enter_async_context(rigs.source())
        sources[name] = MirroredSource(source, rig, await rig.open(await opening()), wall)
    actuators = dict(await endpoints(simulated))
    for pool, actuator in simulated.actuators.items():
        if pool in actuators:
            continue
        tier = case.workload.spec.pools[pool].tier
        shape = await stack.enter_async_context(rigs.pool() if tier == "serving" else rigs.warm())
        mirrored = actuators[pool] = MirroredPool(actuator, shape, clock)
        await mirrored.open(await opening())
    return dataclasses.replace(
        simulated, sources=sources, actuators={pool: actuators[pool] for pool in simulated.actuators}
    )


async def run_ticks(case: Case, make: Make) -> list[Tick]:
    """Run the controller on every tick of the world's duration."""
    trace = traffic_of(case, SEED)
    world = build_world(case, SEED, trace)
    clock, ticks = ports.SimulatedClock(world), list[Tick]()
    spec = case.workload.spec
    history = History(max(HISTORY_S, spec.lookback_s), step_s=spec.interval_s)
    controller = Controller(await make(world, case), clock, history, ticks.append)
    for number in range(math.ceil(run_end_s(case, trace) / spec.interval_s)):
        due = case.scenario.epoch_s + number * spec.interval_s
        await clock.sleep_until(due)
        await controller.tick(due)
    return ticks
