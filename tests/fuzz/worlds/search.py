"""Runs a world under the invariants, and reports violations."""

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
from tests.fuzz.worlds.injected_zeros import InjectedZeros
from tests.fuzz.worlds.invariants import INVARIANTS, Invariant, Violation, broken
from tests.fuzz.worlds.records import journalled
from tests.fuzz.worlds.tick_context import RecordedTick, TickContext
from tests.fuzz.worlds.world import draw

REPEAT_EVERY: Final = 8
"""One world in this many is run a second time, which must give the same ticks."""
LATE_ARRIVAL_S: Final = 1e6
"""Arrival of the only request of a world without traffic: after its end."""


class InvariantBroken(Exception):
    """A tick that violates an invariant. It ends the run."""

    def __init__(self, number: int, tick: Tick, violation: Violation) -> None:
        super().__init__(violation.name)
        self.number, self.tick, self.violation = number, tick, violation


@dataclass(frozen=True, slots=True)
class Failure:
    """A violation in a seed's world. `tick_number` is None if it concerns no single tick."""

    seed: int
    violation: Violation
    tick_number: int | None = None
    at_s: float = math.nan
    explained: str = ""

    def __str__(self) -> str:
        when = "" if self.tick_number is None else f", turn {self.tick_number} ({self.at_s:g} s)"
        violation = self.violation
        text = f"seed {self.seed}{when}: {violation.name}: {violation.details}\n  must hold: {violation.sentence}\n"
        return f"{text}  again: python -m tests.fuzz.worlds --seed {self.seed}\n{self.explained}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a seed: the ticks judged, those that scaled in, and the failure, if any."""

    seed: int
    ticks: int
    shrank: int
    failure: Failure | None = None


class InvariantRecorder:
    """Judges every tick as it is recorded."""

    def __init__(self, case: Case, seed: int, invariants: Sequence[Invariant]) -> None:
        self.spec = case.workload.spec
        self.past: list[RecordedTick] = []
        self.shrank = 0
        self._invariants = invariants
        self._injected_zeros = InjectedZeros(case, seed)
        self._history = History(max(HISTORY_S, self.spec.lookback_s), step_s=self.spec.interval_s)

    def __call__(self, tick: Tick) -> None:
        recorded = RecordedTick(tick, self._injected_zeros.sources(tick))
        context = TickContext(with_override_bounds(self.spec, tick.at), recorded, self.past, self._history)
        for violation in broken(context, self._invariants):
            raise InvariantBroken(len(self.past), tick, violation)
        self.shrank += context.shrinks()
        self.past.append(recorded)
        self._history.append(journalled(tick))


def judge(seed: int, invariants: Sequence[Invariant] = INVARIANTS) -> Verdict:
    """Run a seed's world under the invariants."""
    with tempfile.TemporaryDirectory() as folder:
        return _judge(seed, invariants, Path(folder))


def _judge(seed: int, invariants: Sequence[Invariant], folder: Path) -> Verdict:
    recorder: InvariantRecorder | None = None
    try:
        case = load(draw(seed).write(folder))
        trace = requests(case, seed)
        recorder = InvariantRecorder(case, seed, invariants)
        run_result = simulate(case, seed, trace, record=[recorder])
        failure = _judge_end(seed, run_result, recorder)
    except InvariantBroken as e:
        at_s = e.tick.at - case.scenario.epoch_s
        failure = Failure(seed, e.violation, e.number, at_s, "\n".join(paragraphs(e.tick)) + "\n")
    except Exception as e:  # noqa: BLE001 - whatever a world makes the code raise is what is looked for
        violation = Violation("nothing_raises", "No world makes the code fail.", repr(e))
        failure = Failure(
            seed, violation, None if recorder is None else len(recorder.past), explained=traceback.format_exc()
        )
    if recorder is None:
        return Verdict(seed, 0, 0, failure)
    return Verdict(seed, len(recorder.past), recorder.shrank, failure)


def requests(case: Case, seed: int) -> RequestTrace:
    """Return the world's requests. Without any, return one that arrives after the end: a run needs a request."""
    s = case.scenario
    trace: RequestTrace = s.traffic.requests(streams(seed), 0.0, s.end_s)
    if not len(trace):
        trace = RequestTrace(
            np.array([LATE_ARRIVAL_S]), np.array([1], np.int32), np.array([1], np.int32), name="nothing"
        )
    return trace.with_prefix_hits(s.prefix_hit_share)


def _judge_end(seed: int, run_result: SimulationRun, recorder: InvariantRecorder) -> Failure | None:
    """Return the failure of the whole run, or None."""
    checks: list[Callable[[], Violation | None]] = [lambda: _check_accounts(summarize(run_result))]
    if seed % REPEAT_EVERY == 0:
        checks.append(lambda: _again(run_result, recorder))
    violation = next((v for check in checks if (v := check()) is not None), None)
    return None if violation is None else Failure(seed, violation)


def _check_accounts(s: ResultSummary) -> Violation | None:
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
    elif not all(0 <= share <= 1 for share in s.attainment.values()):
        wrong = f"attained {s.attainment}"
    return Violation("accounts_balance", sentence, wrong) if wrong else None


def _again(run_result: SimulationRun, recorder: InvariantRecorder) -> Violation | None:
    ticks: list[Tick] = []
    simulate(run_result.case, run_result.seed, run_result.trace, record=[ticks.append])
    first, second = ([json.dumps(encode_tick(t)) for t in run] for run in ([s.tick for s in recorder.past], ticks))
    if first == second:
        return None
    differs = next((k for k, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(second))
    sentence = "The same seed gives the same journal, byte for byte."
    return Violation("one_seed_one_journal", sentence, f"turn {differs} differs in a second run")
