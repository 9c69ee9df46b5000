"""A whole search: trials, front, validation on held-out traffic, and recommendation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.tune.executor import Executor
from simulators.tune.importance import importance
from simulators.tune.objectives import Figures, figures
from simulators.tune.pareto import choice, front, knee, leave_one_out, pick_points
from simulators.tune.result import TrialCounts, TuneResult
from simulators.tune.search import Outcomes, SearchBudget, SearchListener, run_all, search
from simulators.tune.study import CompletedTrial, Study
from simulators.tune.study_inputs import StudyInputs
from simulators.tune.trial import TODAY, TrialJob, TrialOutcome
from simulators.tune.validation import ValidatedPoint, validate_points
from simulators.tune.verdict import TodayFigures, Verdict, VerdictKind, judge


@dataclass(frozen=True, slots=True)
class TuneListeners:
    """Callbacks that get the completed share of the validation and of the page's runs."""

    proving: Callable[[float], None] = lambda _: None
    drawing: Callable[[float], None] = lambda _: None


def tune(  # noqa: PLR0913 - the study, its execution and its listeners
    study: Study,
    executor: Executor,
    inputs: StudyInputs,
    budget: SearchBudget,
    listener: SearchListener,
    listeners: TuneListeners,
    study_info: Mapping[str, Any],
    remarks: tuple[str, ...] = (),
) -> TuneResult | None:
    """Search, validate and simulate the page's runs. Return None if no trial completed.

    A stop request ends the current part only.
    """
    budget_used = search(study, executor, budget, listener)
    listener.stop.acknowledge()
    if not study.completed:
        return None
    allowed = study.allowed
    full_front = front(study.completed, allowed)
    points = pick_points(full_front, allowed)
    chosen = choice(points, allowed)

    def record_late_outcome(job: TrialJob, outcome: TrialOutcome) -> None:
        """Record an outcome that the search left running; ignore those of the validation."""
        if job.task == "search" and job.number != TODAY:
            study.record(job, outcome)

    jobs = _validation_jobs(inputs, points)
    outcomes = run_all(executor, jobs, listeners.proving, listener, record_late_outcome)
    all_validated = len(outcomes) == len(jobs)
    listener.stop.acknowledge()
    validated, today_validation, today_tuning = _validate(study, inputs, points, outcomes)
    verdict = Verdict(VerdictKind.NOT_VALIDATED, "the validation was not completed")
    if all_validated and today_validation is not None:
        today = TodayFigures(today_tuning, today_validation)
        verdict = judge(validated, chosen.number, today, allowed, inputs.stresses)
    after = chosen if verdict.point is None else verdict.point.trial
    page_jobs = [TrialJob(TODAY, inputs.today_contender, "draw"), TrialJob(after.number, after.contender, "draw")]
    shown: Outcomes = {}
    if all_validated:
        shown = run_all(executor, page_jobs, listeners.drawing, listener, record_late_outcome)
    page_data = [shown[job.number, job.task].run_data for job in page_jobs if (job.number, job.task) in shown]
    return TuneResult(
        allowed=allowed,
        completed=tuple(study.completed),
        counts=TrialCounts(study.finished, study.pruned, study.refused),
        stopped=not (budget_used and all_validated),
        points=tuple(points),
        chosen=chosen,
        knee=knee(points),
        today_tuning=today_tuning,
        today_validation=today_validation,
        validated=tuple(validated),
        verdict=verdict,
        validation_text=_validation_text(inputs),
        leave_one_out=tuple(
            (inputs.tuning[k].name, trial, on_trace)
            for k, trial, on_trace in leave_one_out(study.completed, allowed, len(inputs.tuning))
        ),
        importance=importance(study),
        runs_data=tuple(run_data for run_data in page_data if run_data is not None),
        remarks=remarks,
        study_info=study_info,
    )


def _validation_jobs(inputs: StudyInputs, points: list[CompletedTrial]) -> list[TrialJob]:
    """Return the jobs of today's file and of every point on the validation traffic.

    Today's file also runs on the tuning traffic if it was no trial.
    """
    jobs = [TrialJob(TODAY, inputs.today_contender, "prove")]
    if inputs.present is not None:
        jobs.append(TrialJob(TODAY, inputs.today_contender))
    return jobs + [TrialJob(p.number, p.contender, "prove") for p in points]


def _validate(
    study: Study, inputs: StudyInputs, points: list[CompletedTrial], outcomes: Outcomes
) -> tuple[list[ValidatedPoint], Figures | None, Figures | None]:
    """Return the validated points and the figures of today's configuration.

    Today's figures are on the validation traffic and on the tuning traffic, in this order.
    """
    today_tuning = next((t.figures for t in study.completed if t.number == 0), None) if inputs.present is None else None
    if (outcome := outcomes.get((TODAY, "search"))) is not None and outcome.results:
        today_tuning = figures(outcome.results)
    outcome = outcomes.get((TODAY, "prove"))
    if outcome is None or not outcome.results:
        return [], None, today_tuning
    today_validation = figures(outcome.results)
    by_number = {p.number: outcomes[p.number, "prove"] for p in points if (p.number, "prove") in outcomes}
    completed = [p for p in points if p.number in by_number]
    today = (today_tuning, today_validation)
    return validate_points(completed, by_number, today, study.allowed), today_validation, today_tuning


def _validation_text(inputs: StudyInputs) -> str:
    """Return the validation traffic as text."""
    seeds = len(inputs.validation[0].traces)
    runs = f"{seeds} replication{'s' * (seeds != 1)} of each"
    return f"{'; '.join(window.name for window in inputs.validation)}; {runs}"
