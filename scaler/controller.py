"""The only loop: observe, decide, act, record. Live and simulated control are this code, on different ports."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
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
    Stale,
    Tick,
)
from policies.pipeline import decide
from policies.signals.plausibility import implausible, implausible_size, quantity_of
from scaler.adapter_faults import Fault, Faults
from scaler.config.load import Workload
from scaler.masking import masked_reading, masked_status
from scaler.ports import (
    Actuator,
    Clock,
    Conflict,
    Finishing,
    Misconfigured,
    OutOfCapacity,
    OutOfQuota,
    PortError,
    Source,
    Throttled,
    Unavailable,
)
from scaler.quota_ledger import QuotaLedger
from scaler.wakeup import Wakeup

T = TypeVar("T")
NameT = TypeVar("NameT", bound=str)
MAX_AHEAD_S: Final = 30.0
"""How far ahead of our clock a measurement may be before it is disbelieved: more than NTP ever leaves."""
MAX_WAIT_S: Final = 300.0
"""The longest that anybody's wish to be left alone is obeyed: a mistaken header must not blind us for a day."""
POOL_MAX_AGE_S: Final = 60.0
"""How old a pool's status may be and still be written against: a shared watch may be silent for so long."""
NO_DEADLINE: Final = contextlib.nullcontext()
NO_BOUNDARY: Final = contextlib.nullcontext()
MAX_FAILED_TICKS: Final = 3
"""Ticks in a row that an exception of the core may end before it ends the loop: one bad observation passes by."""
RESULTS: Final[Mapping[type[PortError], Result]] = {
    Fault: Result.UNAVAILABLE,
    Unavailable: Result.UNAVAILABLE,
    Throttled: Result.UNAVAILABLE,
    OutOfCapacity: Result.OUT_OF_CAPACITY,
    OutOfQuota: Result.OUT_OF_QUOTA,
    Conflict: Result.CONFLICT,
    Misconfigured: Result.MISCONFIGURED,
}


@dataclass(frozen=True, slots=True)
class Setup:
    """A workload with its adapters, open. Swapped whole, between two turns."""

    workload: Workload
    sources: Mapping[str, Source]
    actuators: Mapping[PoolName, Actuator]
    waits: bool = True
    """Whether a port may take time. Those of a simulated world never do: no task and no deadline is made for them."""
    ledger: QuotaLedger | None = None
    """What the fleet's limits are computed from; None where nothing spans workloads."""
    wakeup: Wakeup | None = None
    """What its adapters ring for a turn at once; None where nothing does."""
    faults: Faults | None = None
    """Where unexpected exceptions of its adapters end; None lets them through, as a simulation wants."""

    def register(self) -> None:
        """Have the fleet count this workload as it is specified here."""
        if self.ledger is not None:
            self.ledger.enter(self.workload.name, self.workload.spec)


