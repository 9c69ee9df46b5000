"""Plays a story through the real controller, with ports in memory, and judges every tick by the laws."""

from __future__ import annotations

import asyncio
import json
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from policies.guard.bounds import with_override_bounds
from policies.history.ticks import History
from policies.model import Grant, Observation, PoolName, Tick, WorkloadName
from policies.pipeline import decide
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload
from scaler.controller import Controller
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.replay import SPAN_S, ReplayedHistory
from scaler.quota_ledger import QuotaLedger
from scaler.setup import Setup
from tests.fuzz.sequences.guard import Runaway, bounded
from tests.fuzz.sequences.judged import Judged
from tests.fuzz.sequences.laws import LAWS, Law, named
from tests.fuzz.sequences.platform import StoryClock, StoryPool, StorySource
from tests.fuzz.sequences.policies import ENGINES, QUEUE
from tests.fuzz.sequences.story import Scene, Story, StoryTick
from tests.fuzz.sequences.workloads import EPOCH
from tests.fuzz.worlds.tick_context import RecordedTick, TickContext

DECIDE_TWICE_EVERY: Final = 4
"""One tick in this many is decided again, after a decision without readings in between."""


@dataclass(frozen=True, slots=True)
class LawViolation:
    """A law that does not hold: its name and sentence, the details, the tick and the workload."""

    law: str
    sentence: str
    difference: str
    tick_number: int
    workload: str = ""

    def __str__(self) -> str:
        where = f"tick {self.tick_number}" + (f" of {self.workload}" if self.workload else "")
        return f"{self.law}, {where}: {self.difference}\n  must hold: {self.sentence}"


@dataclass(slots=True)
class PlayResult:
    """Result of a story: numbers of ticks that shrank and grew, and the violated law, if any."""

    ticks: int = 0
    shrank: int = 0
    grew: int = 0
    violation: LawViolation | None = None
    record: list[tuple[int, Tick]] = field(default_factory=list)


class Stop(Exception):
    """A violated law, which ends the story."""

    def __init__(self, violation: LawViolation) -> None:
        super().__init__(str(violation))
        self.violation = violation


class StoryLedger(QuotaLedger):
    """The daemon's ledger. Without limits of a fleet, it returns the story's random grants."""

    def __init__(self, fleet: FleetLimits | None) -> None:
        super().__init__(fleet or FleetLimits())
        self.random_grant: Grant | None = None

    def grant(self, name: WorkloadName, observation: Observation) -> Grant | None:
        return super().grant(name, observation) or self.random_grant


class WorkloadRun:
    """One workload while it runs: its controller, its ports, and a second history fed from the journal's lines."""

    def __init__(
        self, config: Workload, story_run: StoryRun, pools: dict[str, StoryPool], before: Sequence[Tick]
    ) -> None:
        self.workload = config
        self.pools = pools
        self.sources = {name: StorySource(story_run.clock) for name in (ENGINES, QUEUE)}
        self.past: list[RecordedTick] = []
        self.ticks = list(before)
        self.replayed_history = ReplayedHistory()
        self._story_run = story_run
        span_s = max(SPAN_S, config.spec.lookback_s)
        past = InitialHistory(config.name, story_run.clock.now(), len(before), span_s, config.spec.interval_s)
        self.replayed_history.ticks.extend(before)
        self.replayed_history.start(past)
        history = past.history(before)
        self.controller = Controller(self._setup(config), story_run.clock, history, lambda _: None)

    def _setup(self, config: Workload) -> Setup:
        actuators = {PoolName(name): self.pool(name) for name in config.spec.pools}
        return Setup(config, self.sources, actuators, ports_may_wait=False, ledger=self._story_run.ledger)

    def pool(self, name: str) -> StoryPool:
        """Return the pool of a name. A pool that a reload adds has one replica."""
        return self.pools.setdefault(name, StoryPool(self._story_run.clock, 1))

    def edit(self, config: Workload) -> None:
        self.workload = config
        self.controller.adopt(self._setup(config))

    async def tick(self, scene: Scene) -> Tick:
        """Run one tick of the controller, within limits of memory and time."""
        names = list(self.workload.spec.pools)
        for name in names:
            self.pool(name).apply_event(scene.pools[name] if name in scene.pools else self.pool(name).event)
        desired, ready = (sum(getattr(self.pool(n), key) for n in names) for key in ("desired", "ready"))
        for source_name, source in self.sources.items():
            source.readings = scene.readings[source_name]
            source.ready_share = ready / desired if scene.share_served and desired else 1.0
            source.saturated = ready if scene.saturated else 0
        self._story_run.ledger.random_grant = scene.grant
        with bounded():
            return await self.controller.tick(self._story_run.clock.now())

    def shift(self, step_s: float) -> None:
        """Shift the past after a jump of the clock, so that it keeps its age."""
        self.past = [replace(recorded, tick=_shift(recorded.tick, step_s)) for recorded in self.past]


def _shift(tick: Tick, step_s: float) -> Tick:
    at = tick.at + step_s
    return replace(tick, observation=replace(tick.observation, at=at), decision=replace(tick.decision, at=at))


