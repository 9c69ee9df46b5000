"""Importance of settings by PED-ANOVA, over the completed trials.

Source: S. Watanabe, A. Bansal and F. Hutter, "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
subspaces" (IJCAI 2023), in Optuna's implementation. It compares the best tenth of the trials with all trials: a setting
with the same distribution in both does not matter.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Final

from simulators.tune.result import Importance
from simulators.tune.study import Study

MIN_TRIALS: Final = 30
"""The minimum number of trials: the best tenth of 30 is 3."""


def importance(study: Study) -> tuple[Importance, ...]:
    """Return each setting's importance, the most important for cost first.

    The result is empty with too few trials, or with fewer than two settings.
    """
    if len(study.completed) < MIN_TRIALS or len(study.space.dimensions) < 2:
        return ()
    trials = {t.number: t for t in study.completed}
    cost = _shares(study, {n: t.figures.usd_per_month for n, t in trials.items()})
    late = _shares(study, {n: t.figures.late_share for n, t in trials.items()})
    settings = [Importance(d.path, cost.get(d.path, 0.0), late.get(d.path, 0.0)) for d in study.space.dimensions]
    return tuple(sorted(settings, key=lambda setting: (-setting.cost, setting.path)))


def _shares(study: Study, values: Mapping[int, float]) -> dict[str, float]:
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances  # noqa: PLC0415 - an extra

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna calls it experimental
        shares: dict[str, float] = get_param_importances(
            study.optuna, evaluator=PedAnovaImportanceEvaluator(), target=lambda trial: values[trial.number]
        )
    return shares
