"""A whole search: trials, the front, its proof on traffic that the search never saw, and what to make of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulators.tune.executor import Executor
from simulators.tune.importance import importance
from simulators.tune.objectives import Figures, figures
from simulators.tune.pareto import choice, front, knee, left_out, picked
from simulators.tune.result import TrialCounts, TuneResult
from simulators.tune.search import Outcomes, SearchBudget, SearchListener, run_all, search
from simulators.tune.study import CompletedTrial, Study
from simulators.tune.study_inputs import Bundle
from simulators.tune.trial import TODAY, TrialJob, TrialOutcome
from simulators.tune.validation import ValidatedPoint, dared, promise, proven


@dataclass(frozen=True, slots=True)
class TuneListeners:
    """Who is told: of the search, and of the share of the proof that is done."""

    proving: Callable[[float], None] = lambda _: None
    drawing: Callable[[float], None] = lambda _: None


def tune(  # noqa: PLR0913 - a study, what runs it and for how long, and who is told
    study: Study,
    engine: Executor,
    bundle: Bundle,
    budget: SearchBudget,
    watch: SearchListener,
    told: TuneListeners,
    made: Mapping[str, Any],
    remarks: tuple[str, ...] = (),
) -> TuneResult | None:
    """Search, prove, draw. None if nothing was tried to its end. To end all of it, ask in each part."""
    ended = search(study, engine, budget, watch)
    watch.stop.heed()
    if not study.tried:
        return None
    allowed = study.allowed
    found = front(study.tried, allowed)
    points = picked(found, allowed)
    chosen = choice(points, allowed)

    def late(job: TrialJob, outcome: TrialOutcome) -> None:
        """Hand jobs that ended late to the study; those of the validation belong to nobody."""
        if job.task == "search" and job.number != TODAY:
            study.tell(job, outcome)

    jobs = _proof(bundle, points)
    outcomes = run_all(engine, jobs, told.proving, watch, late)
    proved = len(outcomes) == len(jobs)
    watch.stop.heed()
    verdicts, today, searched = _judged(study, bundle, points, outcomes)
    best, why = None, "the proof was not run to its end"
    if proved and today is not None:
        best, why = dared(verdicts, chosen.number, promise(today, allowed))
    after = chosen if best is None else best.tried
    drawn = [TrialJob(TODAY, bundle.before, "draw"), TrialJob(after.number, after.word, "draw")]
    pictures = run_all(engine, drawn, told.drawing, watch, late) if proved else {}
    shown = [pictures[job.number, job.task].run_data for job in drawn if (job.number, job.task) in pictures]
    return TuneResult(
        allowed=allowed,
        tried=tuple(study.tried),
        counts=TrialCounts(study.finished, study.cut, study.refused),
        stopped=not (ended and proved),
        points=tuple(points),
        chosen=chosen,
        knee=knee(points),
        searched=searched,
        today=today,
        proven=tuple(verdicts),
        dared=best,
        why=why,
        proof_said=_said(bundle),
        left_out=tuple(
            (bundle.train[k].name, one, alone) for k, one, alone in left_out(study.tried, allowed, len(bundle.train))
        ),
        importance=importance(study),
        runs_data=tuple(run_data for run_data in shown if run_data is not None),
        remarks=remarks,
        made=made,
    )


def _proof(bundle: Bundle, points: list[CompletedTrial]) -> list[TrialJob]:
    """Return the trials of today's file and of every point on the validation traffic.

    Today's file is tried on the search's traffic too if no trial was it.
    """
    jobs = [TrialJob(TODAY, bundle.before, "prove")]
    if bundle.present is not None:
        jobs.append(TrialJob(TODAY, bundle.before))
    return jobs + [TrialJob(p.number, p.word, "prove") for p in points]


def _judged(
    study: Study, bundle: Bundle, points: list[CompletedTrial], outcomes: Outcomes
) -> tuple[list[ValidatedPoint], Figures | None, Figures | None]:
    """Return the validated points, and today's figures on the validation traffic and on the tuning traffic."""
    first = next((t.figures for t in study.tried if t.number == 0), None) if bundle.present is None else None
    if (done := outcomes.get((TODAY, "search"))) is not None and done.played:
        first = figures(done.played)
    now = outcomes.get((TODAY, "prove"))
    if now is None or not now.played:
        return [], None, first
    today = figures(now.played)
    proofs = {p.number: outcomes[p.number, "prove"] for p in points if (p.number, "prove") in outcomes}
    told = [p for p in points if p.number in proofs]
    return proven(told, proofs, (first, today), study.allowed), today, first


def _said(bundle: Bundle) -> str:
    """Return the validation traffic in words."""
    seeds = len(bundle.proof[0].traces)
    runs = f"{seeds} replication{'s' * (seeds != 1)} of each"
    return f"{'; '.join(stretch.name for stretch in bundle.proof)}; {runs}"