class Controller:
    """Runs one workload's turns and gives each Tick to `record`."""

    def __init__(
        self, setup: Setup, clock: Clock, history: History, record: Callable[[Tick], None], *, dry_run: bool = False
    ) -> None:
        self.history = history
        self._setup = setup
        self._next_setup: Setup | None = None
        self._next_sow: Callable[[History], None] | None = None
        self._sow: Callable[[History], None] | None = None
        self._clock = clock
        self._record = record
        self._dry_run = dry_run
        setup.register()
        self._last_samples: dict[SignalName, Fresh[float]] = {}
        self._last_sizes: dict[PoolName, Fresh[PoolStatus]] = {}
        self._wait_until: dict[tuple[str, str], float] = {}
        self._stopping = False
        self._failed_ticks = 0
        self.idle = True
        self._stepped_s, self._step_s = clock.step_s(), 0.0
        self._due = self._began = self._ended = clock.now()

    @property
    def workload(self) -> Workload:
        return self._setup.workload

    @property
    def sources(self) -> Mapping[str, Source]:
        """The sources that are read, open."""
        return self._setup.sources

    @property
    def last_tick_ended_at(self) -> float:
        """When the last turn ended, or this controller began, on the clock as it stands."""
        return self._ended + (self._clock.step_s() - self._stepped_s)

    def adopt(self, setup: Setup, sow: Callable[[History], None] | None = None) -> None:
        """Use `setup` from the next turn on. The past is kept; `sow` adds to it before that turn is decided."""
        self._next_setup, self._next_sow = setup, sow

    def stop(self) -> None:
        """End after the turn under way."""
        self._stopping = True

    async def run(self, first: float) -> None:
        """Turns without end, the first at `first`, each on the grid that the interval spans from there."""
        self._due = first
        while not self._stopping:
            self.idle = True
            early = await self._sleep(self._due)
            self.idle = False
            await self._survived(self._clock.now() if early else self._due)
            self._apply_clock_step()
            if early and self._clock.now() < self._due:
                continue
            interval_s = self._setup.workload.spec.interval_s
            passed = max(0.0, self._clock.now() - self._due)
            self._due += interval_s * (1 + math.floor(passed / interval_s))

    async def _sleep(self, due: float) -> bool:
        """Sleep until `due`, or until the bell is rung; whether it was."""
        bell = self._setup.wakeup
        if bell is None:
            await self._clock.sleep_until(due)
            return False
        rung, slept = asyncio.create_task(bell.wait()), asyncio.create_task(self._clock.sleep_until(due))
        try:
            await asyncio.wait((rung, slept), return_when=asyncio.FIRST_COMPLETED)
            if slept.done():
                slept.result()
            return rung.done()
        finally:
            rung.cancel()
            slept.cancel()

    async def _survived(self, due: float) -> None:
        """Take a turn. An exception of the core passes on only after `MAX_FAILED_TICKS` in a row.

        Without `Setup.faults` it passes on at once.
        """
        try:
            await self.tick(due)
        except Exception as e:
            self._failed_ticks += 1
            if self._setup.faults is not None:
                self._setup.faults.note_core(self.workload.name, e)
            if self._setup.faults is None or self._failed_ticks >= MAX_FAILED_TICKS:
                self.idle = True
                raise
        else:
            self._failed_ticks = 0

    async def tick(self, due: float) -> Tick:
        """Return one turn: what was seen, decided and done."""
        if self._next_setup is not None:
            self._setup, self._next_setup = self._next_setup, None
            self._sow, self._next_sow = self._next_sow, None
            self._last_samples.clear()
            self._setup.register()
            self.history.span_s = max(self.history.span_s, self._setup.workload.spec.lookback_s)
        due += self._apply_clock_step()
        self._began = self._clock.now()
        lateness_s = max(0.0, self._began - due)
        seen = await self._observe()
        if self._sow is not None:
            self._sow(self.history)
            self._sow = None
        seen, decision = self._decide(seen)
        step_s, self._step_s = self._step_s, 0.0
        outcomes = await self._act(decision, seen)
        unheeded_s = self._clock.step_s() - self._stepped_s
        self._ended = self._clock.now() - unheeded_s
        tick = Tick(
            spec=self._setup.workload.fingerprint,
            observation=seen,
            decision=decision,
            outcomes=outcomes,
            history_len=len(self.history),
            lateness_s=lateness_s,
            took_s=self._ended - self._began,
            clock_step_s=step_s,
            dry_run=self._dry_run,
        )
        self.history.append(tick)
        if self._setup.ledger is not None:
            self._setup.ledger.note(tick)
        self._record(tick)
        return tick

    def _apply_clock_step(self) -> float:
        """Move what is remembered with the wall clock, where it has jumped since this controller last looked; by how
        much. Whoever notices a jump first, it moves the time of all: each keeps count of what it has heeded."""
        stepped_s = self._clock.step_s()
        step_s, self._stepped_s = stepped_s - self._stepped_s, stepped_s
        if step_s:
            self._step_s += step_s
            self.history.shift(step_s)
            self._due, self._began, self._ended = self._due + step_s, self._began + step_s, self._ended + step_s
            self._wait_until = {port: until + step_s for port, until in self._wait_until.items()}
        if self._setup.ledger is not None:
            self._setup.ledger.shift(stepped_s)
        return step_s

    # --- observe

    async def _observe(self) -> Observation:
        setup, source_errors, pool_errors = self._setup, dict[str, str](), dict[PoolName, str]()
        sampling = [self._read("source", n, s.sample, source_errors) for n, s in setup.sources.items()]
        looking = [self._read("pool", n, a.status, pool_errors) for n, a in setup.actuators.items()]
        if setup.waits:
            sampled, statuses = await asyncio.gather(asyncio.gather(*sampling), asyncio.gather(*looking))
        else:
            sampled, statuses = [await s for s in sampling], [await s for s in looking]
        self._apply_clock_step()
        now = self._clock.now()
        readings: dict[SignalName, Reading[float]] = {}
        for (name, spec), sample in zip(setup.workload.spec.sources.items(), sampled, strict=True):
            for quantity, max_age_s in spec.quantities().items():
                signal = SignalName(f"{name}.{quantity}")
                found = sample.get(quantity, Absent("not among what the source gave")) if sample is not None else None
                readings[signal] = self._grade(signal, found, max_age_s, now, f"source {name} could not be read")
        pools: dict[PoolName, Reading[PoolStatus]] = {}
        for name, status in zip(setup.actuators, statuses, strict=True):
            if status is not None and (why := implausible_size(status.value)):
                pool_errors[name] = why
                status = None  # noqa: PLW2901 - it counts as unreadable: the last size known stands, as stale
            elif status is not None:
                self._last_sizes[name] = masked_status(status)
            pools[name] = grade(
                self._last_sizes.get(name), POOL_MAX_AGE_S, now, pool_errors.get(name, ""), failed=status is None
            )
        return Observation(setup.workload.name, now, readings, pools, source_errors, pool_errors)

    def _grade(
        self, signal: SignalName, found: Fresh[float] | Absent | None, max_age_s: float, now: float, error: str
    ) -> Reading[float]:
        """Return a reading by its age. The last value known stands in for one that could not be read, as stale."""
        found = masked_reading(found) if found is not None else None
        if isinstance(found, Fresh):
            if found.measured_at > now + MAX_AHEAD_S:
                return Absent(f"measured {found.measured_at - now:.0f} s ahead of our clock: the clocks differ")
            if why := implausible(quantity_of(signal), found.value):
                return Absent(why)
            self._last_samples[signal] = found
            return grade(found, max_age_s, now, error, failed=False)
        why = found.reason if isinstance(found, Absent) else error
        return grade(self._last_samples.get(signal), max_age_s, now, why, failed=True)

    async def _read(
        self, kind: str, name: NameT, read: Callable[[], Awaitable[T]], errors: dict[NameT, str]
    ) -> T | None:
        """Return what a source or pool gives within the deadline, or None with the reason in `errors`.

        One that asked us to wait is not asked before that.
        """
        deadline_s = self._setup.workload.spec.deadline_s
        if self._clock.now() < self._wait_until.get((kind, name), 0.0):
            errors[name] = "waiting, as it asked us to"
            return None
        try:
            async with self._deadline():
                with self._boundary(kind, name):
                    return await read()
        except TimeoutError:
            errors[name] = f"no answer within {deadline_s:g} s"
        except PortError as e:
            errors[name] = str(e)
            if isinstance(e, Unavailable) and e.retry_after_s:
                self._wait_until[kind, name] = self._clock.now() + min(e.retry_after_s, MAX_WAIT_S)
            if isinstance(e, Fault) and kind == "source":  # nothing that this adapter said is relied upon
                self._last_samples = {
                    s: value for s, value in self._last_samples.items() if not s.startswith(f"{name}.")
                }
        return None

    def _deadline(self) -> AbstractAsyncContextManager[object]:
        """Return the time that one read or write may take."""
        return asyncio.timeout(self._setup.workload.spec.deadline_s) if self._setup.waits else NO_DEADLINE

    def _boundary(self, kind: str, name: str) -> AbstractContextManager[None]:
        """Turn unexpected exceptions of an adapter into `Fault`."""
        faults = self._setup.faults
        return NO_BOUNDARY if faults is None else faults.boundary(self._setup.workload.name, kind, name)

    # --- decide

    def _decide(self, seen: Observation) -> tuple[Observation, Decision]:
        """Return the decision, within what the fleet grants now and the observation then records.

        No await in between.
        """
        workload, ledger = self._setup.workload, self._setup.ledger
        if ledger is None:
            return seen, decide(workload.spec, self.history, seen)
        seen = dataclasses.replace(seen, grant=ledger.grant(workload.name, seen))
        decision = decide(workload.spec, self.history, seen)
        ledger.reserve(workload.name, decision)
        return seen, decision

    # --- act

    async def _act(self, decision: Decision, seen: Observation) -> tuple[Outcome, ...]:
        outcomes: list[Outcome] = []
        writes: list[Coroutine[None, None, Outcome]] = []
        for pool, target in decision.targets.items():
            status = seen.pools[pool]
            assert isinstance(status, Fresh), f"{pool} has a target without a fresh size"  # noqa: S101 - an invariant
            if target == status.value.desired and self._is_unfinished(pool):
                writes.append(self._finish(pool, status.value))
            elif target == status.value.desired:
                outcomes.append(Outcome(pool, target, target, Result.UNCHANGED))
            else:
                writes.append(self._resize(pool, target, status.value))
        if not self._setup.waits:
            return (*outcomes, *[await write for write in writes])
        return (*outcomes, *(await asyncio.gather(*writes) if writes else ()))

    def _is_unfinished(self, pool: PoolName) -> bool:
        """Return whether the size that a pool tells is still being carried out, and may be."""
        actuator = self._setup.actuators[pool]
        if not self._setup.waits or self._dry_run or not isinstance(actuator, Finishing):
            return False
        try:
            with self._boundary("pool", pool):
                return actuator.unfinished()
        except Fault:
            return False

    async def _finish(self, pool: PoolName, status: PoolStatus) -> Outcome:
        """Tell a pool the size that it tells, so that it goes on with it."""
        outcome = await self._resize(pool, status.desired, status)
        return dataclasses.replace(outcome, result=Result.UNCHANGED) if outcome.result is Result.ACCEPTED else outcome

    async def _resize(self, pool: PoolName, target: int, status: PoolStatus) -> Outcome:
        before = status.desired
        if self._dry_run:
            return Outcome(pool, before, target, Result.DRY_RUN, "dry run: nothing is written")
        try:
            async with self._deadline():
                with self._boundary("pool", pool):
                    await self._setup.actuators[pool].resize(target, status)
        except TimeoutError:
            reason = f"no answer within {self._setup.workload.spec.deadline_s:g} s: the next turn reads what came of it"
            return Outcome(pool, before, target, Result.UNAVAILABLE, reason)
        except PortError as e:
            return Outcome(pool, before, target, RESULTS[type(e)], str(e))
        return Outcome(pool, before, target, Result.ACCEPTED)


def grade(last: Fresh[T] | None, max_age_s: float, now: float, error: str, *, failed: bool) -> Reading[T]:
    """Return the last value known by its age; stale however young where this turn's reading `failed`."""
    if last is None:
        return Absent(error or "never read")
    age_s = max(0.0, now - last.measured_at)
    if failed or age_s > max_age_s:
        return Stale(last.value, last.measured_at, age_s)
    return last
