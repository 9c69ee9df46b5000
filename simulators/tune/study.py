"""Study: the completed trials, the running ones and the next one, kept in Optuna's storage.

Only the leading client writes. Trials that ran when a client was killed run again under the same number, so that none
is lost and none is counted twice. Each trial's random stream comes from the study's seed and its number, so that a
resumed study continues as it would have without the interruption.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from scaler.config.problems import ConfigError, Problem
from simulators.experiments.contenders.contenders import SELF
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.tune.objectives import Figures, figures
from simulators.tune.space import Dimension, Space, Value, contender_text
from simulators.tune.trial import PruneLimits, StageFigures, TrialJob, TrialOutcome, WindowResult

SAMPLERS: Final = ("tpe", "nsga2", "cmaes")
STARTUP_TRIALS: Final = 20
"""Random trials before TPE learns: two or three for each setting."""
POPULATION: Final = 30
"""NSGA-II's population: 300 trials are 10 generations."""
MAX_VIOLATION_FACTOR: Final = 2.0
"""The search maps late shares up to this multiple of the allowed one: 2 % with 1 % allowed."""
PRUNE_FACTOR: Final = 10.0
"""A trial is pruned after the first part above this multiple of the allowed late share, and above `PRUNE_SHARE`."""
PRUNE_SHARE: Final = 0.05
PENALTY: Final = 1.0
"""CMA-ES minimizes cost * (1 + PENALTY * (late / allowed - 1)): 3 % late with 1 % allowed triples the cost."""
MIN_ALLOWED: Final = 1e-4
"""The smallest allowed share that the penalty divides by, for an SLO of 100 %."""
MANIFEST: Final = "manifest"


@dataclass(frozen=True, slots=True)
class CompletedTrial:
    """A completed trial: its number, its settings, and its figures on the tuning traffic."""

    number: int
    settings: Mapping[str, Value]
    results: tuple[WindowResult, ...]
    figures: Figures

    @property
    def contender(self) -> str:
        """The trial as ``forescale compare --policies`` takes it."""
        return SELF if self.number == 0 else contender_text(self.settings)


class Study:
    """One study. `allowed` is the share of requests that may be late."""

    def __init__(self, optuna_study: Any, space: Space, sampler: str, seed: int, allowed: float) -> None:
        self.optuna = optuna_study
        self.space = space
        self._sampler = sampler
        self._seed = seed
        self.allowed = allowed
        self._distributions = {d.path: _distribution(d) for d in space.dimensions}
        self._open_trials: dict[int, Any] = {}
        self.completed: list[CompletedTrial] = []
        self.pruned = self.refused = 0
        self._stages: list[list[StageFigures]] = [[], []]
        self._first_late = 0.0
        self._restore()

    @property
    def finished(self) -> int:
        """The number of ended trials: completed, pruned or refused."""
        return len(self.completed) + self.pruned + self.refused

    def unfinished_jobs(self) -> list[TrialJob]:
        """Return the jobs that ran when the last client ended.

        Partially drawn trials are marked as failed.
        """
        jobs = []
        for trial in self._trials("RUNNING"):
            if set(trial.params) == set(self._distributions):
                with _warnings_ignored():
                    self._open_trials[trial.number] = _ResumedTrial(self.optuna, trial)
                jobs.append(self._job(trial.number, trial.params))
            else:
                self.optuna.tell(trial.number, state=_state("FAIL"))
        return jobs

    def next_job(self) -> TrialJob:
        """Return the job of the next trial, drawn from all outcomes so far.

        The first one has the present settings.
        """
        number = len(self.optuna.get_trials(deepcopy=False))
        if not number:
            self.optuna.enqueue_trial(self.space.present, skip_if_exists=True)
        with _warnings_ignored():
            self.optuna.sampler = self._sampler_for(number)
            trial = self.optuna.ask(self._distributions)
        self._open_trials[trial.number] = trial
        return self._job(trial.number, trial.params)

    def record(self, job: TrialJob, outcome: TrialOutcome) -> None:
        """Record a trial's outcome."""
        trial = self._open_trials.pop(job.number)
        trial.set_user_attr("stages", [list(stage) for stage in outcome.stages])
        if outcome.refused:
            trial.set_user_attr("refused", outcome.refused)
            self.optuna.tell(job.number, state=_state("FAIL"))
        elif outcome.pruned:
            trial.set_user_attr("cut", outcome.pruned)
            self.optuna.tell(job.number, state=_state("PRUNED"))
        else:
            trial.set_user_attr("played", json.dumps([p.as_json() for p in outcome.results], separators=(",", ":")))
            result = figures(outcome.results)
            with _warnings_ignored():
                trial.set_constraint("late", result.late_share - MAX_VIOLATION_FACTOR * self.allowed)
                self.optuna.tell(job.number, self._objective_values(result))
        self._count(job.number, dict(trial.params), outcome)

    def _count(self, number: int, params: Mapping[str, Any], outcome: TrialOutcome) -> None:
        if outcome.refused:
            self.refused += 1
        elif outcome.pruned:
            self.pruned += 1
        else:
            settings = self.space.applied(params)
            self.completed.append(CompletedTrial(number, settings, outcome.results, figures(outcome.results)))
            for others, reached in zip(self._stages, outcome.stages, strict=True):
                others.append(reached)
            if number == 0:
                self._first_late = outcome.stages[0][1]

    def _restore(self) -> None:
        """Read the recorded trials from the storage."""
        for trial in self._trials("COMPLETE", "PRUNED", "FAIL"):
            if trial.state.name == "FAIL" and "refused" not in trial.user_attrs:
                continue
            attrs = trial.user_attrs
            results = tuple(WindowResult.of_json(p) for p in json.loads(attrs.get("played", "[]")))
            stages = tuple((s[0], s[1]) for s in attrs["stages"])
            outcome = TrialOutcome(results, stages, attrs.get("cut", ""), attrs.get("refused", ""))
            self._count(trial.number, trial.params, outcome)

    def _trials(self, *states: str) -> list[Any]:
        trials: list[Any] = self.optuna.get_trials(deepcopy=False, states=tuple(_state(s) for s in states))
        return trials

    def _job(self, number: int, params: Mapping[str, Any]) -> TrialJob:
        if number == 0:
            return TrialJob(0, SELF)
        max_late_share = max(PRUNE_FACTOR * self.allowed, PRUNE_SHARE, self._first_late if self.completed else math.inf)
        limits = PruneLimits((_undominated(self._stages[0]), _undominated(self._stages[1])), max_late_share)
        return TrialJob(number, contender_text(self.space.applied(params)), limits=limits)

    def _objective_values(self, result: Figures) -> list[float]:
        cost, late = result.usd_per_month, result.late_share
        if self._sampler == "cmaes":
            return [cost * (1 + PENALTY * max(0.0, late / max(self.allowed, MIN_ALLOWED) - 1))]
        return [cost, late]

    def _sampler_for(self, number: int) -> Any:
        from optuna import samplers  # noqa: PLC0415 - an extra, and slow to import

        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        if self._sampler == "cmaes":
            present = {k: v for k, v in self.space.present.items() if not isinstance(v, bool | str)}
            return samplers.CmaEsSampler(x0=present, seed=seed, warn_independent_sampling=False)
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True)


