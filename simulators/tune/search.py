"""The search itself: trials asked for, run on an engine, told; until the budget is used up or somebody ends it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.clock import stopwatch_s
from simulators.tune.executor import Executor
from simulators.tune.storage import Lease
from simulators.tune.study import Study
from simulators.tune.trial import Job, TrialOutcome

WAIT_S: Final = 0.5
"""Between two looks at whether it is to end."""
UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MAX_TRIALS: Final = 1_000_000
Told = Callable[[Study, float], None]
"""Is told how the study stands, and which share of the budget is used."""
Other = Callable[[Job, TrialOutcome], None]
Outcomes = dict[tuple[int, str], TrialOutcome]
"""What came of jobs, by number and task."""


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """How long to search: so many trials of the study in all, or so many seconds from now."""

    trials: int | None = None
    seconds: float | None = None

    @staticmethod
    def of(text: str) -> SearchBudget:
        """Return a budget in words, such as ``500-trials`` or ``10m``. Raises `ValueError`."""
        if found := re.fullmatch(r"([1-9]\d{0,6})-trials?", text):
            if int(found[1]) <= MAX_TRIALS:
                return SearchBudget(trials=int(found[1]))
        elif (found := re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", text)) and float(found[1]) > 0:
            return SearchBudget(seconds=float(found[1]) * UNITS_S[found[2]])
        raise ValueError("must be a number of trials or a time, as in 500-trials, 90s, 10m, 2h")

    def used(self, trials: int, seconds: float) -> float:
        """Return the share that is used up."""
        if self.trials is not None:
            return trials / self.trials
        return seconds / self.seconds if self.seconds else 1.0


class StopRequests:
    """Requests to end, as of Ctrl-C: each ends what is being done, and not what comes after it."""

    def __init__(self) -> None:
        self._asked = self._heeded = 0

    def __call__(self) -> bool:
        return self._asked > self._heeded

    def ask(self) -> None:
        """End what is being done."""
        self._asked += 1

    def heed(self) -> None:
        """Mark the stop requested so far as carried out."""
        self._heeded = self._asked


@dataclass(frozen=True, slots=True)
class SearchListener:
    """Who follows a search: is told how it stands, may end it, and keeps the lead of its study."""

    told: Told = lambda _study, _share: None
    stop: StopRequests = field(default_factory=StopRequests)
    lease: Lease | None = None


def search(study: Study, engine: Executor, budget: SearchBudget, watch: SearchListener) -> bool:
    """Search. Whether the budget was used up; else somebody stopped it, and what was running is left to be taken up."""
    began_s = stopwatch_s()
    left, running = study.left(), set[int]()
    while not watch.stop():
        now_s = stopwatch_s()
        if watch.lease is not None:
            watch.lease.renew(now_s)
        while len(running) < engine.room() and (
            left or budget.used(study.finished + len(running), now_s - began_s) < 1
        ):
            job = left.pop(0) if left else study.ask()
            engine.submit(job)
            running.add(job.number)
        if not running:
            watch.told(study, 1.0)
            return True
        for job, outcome in engine.wait(WAIT_S):
            running.discard(job.number)
            study.tell(job, outcome)
        watch.told(study, min(1.0, budget.used(study.finished, stopwatch_s() - began_s)))
    return False


def run_all(
    engine: Executor, jobs: Sequence[Job], told: Callable[[float], None], watch: SearchListener, other: Other
) -> Outcomes:
    """Run jobs to their end; what had ended when that was stopped. What the search left running is told to `other`."""
    left, done = list(jobs), Outcomes()
    mine = {(job.number, job.task) for job in jobs}
    told(0.0)
    while len(done) < len(jobs) and not watch.stop():
        if watch.lease is not None:
            watch.lease.renew(stopwatch_s())
        while left and len(jobs) - len(left) - len(done) < engine.room():
            engine.submit(left.pop(0))
        for job, outcome in engine.wait(WAIT_S):
            if (job.number, job.task) in mine:
                done[job.number, job.task] = outcome
            else:
                other(job, outcome)
        told(len(done) / len(jobs))
    return done
