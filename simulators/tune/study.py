"""A study: what was tried, what is being tried, and what to try next. All of it lives in Optuna's storage.

Only the leading client writes: it asks for trials, and tells what came of them under their own numbers. What was being
tried when a client was killed is tried again under the same number, so that none is lost and none is counted twice.
The chance of each trial comes from the study's seed and its number: a study taken up again goes on as it would have.
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
from simulators.tune.space import Dimension, Space, Value, word
from simulators.tune.trial import Bars, Job, Played, Stage, TrialOutcome

SAMPLERS: Final = ("tpe", "nsga2", "cmaes")
STARTUP: Final = 20
"""Trials by chance before TPE begins to learn: two or three a setting."""
POPULATION: Final = 30
"""Of NSGA-II: some generations must fit into some hundred trials."""
FAR: Final = 2.0
"""A share of late requests beyond so many times the promise's is outside what the search is to map."""
GIVEN_UP: Final = 10.0
"""So many times the promise's, or this share if that is more, are given up after the first part."""
GIVEN_UP_SHARE: Final = 0.05
PENALTY: Final = 1.0
"""CMA-ES knows one objective: a cost, raised by so much for every time that the promise's share is late again."""
LEAST_ALLOWED: Final = 1e-4
"""A promise to all requests divides by no zero: times of one in ten thousand."""
MANIFEST: Final = "manifest"


@dataclass(frozen=True, slots=True)
class CompletedTrial:
    """A trial that ran to its end: its number, its settings, and what they came to on the search's traffic."""

    number: int
    settings: Mapping[str, Value]
    played: tuple[Played, ...]
    figures: Figures

    @property
    def word(self) -> str:
        """The trial as ``forescale compare --policies`` takes it."""
        return SELF if self.number == 0 else word(self.settings)


class Study:
    """One study. `allowed` is the share of requests that may be late."""

    def __init__(self, optuna_study: Any, space: Space, sampler: str, seed: int, allowed: float) -> None:
        self.optuna = optuna_study
        self.space = space
        self._sampler = sampler
        self._seed = seed
        self.allowed = allowed
        self._distributions = {d.path: _distribution(d) for d in space.dimensions}
        self._asked: dict[int, Any] = {}
        self.tried: list[CompletedTrial] = []
        self.cut = self.refused = 0
        self._stages: list[list[Stage]] = [[], []]
        self._first_late = 0.0
        self._recall()

    @property
    def finished(self) -> int:
        """Trials that have ended, in whatever way."""
        return len(self.tried) + self.cut + self.refused

    def left(self) -> list[Job]:
        """Return the trials under way when the last client ended. Trials not drawn to their end are given up."""
        found = []
        for trial in self._trials("RUNNING"):
            if set(trial.params) == set(self._distributions):
                with _quiet():
                    self._asked[trial.number] = _Trial(self.optuna, trial)
                found.append(self._job(trial.number, trial.params))
            else:
                self.optuna.tell(trial.number, state=_state("FAIL"))
        return found

    def ask(self) -> Job:
        """Return the next trial, drawn by all that was told so far."""
        number = len(self.optuna.get_trials(deepcopy=False))
        if not number:
            self.optuna.enqueue_trial(self.space.present, skip_if_exists=True)
        with _quiet():
            self.optuna.sampler = self._sampler_for(number)
            trial = self.optuna.ask(self._distributions)
        self._asked[trial.number] = trial
        return self._job(trial.number, trial.params)

    def tell(self, job: Job, outcome: TrialOutcome) -> None:
        """Write down what came of a trial."""
        trial = self._asked.pop(job.number)
        trial.set_user_attr("stages", [list(stage) for stage in outcome.stages])
        if outcome.refused:
            trial.set_user_attr("refused", outcome.refused)
            self.optuna.tell(job.number, state=_state("FAIL"))
        elif outcome.cut:
            trial.set_user_attr("cut", outcome.cut)
            self.optuna.tell(job.number, state=_state("PRUNED"))
        else:
            trial.set_user_attr("played", json.dumps([p.as_json() for p in outcome.played], separators=(",", ":")))
            told = figures(outcome.played)
            with _quiet():
                trial.set_constraint("late", told.late_share - FAR * self.allowed)
                self.optuna.tell(job.number, self._values(told))
        self._note(job.number, dict(trial.params), outcome)

    def _note(self, number: int, params: Mapping[str, Any], outcome: TrialOutcome) -> None:
        if outcome.refused:
            self.refused += 1
        elif outcome.cut:
            self.cut += 1
        else:
            settings = self.space.applied(params)
            self.tried.append(CompletedTrial(number, settings, outcome.played, figures(outcome.played)))
            for stage, found in zip(self._stages, outcome.stages, strict=True):
                stage.append(found)
            if number == 0:
                self._first_late = outcome.stages[0][1]

    def _recall(self) -> None:
        """Take up what was told before."""
        for trial in self._trials("COMPLETE", "PRUNED", "FAIL"):
            if trial.state.name == "FAIL" and "refused" not in trial.user_attrs:
                continue
            attrs = trial.user_attrs
            played = tuple(Played.of_json(p) for p in json.loads(attrs.get("played", "[]")))
            stages = tuple((s[0], s[1]) for s in attrs["stages"])
            outcome = TrialOutcome(played, stages, attrs.get("cut", ""), attrs.get("refused", ""))
            self._note(trial.number, trial.params, outcome)

    def _trials(self, *states: str) -> list[Any]:
        found: list[Any] = self.optuna.get_trials(deepcopy=False, states=tuple(_state(s) for s in states))
        return found

    def _job(self, number: int, params: Mapping[str, Any]) -> Job:
        if number == 0:
            return Job(0, SELF)
        most = max(GIVEN_UP * self.allowed, GIVEN_UP_SHARE, self._first_late if self.tried else math.inf)
        bars = Bars((_undominated(self._stages[0]), _undominated(self._stages[1])), most)
        return Job(number, word(self.space.applied(params)), bars=bars)

    def _values(self, told: Figures) -> list[float]:
        cost, late = told.usd_per_month, told.late_share
        if self._sampler == "cmaes":
            return [cost * (1 + PENALTY * max(0.0, late / max(self.allowed, LEAST_ALLOWED) - 1))]
        return [cost, late]

    def _sampler_for(self, number: int) -> Any:
        from optuna import samplers  # noqa: PLC0415 - an extra, and slow to import

        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self._sampler == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        if self._sampler == "cmaes":
            present = {k: v for k, v in self.space.present.items() if not isinstance(v, bool | str)}
            return samplers.CmaEsSampler(x0=present, seed=seed, warn_independent_sampling=False)
        return samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True)


