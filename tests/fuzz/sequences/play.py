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
from scaler.controller import Controller, Setup
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.replay import SPAN_S, ReplayedHistory
from scaler.quota_ledger import QuotaLedger
from tests.fuzz.sequences.guard import Runaway, bounded
from tests.fuzz.sequences.judged import Judged
from tests.fuzz.sequences.laws import LAWS, Law, named
from tests.fuzz.sequences.platform import StoryClock, StoryPool, StorySource
from tests.fuzz.sequences.policies import ENGINES, QUEUE
from tests.fuzz.sequences.story import Moment, Scene, Story
from tests.fuzz.sequences.workloads import EPOCH
from tests.fuzz.worlds.turn import Seen, Turn

TWICE: Final = 4
"""One tick in so many is decided a second time, after a decision without any reading in between."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A law that does not hold: its name and sentence, where, and what was seen."""

    law: str
    sentence: str
    found: str
    moment: int
    workload: str = ""

    def __str__(self) -> str:
        where = f"tick {self.moment}" + (f" of {self.workload}" if self.workload else "")
        return f"{self.law}, {where}: {self.found}\n  must hold: {self.sentence}"


@dataclass(slots=True)
class Played:
    """What came of a story: ticks, those that shrank, and the law that was broken, if any."""

    ticks: int = 0
    shrank: int = 0
    grew: int = 0
    broken: Broken | None = None
    record: list[tuple[int, Tick]] = field(default_factory=list)


class Stop(Exception):
    """A broken law ends the story."""

    def __init__(self, broken: Broken) -> None:
        super().__init__(str(broken))
        self.broken = broken


class StoryLedger(QuotaLedger):
    """The daemon's ledger; without limits of a fleet, it hands out the grants that the story drew."""

    def __init__(self, fleet: FleetLimits | None) -> None:
        super().__init__(fleet or FleetLimits())
        self.drawn: Grant | None = None

    def grant(self, name: WorkloadName, seen: Observation) -> Grant | None:
        return super().grant(name, seen) or self.drawn


class Run:
    """One workload while it runs: its controller, its ports, and a second history fed from the journal's lines."""

    def __init__(self, made: Workload, stage: Stage, pools: dict[str, StoryPool], before: Sequence[Tick]) -> None:
        self.made = made
        self.pools = pools
        self.sources = {name: StorySource(stage.clock) for name in (ENGINES, QUEUE)}
        self.past: list[Seen] = []
        self.ticks = list(before)
        self.life = ReplayedHistory()
        self._stage = stage
        span_s = max(SPAN_S, made.spec.lookback_s)
        past = InitialHistory(made.name, stage.clock.now(), len(before), span_s, made.spec.interval_s)
        self.life.ticks.extend(before)
        self.life.start(past)
        history = past.history(before)
        self.controller = Controller(self._setup(made), stage.clock, history, lambda _: None)

    def _setup(self, made: Workload) -> Setup:
        actuators = {PoolName(name): self.pool(name) for name in made.spec.pools}
        return Setup(made, self.sources, actuators, ports_may_wait=False, ledger=self._stage.ledger)

    def pool(self, name: str) -> StoryPool:
        """The pool of a name; one that a reload adds has one replica."""
        return self.pools.setdefault(name, StoryPool(self._stage.clock, 1))

    def edit(self, made: Workload) -> None:
        self.made = made
        self.controller.adopt(self._setup(made))

    async def tick(self, scene: Scene) -> Tick:
        """One tick of the controller, within its bounds of memory and time."""
        names = list(self.made.spec.pools)
        for name in names:
            self.pool(name).happen(scene.pools[name] if name in scene.pools else self.pool(name).event)
        desired, ready = (sum(getattr(self.pool(n), key) for n in names) for key in ("desired", "ready"))
        for source_name, source in self.sources.items():
            source.readings = scene.readings[source_name]
            source.served = ready / desired if scene.share_served and desired else 1.0
            source.saturated = ready if scene.saturated else 0
        self._stage.ledger.drawn = scene.grant
        with bounded():
            return await self.controller.tick(self._stage.clock.now())

    def shift(self, step_s: float) -> None:
        """After a jump of the clock: the past keeps its age."""
        self.past = [replace(seen, tick=_shifted(seen.tick, step_s)) for seen in self.past]


def _shifted(tick: Tick, step_s: float) -> Tick:
    at = tick.at + step_s
    return replace(tick, observation=replace(tick.observation, at=at), decision=replace(tick.decision, at=at))


