"""Search loop: draw trials, run them on an executor and record them.

It ends when the budget is used or a stop is requested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from scaler.clock import stopwatch_s
from simulators.tune.executor import Executor
from simulators.tune.storage import StudyLease
from simulators.tune.study import Study
from simulators.tune.trial import TrialJob, TrialOutcome

WAIT_S: Final = 0.5
"""The time between two checks for a stop request. Seconds."""
UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
MAX_TRIALS: Final = 1_000_000
OnProgress = Callable[[Study, float], None]
"""A callback that gets the study and the used share of the budget."""
OnLateOutcome = Callable[[TrialJob, TrialOutcome], None]
Outcomes = dict[tuple[int, str], TrialOutcome]
"""The outcomes of jobs by number and task."""


@dataclass(frozen=True, slots=True)
class SearchBudget:
    """The budget of a search.

    It is the total number of trials of the study, or a time in seconds from the start of this command.
    """

    trials: int | None = None
    seconds: float | None = None

    @staticmethod
    def of(text: str) -> SearchBudget:
        """Return the budget of a text such as ``500-trials`` or ``10m``. Raises `ValueError`."""
        if match := re.fullmatch(r"([1-9]\d{0,6})-trials?", text):
            if int(match[1]) <= MAX_TRIALS:
                return SearchBudget(trials=int(match[1]))
        elif (match := re.fullmatch(r"(\d{1,6}(?:\.\d+)?)([smhd])", text)) and float(match[1]) > 0:
            return SearchBudget(seconds=float(match[1]) * UNITS_S[match[2]])
        raise ValueError("must be a number of trials or a time, as in 500-trials, 90s, 10m, 2h")

    def used(self, trials: int, seconds: float) -> float:
        """Return the used share: 125 of 500 trials are 0.25."""
        if self.trials is not None:
            return trials / self.trials
        return seconds / self.seconds if self.seconds else 1.0


class StopRequests:
    """Stop requests, as by Ctrl-C: each ends the current part of the work, not the next one."""

    def __init__(self) -> None:
        self._requested = self._acknowledged = 0

    def __call__(self) -> bool:
        return self._requested > self._acknowledged

    def request(self) -> None:
        """Request the end of the current part."""
        self._requested += 1

    def acknowledge(self) -> None:
        """Mark all requests so far as handled."""
        self._acknowledged = self._requested


@dataclass(frozen=True, slots=True)
class SearchListener:
    """The observer of a search.

    It gets the progress of the search, may stop it, and renews the lease of its study.
    """

    on_progress: OnProgress = lambda _study, _share: None
    stop: StopRequests = field(default_factory=StopRequests)
    lease: StudyLease | None = None


def search(study: Study, executor: Executor, budget: SearchBudget, listener: SearchListener) -> bool:
    """Search until the budget is used.

    Return False if stopped before: the running trials can be resumed.
    """
    began_s = stopwatch_s()
    unfinished, running = study.unfinished_jobs(), set[int]()
    while not listener.stop():
        now_s = stopwatch_s()
        if listener.lease is not None:
            listener.lease.renew(now_s)
        while len(running) < executor.capacity() and (
            unfinished or budget.used(study.finished + len(running), now_s - began_s) < 1
        ):
            job = unfinished.pop(0) if unfinished else study.next_job()
            executor.submit(job)
            running.add(job.number)
        if not running:
            listener.on_progress(study, 1.0)
            return True
        for job, outcome in executor.wait(WAIT_S):
            running.discard(job.number)
            study.record(job, outcome)
        listener.on_progress(study, min(1.0, budget.used(study.finished, stopwatch_s() - began_s)))
    return False


def run_all(
    executor: Executor,
    jobs: Sequence[TrialJob],
    on_progress: Callable[[float], None],
    listener: SearchListener,
    on_late_outcome: OnLateOutcome,
) -> Outcomes:
    """Run the jobs and return their outcomes, without the unfinished ones if stopped.

    `on_late_outcome` gets the outcomes of jobs that an earlier part left running.
    """
    waiting, outcomes = list(jobs), Outcomes()
    own = {(job.number, job.task) for job in jobs}
    on_progress(0.0)
    while len(outcomes) < len(jobs) and not listener.stop():
        if listener.lease is not None:
            listener.lease.renew(stopwatch_s())
        while waiting and len(jobs) - len(waiting) - len(outcomes) < executor.capacity():
            executor.submit(waiting.pop(0))
        for job, outcome in executor.wait(WAIT_S):
            if (job.number, job.task) in own:
                outcomes[job.number, job.task] = outcome
            else:
                on_late_outcome(job, outcome)
        on_progress(len(outcomes) / len(jobs))
    return outcomes