class _ResumedTrial:
    """A trial that an earlier client drew, with what recording its outcome needs."""

    def __init__(self, study: Any, trial: Any) -> None:
        from optuna.trial import Trial  # noqa: PLC0415

        self._trial = Trial(study, trial._trial_id)  # noqa: SLF001 - Optuna resumes a trial by its id
        self.params = trial.params

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


def study(storage: Any, name: str, space: Space, manifest: Mapping[str, Any], allowed: float) -> Study:
    """Create or resume the study of this name. Raises `ConfigError` if its manifest differs."""
    import optuna  # noqa: PLC0415 - an extra, and slow to import

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objectives = ["minimize"] if manifest["sampler"] == "cmaes" else ["minimize", "minimize"]
    optuna_study = optuna.create_study(storage=storage, study_name=name, directions=objectives, load_if_exists=True)
    stored = optuna_study.user_attrs.get(MANIFEST)
    if stored is None:
        if optuna_study.get_trials(deepcopy=False):
            raise _other_study_error(name, "it was not created by forescale")
        optuna_study.set_user_attr(MANIFEST, dict(manifest))
        with _warnings_ignored():
            optuna_study.set_metric_names(["USD a month, raised by lateness"] if len(objectives) == 1 else _METRICS)
    elif stored != manifest:
        raise _other_study_error(name, ", ".join(key for key in manifest if stored.get(key) != manifest[key]))
    return Study(optuna_study, space, manifest["sampler"], manifest["seed"], allowed)


_METRICS: Final = ["USD a month", "share late"]


def _other_study_error(name: str, difference: str) -> ConfigError:
    hint = "repeat the original command, or set another --out and --study"
    return ConfigError([Problem(COMMAND_LINE, 1, "--study", name, f"exists with other inputs: {difference}", hint)])


def _undominated(stages: list[StageFigures]) -> tuple[StageFigures, ...]:
    """Return the figures that no other beats in both cost and late share, by cost."""
    front: list[StageFigures] = []
    for cost, late in sorted(s for s in stages if not math.isnan(s[1])):
        if not front or late < front[-1][1]:
            front.append((cost, late))
    return tuple(front)


def _distribution(d: Dimension) -> Any:
    from optuna import distributions  # noqa: PLC0415 - an extra, and slow to import

    if d.choices:
        return distributions.CategoricalDistribution(d.choices)
    if d.whole:
        return distributions.IntDistribution(int(d.low), int(d.high), log=d.log)
    return distributions.FloatDistribution(d.low, d.high, log=d.log)


def _state(name: str) -> Any:
    from optuna.trial import TrialState  # noqa: PLC0415

    return TrialState[name]


@contextmanager
def _warnings_ignored() -> Iterator[None]:
    """Ignore Optuna's warnings.

    They are about experimental features, and about constraints that CMA-ES does not use.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