class _Trial:
    """A trial that another client asked for, as far as telling needs it."""

    def __init__(self, study: Any, trial: Any) -> None:
        from optuna.trial import Trial  # noqa: PLC0415

        self._trial = Trial(study, trial._trial_id)  # noqa: SLF001 - Optuna's own way to take a trial up again
        self.params = trial.params

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)


def study(storage: Any, name: str, space: Space, manifest: Mapping[str, Any], allowed: float) -> Study:
    """Return the study of this name, begun or taken up again. Raises `ConfigError` if it is of something else."""
    import optuna  # noqa: PLC0415 - an extra, and slow to import

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    objectives = ["minimize"] if manifest["sampler"] == "cmaes" else ["minimize", "minimize"]
    found = optuna.create_study(storage=storage, study_name=name, directions=objectives, load_if_exists=True)
    before = found.user_attrs.get(MANIFEST)
    if before is None:
        if found.get_trials(deepcopy=False):
            raise _other(name, "it was not made by forescale")
        found.set_user_attr(MANIFEST, dict(manifest))
        with _quiet():
            found.set_metric_names(["USD a month, raised by lateness"] if len(objectives) == 1 else _METRICS)
    elif before != manifest:
        raise _other(name, ", ".join(key for key in manifest if before.get(key) != manifest[key]))
    return Study(found, space, manifest["sampler"], manifest["seed"], allowed)


_METRICS: Final = ["USD a month", "share late"]


def _other(name: str, what: str) -> ConfigError:
    hint = "repeat the command as it was, or give another --out and --study"
    return ConfigError(
        [Problem(COMMAND_LINE, 1, "--study", name, f"is a study of something else; what differs: {what}", hint)]
    )


def _undominated(stages: list[Stage]) -> tuple[Stage, ...]:
    """Those that none undercuts in both, in order of cost."""
    found: list[Stage] = []
    for cost, late in sorted(s for s in stages if not math.isnan(s[1])):
        if not found or late < found[-1][1]:
            found.append((cost, late))
    return tuple(found)


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
def _quiet() -> Iterator[None]:
    """Optuna warns of what it calls experimental, and of constraints that CMA-ES passes over: both are known here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
