"""The control loop: observe, decide, act, record.

Live and simulated control run this code on different ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Final, TypeVar

from policies.history.ticks import History
from policies.model import (
    Absent,
    Decision,
    Fresh,
    Observation,
    Outcome,
    PoolName,
    PoolStatus,
    Reading,
    Result,
    SignalName,
    Tick,
)
from policies.model.names import RouteName
from policies.model.readings import grade
from policies.pipeline import decide
from policies.route.group import member_status
from policies.signals.plausibility import implausible, implausible_size
from policies.signals.zero_suspicion import source_of
from scaler.adapter_faults import Fault, Operation
from scaler.config.load import Workload
from scaler.leases.fence import check_write, writing_under
from scaler.masking import masked_reading, masked_status
from scaler.ports import Clock, Finishing, PortError, Source, Unavailable
from scaler.publication import publish
from scaler.routing import Outcomes, RouteReadings, write_routes
from scaler.setup import Setup
from scaler.slo_record import SloRecord, record_of

T = TypeVar("T")
NameT = TypeVar("NameT", bound=str)
MAX_AHEAD_S: Final = 30.0
"""Maximum time by which a measurement may be ahead of our clock: more than NTP ever leaves. Seconds."""
MAX_WAIT_S: Final = 300.0
"""Maximum `Retry-After` that is obeyed: a mistaken header must not stop readings for a day. Seconds."""
POOL_MAX_AGE_S: Final = 60.0
"""Maximum age of a pool's status for a write: a shared watch may be silent for this long. Seconds."""
NOT_RETURNED: Final = Absent("the source did not return it")
NO_CONTEXT: Final = contextlib.nullcontext()
MAX_FAILED_TICKS: Final = 3
"""Consecutive ticks that fail by an exception of the core before it ends the loop: a bad observation may pass."""