class StoryRun:
    """All workloads of a story, on one clock and under one ledger."""

    def __init__(self, story: Story, laws: Sequence[Law]) -> None:
        self.clock = StoryClock(EPOCH)
        self.ledger = StoryLedger(story.fleet)
        self.played = PlayResult()
        self._laws = laws
        self._story = story
        self._platforms = {
            name: {pool: StoryPool(self.clock, size) for pool, size in sizes.items()}
            for name, sizes in story.sizes.items()
        }
        self._records: dict[str, list[Tick]] = {name: [] for name in story.workloads}
        self._runs = {name: self._run(config) for name, config in story.workloads.items()}

    def _run(self, config: Workload) -> WorkloadRun:
        before = [tick for tick in self._records[config.name] if tick.at <= self.clock.now()]
        return WorkloadRun(config, self, self._platforms[config.name], before)

    async def play(self) -> PlayResult:
        for number, tick_inputs in enumerate(self._story.ticks):
            try:
                await self._play_tick(number, tick_inputs)
            except Stop as stop:
                self.played.violation = stop.violation
                break
        return self.played

    async def _play_tick(self, number: int, tick_inputs: StoryTick) -> None:
        self.clock.advance(tick_inputs.after_s, tick_inputs.clock_step_s)
        for run in self._runs.values() if tick_inputs.clock_step_s else ():
            run.shift(tick_inputs.clock_step_s)
        for name, config in tick_inputs.edits.items():
            self._edit(name, config)
        for name, run in self._runs.items():
            if name in tick_inputs.scenes:
                await self._tick(number, name, run, tick_inputs.scenes[name])

    def _edit(self, name: str, config: Workload | None) -> None:
        if config is None:
            self._runs.pop(name, None)
            self.ledger.forget(WorkloadName(name))
        elif name in self._runs:
            self._runs[name].edit(config)
        else:
            self._runs[name] = self._run(config)

    async def _tick(self, number: int, name: str, run: WorkloadRun, scene: Scene) -> None:
        try:
            tick = await run.tick(scene)
        except (Exception, Runaway) as e:
            trace = f"{e!r}\n{traceback.format_exc()}"
            raise Stop(LawViolation("nothing_raises", "No input makes a tick fail.", trace, number, name)) from e
        self.played.record.append((number, tick))
        decoded = self._round_trip(number, name, tick)
        history = self._decide_again(number, name, run, decoded)
        context = TickContext(with_override_bounds(run.workload.spec, tick.at), RecordedTick(tick), run.past, history)
        judged = Judged(context, self._story.fleet, self.ledger.held())
        for law in self._laws:
            difference = law(judged)
            if difference is not None:
                raise Stop(LawViolation(*named(law), difference, number, name))
        self.played.ticks += 1
        self.played.shrank += context.shrinks()
        self.played.grew += context.grows()
        run.past.append(RecordedTick(tick))
        run.replayed_history.append(decoded)
        self._records[name].append(decoded)

    def _round_trip(self, number: int, name: str, tick: Tick) -> Tick:
        sentence = "What the journal gives back equals what was written."
        try:
            line = json.dumps(encode_tick(tick), allow_nan=False, ensure_ascii=False).encode()
            decoded = decode_tick(json.loads(line))
        except (KeyError, TypeError, ValueError) as e:
            raise Stop(LawViolation("journal_keeps_it", sentence, repr(e), number, name)) from e
        if decoded != tick:
            raise Stop(LawViolation("journal_keeps_it", sentence, "the tick read back differs", number, name))
        return decoded

    def _decide_again(self, number: int, name: str, run: WorkloadRun, decoded: Tick) -> History:
        """Decide again on the history from the journal, also after another decision in between."""
        spec, observation = run.workload.spec, decoded.observation
        history = run.replayed_history.history_before(decoded, spec)
        rows = len(history)
        first = second = decide(spec, history, observation)
        if number % DECIDE_TWICE_EVERY == 0:
            decide(spec, history, replace(observation, readings={}))
            second = decide(spec, history, observation)
        sentence = "The same observation and history give the same decision, and deciding changes no history."
        for variant, decision in (("replayed", first), ("decided once more", second)):
            if decision != decoded.decision:
                names = [f for f in decision.__slots__ if getattr(decision, f) != getattr(decoded.decision, f)]
                pairs = "; ".join(f"{f}: {getattr(decoded.decision, f)!r} and {getattr(decision, f)!r}" for f in names)
                difference = f"{variant}, it differs in {pairs}"
                raise Stop(LawViolation("decided_again_is_the_same", sentence, difference, number, name))
        if len(history) != rows or decoded.history_len != rows:
            difference = f"the history had {decoded.history_len} rows, {rows} from the journal, {len(history)} after"
            raise Stop(LawViolation("decided_again_is_the_same", sentence, difference, number, name))
        return history


def play(story: Story, laws: Sequence[Law] = LAWS) -> PlayResult:
    """Play a story to its end, or to the first law that it breaks."""

    async def run_story() -> PlayResult:
        return await StoryRun(story, laws).play()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an overflow in numpy is a number that is not finite
        return asyncio.run(run_story())
