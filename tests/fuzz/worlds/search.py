"""Running a world under the invariants, and what is told of one that breaks them."""

from __future__ import annotations

import json
import math
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from policies.guard.bounds import with_override_bounds
from policies.history.ticks import History
from policies.model import Tick
from scaler.journal.codec import encode_tick
from scaler.journal.explain import paragraphs
from simulators.experiments.results import ResultSummary, summarize
from simulators.experiments.run import HISTORY_S, SimulationRun, simulate
from simulators.experiments.scenario import Case, load
from simulators.world.rng import streams
from simulators.world.traffic.trace import RequestTrace
from tests.fuzz.worlds.injected_zeros import Lies
from tests.fuzz.worlds.invariants import INVARIANTS, Broken, Invariant, broken
from tests.fuzz.worlds.records import journalled
from tests.fuzz.worlds.turn import Seen, Turn
from tests.fuzz.worlds.world import draw

TWICE: Final = 8
"""One world in so many is run a second time, to the same ticks."""
AFTER_S: Final = 1e6
"""Where a world without traffic has its one request: after its end."""


class Found(Exception):
    """A turn that breaks an invariant: it ends the run."""

    def __init__(self, number: int, tick: Tick, what: Broken) -> None:
        super().__init__(what.name)
        self.number, self.tick, self.what = number, tick, what


@dataclass(frozen=True, slots=True)
class Failure:
    """What was found wrong with a seed's world. `turn` is None for what has no turn."""

    seed: int
    what: Broken
    turn: int | None = None
    at_s: float = math.nan
    explained: str = ""

    def __str__(self) -> str:
        when = "" if self.turn is None else f", turn {self.turn} ({self.at_s:g} s)"
        told = f"seed {self.seed}{when}: {self.what.name}: {self.what.found}\n  must hold: {self.what.sentence}\n"
        return f"{told}  again: python -m tests.fuzz.worlds --seed {self.seed}\n{self.explained}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a seed: the turns that were judged, those of them that shrank, and what failed, if anything."""

    seed: int
    turns: int
    shrank: int
    failure: Failure | None = None


class Watch:
    """Judges every turn as it is recorded."""

    def __init__(self, case: Case, seed: int, invariants: Sequence[Invariant]) -> None:
        self.spec = case.workload.spec
        self.past: list[Seen] = []
        self.shrank = 0
        self._invariants = invariants
        self._lies = Lies(case, seed)
        self._history = History(max(HISTORY_S, self.spec.lookback_s), step_s=self.spec.interval_s)

    def __call__(self, tick: Tick) -> None:
        seen = Seen(tick, self._lies.told(tick))
        turn = Turn(with_override_bounds(self.spec, tick.at), seen, self.past, self._history)
        for what in broken(turn, self._invariants):
            raise Found(len(self.past), tick, what)
        self.shrank += turn.shrinks()
        self.past.append(seen)
        self._history.append(journalled(tick))


def judge(seed: int, invariants: Sequence[Invariant] = INVARIANTS) -> Verdict:
    """Run a seed's world under the invariants."""
    with tempfile.TemporaryDirectory() as folder:
        return _judge(seed, invariants, Path(folder))


def _judge(seed: int, invariants: Sequence[Invariant], folder: Path) -> Verdict:
    watch: Watch | None = None
    try:
        case = load(draw(seed).write(folder))
        trace = requests(case, seed)
        watch = Watch(case, seed, invariants)
        done = simulate(case, seed, trace, record=[watch])
        failure = _end(seed, done, watch)
    except Found as e:
        at_s = e.tick.at - case.scenario.epoch_s
        failure = Failure(seed, e.what, e.number, at_s, "\n".join(paragraphs(e.tick)) + "\n")
    except Exception as e:  # noqa: BLE001 - whatever a world makes the code raise is what is looked for
        what = Broken("nothing_raises", "No world makes the code fail.", repr(e))
        failure = Failure(seed, what, None if watch is None else len(watch.past), explained=traceback.format_exc())
    if watch is None:
        return Verdict(seed, 0, 0, failure)
    return Verdict(seed, len(watch.past), watch.shrank, failure)


def requests(case: Case, seed: int) -> RequestTrace:
    """The world's requests. Where nothing arrives there is one that comes after the end: a run needs some."""
    s = case.scenario
    made: RequestTrace = s.traffic.requests(streams(seed), 0.0, s.end_s)
    if not len(made):
        made = RequestTrace(np.array([AFTER_S]), np.array([1], np.int32), np.array([1], np.int32), name="nothing")
    return made.with_prefix_hits(s.prefix_hit_share)


def _end(seed: int, done: SimulationRun, watch: Watch) -> Failure | None:
    """What must hold of the whole run."""
    checks: list[Callable[[], Broken | None]] = [lambda: _accounts(summarize(done))]
    if seed % TWICE == 0:
        checks.append(lambda: _again(done, watch))
    found = next((what for check in checks if (what := check()) is not None), None)
    return None if found is None else Failure(seed, found)


def _accounts(s: ResultSummary) -> Broken | None:
    sentence = "Every request that arrived has one end, every token and dollar is accounted for, none is negative."
    ends = (s.finished, s.unfinished, s.rejected, s.timed_out, s.lost, s.dead_letter)
    money = (s.cost_usd, *s.cost_by_use_usd.values(), *s.cost_by_market_usd.values())
    wrong = ""
    if sum(ends) != s.arrived or min(ends) < 0:
        wrong = f"{s.arrived} requests arrived and came to {ends}"
    elif not all(math.isfinite(m) and m >= 0 for m in money):
        wrong = f"a cost is negative or none: {money}"
    elif any(abs(sum(m.values()) - s.cost_usd) > 1e-5 for m in (s.cost_by_use_usd, s.cost_by_market_usd)):
        wrong = f"{s.cost_usd} USD are {s.cost_by_use_usd} and {s.cost_by_market_usd}"
    elif not all(0 <= kept <= 1 for kept in s.attainment.values()):
        wrong = f"attained {s.attainment}"
    return Broken("accounts_balance", sentence, wrong) if wrong else None


def _again(done: SimulationRun, watch: Watch) -> Broken | None:
    ticks: list[Tick] = []
    simulate(done.case, done.seed, done.trace, record=[ticks.append])
    first, second = ([json.dumps(encode_tick(t)) for t in run] for run in ([s.tick for s in watch.past], ticks))
    if first == second:
        return None
    differs = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))
    sentence = "The same seed gives the same journal, byte for byte."
    return Broken("one_seed_one_journal", sentence, f"turn {differs} differs in a second run")
