"""Which settings the results depend on: PED-ANOVA, over the trials that ran to their end.

Source: S. Watanabe, A. Bansal and F. Hutter, "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
subspaces" (IJCAI 2023), as Optuna has it. It compares the best tenth of the trials with all: a setting that is spread
among the best as among all does not matter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Final

from simulators.tune.result import Importance
from simulators.tune.study import CompletedTrial, Study

LEAST: Final = 30
"""Fewer trials leave three in the best tenth: too few to tell anything by."""


def importance(study: Study) -> tuple[Importance, ...]:
    """Return each setting's part, the most important for cost first; none with too few trials."""
    if len(study.tried) < LEAST or len(study.space.dimensions) < 2:
        return ()
    told = {t.number: t for t in study.tried}
    cost = _shares(study, {n: t.figures.usd_per_month for n, t in told.items()})
    late = _shares(study, {n: _late(t) for n, t in told.items()})
    found = [Importance(d.path, cost.get(d.path, 0.0), late.get(d.path, 0.0)) for d in study.space.dimensions]
    return tuple(sorted(found, key=lambda one: (-one.cost, one.path)))


def _late(one: CompletedTrial) -> float:
    return one.figures.late_share


def _shares(study: Study, values: Mapping[int, float]) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415 - an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls it experimental
        found: dict[str, float] = get_param_importances(
            study.optuna, evaluator=PedAnovaImportanceEvaluator(), target=lambda trial: values[trial.number]
        )
    return found