class Stage:
    """All workloads of a story, on one clock and under one ledger."""

    def __init__(self, story: Story, laws: Sequence[Law]) -> None:
        self.clock = StoryClock(EPOCH)
        self.ledger = StoryLedger(story.fleet)
        self.played = Played()
        self._laws = laws
        self._story = story
        self._platforms = {
            name: {pool: StoryPool(self.clock, size) for pool, size in sizes.items()}
            for name, sizes in story.sizes.items()
        }
        self._records: dict[str, list[Tick]] = {name: [] for name in story.workloads}
        self._runs = {name: self._run(made) for name, made in story.workloads.items()}

    def _run(self, made: Workload) -> Run:
        before = [tick for tick in self._records[made.name] if tick.at <= self.clock.now()]
        return Run(made, self, self._platforms[made.name], before)

    async def play(self) -> Played:
        for number, moment in enumerate(self._story.moments):
            try:
                await self._moment(number, moment)
            except Stop as stop:
                self.played.broken = stop.broken
                break
        return self.played

    async def _moment(self, number: int, moment: Moment) -> None:
        self.clock.pass_(moment.after_s, moment.clock_step_s)
        for run in self._runs.values() if moment.clock_step_s else ():
            run.shift(moment.clock_step_s)
        for name, made in moment.edits.items():
            self._edit(name, made)
        for name, run in self._runs.items():
            if name in moment.scenes:
                await self._tick(number, name, run, moment.scenes[name])

    def _edit(self, name: str, made: Workload | None) -> None:
        if made is None:
            self._runs.pop(name, None)
            self.ledger.forget(WorkloadName(name))
        elif name in self._runs:
            self._runs[name].edit(made)
        else:
            self._runs[name] = self._run(made)

    async def _tick(self, number: int, name: str, run: Run, scene: Scene) -> None:
        try:
            tick = await run.tick(scene)
        except (Exception, Runaway) as e:
            trace = f"{e!r}\n{traceback.format_exc()}"
            raise Stop(Broken("nothing_raises", "No input makes a tick fail.", trace, number, name)) from e
        self.played.record.append((number, tick))
        kept = self._journalled(number, name, tick)
        history = self._decided_again(number, name, run, kept)
        turn = Turn(with_override_bounds(run.made.spec, tick.at), Seen(tick), run.past, history)
        judged = Judged(turn, self._story.fleet, self.ledger.held())
        for law in self._laws:
            found = law(judged)
            if found is not None:
                raise Stop(Broken(*named(law), found, number, name))
        self.played.ticks += 1
        self.played.shrank += turn.shrinks()
        self.played.grew += turn.grows()
        run.past.append(Seen(tick))
        run.life.append(kept)
        self._records[name].append(kept)

    def _journalled(self, number: int, name: str, tick: Tick) -> Tick:
        sentence = "What the journal gives back equals what was written."
        try:
            line = json.dumps(encode_tick(tick), allow_nan=False, ensure_ascii=False).encode()
            kept = decode_tick(json.loads(line))
        except (KeyError, TypeError, ValueError) as e:
            raise Stop(Broken("journal_keeps_it", sentence, repr(e), number, name)) from e
        if kept != tick:
            raise Stop(Broken("journal_keeps_it", sentence, "the tick read back differs", number, name))
        return kept

    def _decided_again(self, number: int, name: str, run: Run, kept: Tick) -> History:
        """Decide again on the history that the journal gives: as recorded, and whatever was decided in between."""
        spec, seen = run.made.spec, kept.observation
        history = run.life.history_before(kept, spec)
        rows = len(history)
        first = second = decide(spec, history, seen)
        if number % TWICE == 0:
            decide(spec, history, replace(seen, readings={}))
            second = decide(spec, history, seen)
        sentence = "The same observation and history give the same decision, and deciding changes no history."
        for what, decision in (("replayed", first), ("decided once more", second)):
            if decision != kept.decision:
                names = [f for f in decision.__slots__ if getattr(decision, f) != getattr(kept.decision, f)]
                pairs = "; ".join(f"{f}: {getattr(kept.decision, f)!r} and {getattr(decision, f)!r}" for f in names)
                found = f"{what}, it differs in {pairs}"
                raise Stop(Broken("decided_again_is_the_same", sentence, found, number, name))
        if len(history) != rows or kept.history_len != rows:
            found = f"the history had {kept.history_len} rows, {rows} from the journal, {len(history)} after"
            raise Stop(Broken("decided_again_is_the_same", sentence, found, number, name))
        return history


def play(story: Story, laws: Sequence[Law] = LAWS) -> Played:
    """Play a story to its end, or to the first law that it breaks."""

    async def all_of_it() -> Played:
        return await Stage(story, laws).play()

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an overflow in numpy is a number that is not finite
        return asyncio.run(all_of_it())