class Controller:
    """Runs one workload's ticks and passes each to `record`."""

    def __init__(
        self, setup: Setup, clock: Clock, history: History, record: Callable[[Tick], None], *, dry_run: bool = False
    ) -> None:
        self.history = history
        self.slo_record: SloRecord | None = record_of(setup.workload.spec)
        self._setup = setup
        self._next_setup: Setup | None = None
        self._next_seed: Callable[[History], None] | None = None
        self._seed: Callable[[History], None] | None = None
        self._clock = clock
        self._record = record
        self._dry_run = dry_run
        setup.register()
        self._last_samples: dict[SignalName, Fresh[float]] = {}
        self._last_sizes: dict[PoolName, Fresh[PoolStatus]] = {}
        self._route_readings = RouteReadings()
        self._wait_until: dict[tuple[str, str], float] = {}
        self._stopping = False
        self._failed_ticks = 0
        self.idle = True
        self._stepped_s, self._step_s = clock.step_s(), 0.0
        self._due_s = self._began_s = self._ended_s = clock.now()

    @property
    def workload(self) -> Workload:
        return self._setup.workload

    @property
    def sources(self) -> Mapping[str, Source]:
        """The open sources by name."""
        return self._setup.sources

    @property
    def last_tick_ended_s(self) -> float:
        """When the last tick ended, or the controller was created.

        Unix time of the clock as it is now.
        """
        return self._ended_s + (self._clock.step_s() - self._stepped_s)

    def adopt(self, setup: Setup, seed: Callable[[History], None] | None = None) -> None:
        """Use `setup` from the next tick on.

        The history stays; `seed` adds to it before that tick's decision.
        """
        self._next_setup, self._next_seed = setup, seed

    def stop(self) -> None:
        """End the loop after the running tick."""
        self._stopping = True

    async def run(self, first_s: float) -> None:
        """Run ticks until `stop`.

        The first tick is at `first_s` (Unix time), the next ones an interval apart.

        A wakeup's tick leaves the schedule as it is; a tick that overruns skips the missed ones. Example: at 15 s, a
        tick due at 100 s that ends at 137 s has missed those of 115 s and 130 s, and the next one is due at 145 s.
        """
        self._due_s = first_s
        while not self._stopping:
            self.idle = True
            early = await self._sleep(self._due_s)
            self.idle = False
            if self._setup.admission is not None:
                await self._setup.admission.wait()
            await self._run_tick(self._clock.now() if early else self._due_s)
            self._apply_clock_step()
            if early and self._clock.now() < self._due_s:
                continue
            interval_s = self._setup.workload.spec.interval_s
            overrun_s = max(0.0, self._clock.now() - self._due_s)
            self._due_s += interval_s * (1 + math.floor(overrun_s / interval_s))

    async def _sleep(self, due_s: float) -> bool:
        """Sleep until `due_s` or a wakeup. Return whether a wakeup ended it."""
        wakeup, sleep = self._setup.wakeup, self._clock.sleep_until(due_s)
        if wakeup is not None:
            return await wakeup.interrupts(sleep)
        await sleep
        return False

    async def _run_tick(self, due_s: float) -> None:
        """Run a tick.

        Raises an exception of the core after `MAX_FAILED_TICKS` in a row; without `faults` at once.
        """
        try:
            await self.tick(due_s)
        except Exception as e:
            self._failed_ticks += 1
            if self._setup.faults is not None:
                self._setup.faults.note_core(self.workload.name, e)
            if self._setup.faults is None or self._failed_ticks >= MAX_FAILED_TICKS:
                self.idle = True
                raise
        else:
            self._failed_ticks = 0

    async def tick(self, due_s: float) -> Tick:
        """Run one tick that was due at `due_s`, and return its record.

        The record has observation, decision and outcomes.
        """
        if self._next_setup is not None:
            self._setup, self._next_setup = self._next_setup, None
            self._seed, self._next_seed = self._next_seed, None
            self._last_samples.clear()
            self._setup.register()
            spec, record = self._setup.workload.spec, self.slo_record
            self.slo_record = record_of(spec) if record is None else record.adopt(spec)
            self.history.span_s = max(self.history.span_s, spec.lookback_s)
        epoch = None if self._setup.fence is None else self._setup.fence.epoch()
        due_s += self._apply_clock_step()
        self._began_s = self._clock.now()
        lateness_s = max(0.0, self._began_s - due_s)
        observation = await self._observe()
        if self._seed is not None:
            self._seed(self.history)
            self._seed = None
        observation, decision = self._decide(observation)
        step_s, self._step_s = self._step_s, 0.0
        with writing_under(self._setup.fence, epoch, self._setup.workload.spec.deadline_s):
            outcomes, route_outcomes = await self._act(decision, observation)
        unapplied_step_s = self._clock.step_s() - self._stepped_s
        self._ended_s = self._clock.now() - unapplied_step_s
        tick = Tick(
            spec=self._setup.workload.fingerprint,
            observation=observation,
            decision=decision,
            outcomes=outcomes,
            history_len=len(self.history),
            lateness_s=lateness_s,
            took_s=self._ended_s - self._began_s,
            clock_step_s=step_s,
            dry_run=self._dry_run,
            epoch=epoch,
            route_outcomes=route_outcomes,
        )
        self.history.append(tick)
        if self._setup.ledger is not None:
            self._setup.ledger.record(tick)
        self._record(tick)
        return tick

    def _apply_clock_step(self) -> float:
        """Shift remembered times by the wall clock's jump since the last call.

        Returns the jump in seconds.

        Each component shifts its own times, and remembers the total of the jumps that it has applied.
        """
        stepped_s = self._clock.step_s()
        step_s, self._stepped_s = stepped_s - self._stepped_s, stepped_s
        if step_s:
            self._step_s += step_s
            self.history.shift(step_s)
            if self.slo_record is not None:
                self.slo_record.shift(step_s)
            self._due_s += step_s
            self._began_s += step_s
            self._ended_s += step_s
            self._wait_until = {port: until + step_s for port, until in self._wait_until.items()}
        if self._setup.ledger is not None:
            self._setup.ledger.shift(stepped_s)
        if self._setup.groups is not None:
            self._setup.groups.shift(stepped_s)
        return step_s

    # --- observe

    async def _observe(self) -> Observation:
        setup, source_errors, pool_errors = self._setup, dict[str, str](), dict[PoolName, str]()
        route_errors = dict[RouteName, str]()
        sample_reads = [self._read("source", n, s.sample, source_errors) for n, s in setup.sources.items()]
        status_reads = [self._read("pool", n, a.status, pool_errors) for n, a in setup.actuators.items()]
        route_reads = [self._read("route", n, r.status, route_errors) for n, r in setup.routes.items()]
        if setup.ports_may_wait:
            samples, statuses, splits = await asyncio.gather(
                asyncio.gather(*sample_reads), asyncio.gather(*status_reads), asyncio.gather(*route_reads)
            )
        else:
            samples, statuses = [await read for read in sample_reads], [await read for read in status_reads]
            splits = [await read for read in route_reads]
        self._apply_clock_step()
        now = self._clock.now()
        readings: dict[SignalName, Reading[float]] = {}
        for name, sample in zip(setup.sources, samples, strict=True):
            for signal, quantity, max_age_s in setup.signals[name]:
                value = None if sample is None else sample.get(quantity, NOT_RETURNED)
                readings[signal] = self._grade(signal, quantity, value, max_age_s, now)
        pools: dict[PoolName, Reading[PoolStatus]] = {}
        for name, status in zip(setup.actuators, statuses, strict=True):
            if status is not None and (reason := implausible_size(status.value)):
                pool_errors[name] = reason
                status = None  # noqa: PLW2901 - it counts as unreadable, and the last known size as stale
            elif status is not None:
                self._last_sizes[name] = masked_status(status)
            last, error = self._last_sizes.get(name), pool_errors.get(name, "")
            pools[name] = grade(last, POOL_MAX_AGE_S, now, error, failed=status is None)
        budget = None if self.slo_record is None else self.slo_record.observe(now, readings)
        routes = self._route_readings.grade(list(zip(setup.routes, splits, strict=True)), route_errors, now)
        errors = (source_errors, pool_errors)
        return Observation(setup.workload.name, now, readings, pools, *errors, None, budget, routes, route_errors)

    def _grade(
        self, signal: SignalName, quantity: str, sample: Fresh[float] | Absent | None, max_age_s: float, now: float
    ) -> Reading[float]:
        """Return the reading of a sample by its age; without one, the last value as stale."""
        sample = masked_reading(sample) if sample is not None else None
        if isinstance(sample, Fresh):
            if sample.measured_at > now + MAX_AHEAD_S:
                return Absent(f"measured {sample.measured_at - now:.0f} s in the future: the clocks differ")
            if reason := implausible(quantity, sample.value):
                return Absent(reason)
            self._last_samples[signal] = sample
            return grade(sample, max_age_s, now, "", failed=False)
        reason = sample.reason if sample is not None else f"source {source_of(signal)} could not be read"
        return grade(self._last_samples.get(signal), max_age_s, now, reason, failed=True)

    async def _read(
        self, kind: str, name: NameT, read: Callable[[], Awaitable[T]], errors: dict[NameT, str]
    ) -> T | None:
        """Read a source or pool within the deadline.

        Return None, with the reason in `errors`, if that fails or a wait that the port requested is not over.
        """
        deadline_s = self._setup.workload.spec.deadline_s
        if self._clock.now() < self._wait_until.get((kind, name), 0.0):
            errors[name] = "not read: the server requested a wait (Retry-After)"
            return None
        try:
            async with self._deadline():
                with self._boundary(kind, name, "read"):
                    return await read()
        except TimeoutError:
            errors[name] = f"no response within {deadline_s:g} s (deadline_s)"
        except PortError as e:
            errors[name] = str(e)
            if isinstance(e, Unavailable) and e.retry_after_s:
                self._wait_until[kind, name] = self._clock.now() + min(e.retry_after_s, MAX_WAIT_S)
            if isinstance(e, Fault) and kind == "source":  # a defective adapter's earlier samples are not used either
                self._last_samples = {s: v for s, v in self._last_samples.items() if not s.startswith(f"{name}.")}
        return None

    def _deadline(self) -> AbstractAsyncContextManager[object]:
        """Return a context that ends one read or write after the workload's deadline."""
        return asyncio.timeout(self._setup.workload.spec.deadline_s) if self._setup.ports_may_wait else NO_CONTEXT

    def _boundary(self, kind: str, name: str, operation: Operation = "inspect") -> AbstractContextManager[None]:
        """Return a context that raises an adapter's unexpected exceptions as `Fault`."""
        faults = self._setup.faults
        return NO_CONTEXT if faults is None else faults.boundary(self._setup.workload.name, kind, name, operation)

    # --- decide

    def _decide(self, observation: Observation) -> tuple[Observation, Decision]:
        """Return the observation with the fleet's grant and the group's state, and the decision.

        The function must not await: no other workload may be granted anything before the decision is reserved.
        """
        workload, ledger, groups = self._setup.workload, self._setup.ledger, self._setup.groups
        if ledger is not None and (grant := ledger.grant(workload.name, observation)) is not None:
            observation = dataclasses.replace(observation, grant=grant)
        if groups is not None:
            observation = groups.with_members(workload.name, observation)
        decision = decide(workload.spec, self.history, observation)
        if ledger is not None:
            ledger.reserve(workload.name, decision)
        if groups is not None and workload.spec.group is not None:
            status = member_status(workload.spec, self.history, observation, decision)
            groups.publish(workload.name, status, observation.at)
        return observation, decision

    # --- act

    async def _act(self, decision: Decision, observation: Observation) -> Outcomes:
        """Write sizes and splits at the same time, and return their outcomes."""
        resizes = self._resize_pools(decision, observation)
        if not decision.routes:
            return await resizes, ()
        return await asyncio.gather(resizes, write_routes(self._setup, decision, observation, dry_run=self._dry_run))

    async def _resize_pools(self, decision: Decision, observation: Observation) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        writes: list[Coroutine[None, None, Outcome]] = []
        for pool, target in decision.targets.items():
            status = observation.pools[pool]
            assert isinstance(status, Fresh), f"{pool} has a target without a fresh size"  # noqa: S101 - an invariant
            if pool in self._setup.publishing and not self._dry_run:
                last, partner = self.history.pool_memories.of(pool).requested, self._setup.publishing[pool].partner()
                decided = Outcome(pool, status.value.desired, target, Result.PUBLISHED)
                outcomes.append(publish(decided, decision, last, partner))
            elif target == status.value.desired and self._is_unfinished(pool):
                writes.append(self._finish(pool, status.value))
            elif target == status.value.desired:
                outcomes.append(Outcome(pool, target, target, Result.UNCHANGED))
            else:
                writes.append(self._resize(pool, target, status.value))
        if not self._setup.ports_may_wait:
            return (*outcomes, *[await write for write in writes])
        return (*outcomes, *(await asyncio.gather(*writes) if writes else ()))

    def _is_unfinished(self, pool: PoolName) -> bool:
        """Return whether the pool is still carrying out the size that it reports.

        This needs a `Finishing` actuator, and a pool that may be written.
        """
        actuator = self._setup.actuators[pool]
        if not self._setup.ports_may_wait or self._dry_run or not isinstance(actuator, Finishing):
            return False
        try:
            with self._boundary("pool", pool):
                return actuator.unfinished()
        except Fault:
            return False

    async def _finish(self, pool: PoolName, status: PoolStatus) -> Outcome:
        """Write the size that a pool reports to it again, so that it continues to carry that out."""
        outcome = await self._resize(pool, status.desired, status)
        return dataclasses.replace(outcome, result=Result.UNCHANGED) if outcome.result is Result.ACCEPTED else outcome

    async def _resize(self, pool: PoolName, target: int, status: PoolStatus) -> Outcome:
        before = status.desired
        if self._dry_run:
            return Outcome(pool, before, target, Result.DRY_RUN, "dry run: nothing is written")
        try:
            check_write()
            async with self._deadline():
                with self._boundary("pool", pool, "resize"):
                    await self._setup.actuators[pool].resize(target, status)
        except TimeoutError:
            deadline_s = self._setup.workload.spec.deadline_s
            reason = f"no response within {deadline_s:g} s (deadline_s): the next tick reads the resulting size"
            return Outcome(pool, before, target, Result.UNAVAILABLE, reason)
        except PortError as e:
            return Outcome(pool, before, target, e.result, str(e))
        return Outcome(pool, before, target, Result.ACCEPTED)
