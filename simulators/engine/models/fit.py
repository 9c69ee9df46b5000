"""A service model's coefficients from recorded runs of a real engine.

The coefficients are not regressed on step times: each candidate is simulated on every run, and what is compared are the
times that users see. Runs tell some coefficients well (the memory-bound step time, launch times) and others hardly (the
front end's time per sequence), so each is drawn towards the base model's, by `WIDTHS`: least squares with a log-normal
prior, robust against single measures that the model cannot explain (soft L1).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize_scalar

from simulators.engine.models.replay import errors, log_errors
from simulators.engine.models.runs import EngineRun
from simulators.engine.models.service import ServiceModel

WIDTHS: Final[Mapping[str, float]] = {
    "mem_base_s": 0.03,
    "mem_token_s": 0.1,
    "cmp_base_s": 0.5,
    "cmp_token_s": 0.1,
    "cmp_seq_s": 0.5,
    "kv_decode_s": 0.05,
    "kv_mixed_s": 0.15,
    "attn_pair_s": 0.1,
    "host_decode_s": 0.3,
    "host_graph_s": 0.2,
    "host_eager_s": 0.2,
    "host_seq_s": 0.5,
    "ingest_s": 0.5,
    "front_base_s": 0.5,
    "front_seq_s": 0.5,
}
"""What is fitted, and how far from the base model's value it is expected: the standard deviation of its logarithm."""
WEIGHTS: Final[Mapping[str, float]] = {"ttft_p50": 1, "ttft_p95": 1, "tpot": 2, "e2e": 2, "throughput": 2}
"""Mean times are known to half of what quantiles of TTFT are."""
NOISE: Final = 0.03
"""The error of a measure from which on it counts linearly, not squared. Share."""
FEW: Final = 20
"""A run of fewer requests is never held out: it shows one effect, not a service."""
SMALL: Final = 100
"""A run of fewer requests counts half: its quantiles are those of a few bursts."""
OPEN_LOOP_WEIGHT: Final = 2.0
"""Replayed traffic counts twice. Closed loops send equal requests, whose decode steps were measured 2 % faster than
those of ragged traffic with the same batch and cache, and no coefficient tells the two apart."""
STEP: Final = 0.01
"""Share by which a coefficient is moved to see what it does: enough to move a schedule's discrete choices."""
ROUNDS: Final = 25
FOLDS: Final = 4
CHANCES: Final = 3
DIGITS: Final = 5
"""Significant digits kept of a coefficient."""
MAX_LOG_SCALE: Final = math.log(8)

Errors = Mapping[str, Mapping[str, float]]
Fitter = Callable[[Mapping[str, EngineRun], ServiceModel, tuple[int, ...]], ServiceModel]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted model, its errors on the runs it was fitted to, and on each when it was held back from the fit."""

    model: ServiceModel
    fitted: Errors
    held_out: Errors


@dataclass(frozen=True, slots=True)
class How:
    """How to calibrate: what is fitted, the runs held out together (none: each in its turn), the seed of the noise."""

    fitter: Fitter
    held: Sequence[str] = ()
    seed: int = 0


def keys(seed: int) -> tuple[int, ...]:
    """Return the keys of the chances over which simulated measures are averaged."""
    return tuple(seed * 1_000_003 + i * 65_537 for i in range(CHANCES))


def calibrate(
    runs: Mapping[str, EngineRun],
    base: ServiceModel,
    how: How,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Fit to all runs; and, for the errors on runs held out (see `splits`), to the others.

    `progress` is told the number of fits done and of all fits. Raises `ValueError` where a request of a run does not
    fit into the base model's KV cache.
    """
    chances, fitter = keys(how.seed), how.fitter
    parts = splits(runs, how.held)
    outside: dict[str, Mapping[str, float]] = {}
    for done, (rest, group) in enumerate(parts):
        progress(done, len(parts) + 1)
        outside |= errors(fitter(rest, base, chances), group, chances)
    progress(len(parts), len(parts) + 1)
    model = fitter(runs, base, chances)
    order = [*runs, *(name for name in outside if name not in runs)]
    return Calibration(model, errors(model, runs, chances), {name: outside[name] for name in order if name in outside})


def splits(
    runs: Mapping[str, EngineRun], held: Sequence[str] = ()
) -> list[tuple[dict[str, EngineRun], dict[str, EngineRun]]]:
    """Pairs of the runs to fit to and the runs held out meanwhile.

    `held` are held out together. Without it the runs of at least `FEW` requests are dealt to `FOLDS` groups, in their
    order, and each group is held out in turn. Of a single run the second half is held out from a fit to the first.
    """
    if len(runs) == 1:
        (run,) = runs.values()
        half = len(run) // 2
        return [({run.name: run.part(0, half)}, {f"{run.name}, second half": run.part(half, len(run))})] if half else []
    able = [name for name, run in runs.items() if len(run) >= FEW]
    groups = [list(held)] if held else [able[i::FOLDS] for i in range(FOLDS)]
    found = []
    for group in groups:
        rest = {name: run for name, run in runs.items() if name not in group}
        if group and rest:
            found.append((rest, {name: runs[name] for name in runs if name in group}))
    return found


def fit_coefficients(runs: Mapping[str, EngineRun], base: ServiceModel, chances: tuple[int, ...]) -> ServiceModel:
    """Every coefficient in `WIDTHS` that the base model has; those that it leaves out stay out."""
    names = [name for name in WIDTHS if getattr(base, name) > 0]
    widths = np.array([WIDTHS[name] for name in names])

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        model = _moved(base, names, x - 1)
        found = [r for run in runs.values() for r in _residuals(model, run, chances)]
        return np.array([*found, *((x - 1) / widths)])

    start = np.ones(len(names))  # of 1 + log(value / base): the solver's step is a share of x
    found = least_squares(residuals, start, diff_step=STEP, x_scale=0.1, max_nfev=ROUNDS)
    return _moved(base, names, found.x - 1)


def fit_scale(runs: Mapping[str, EngineRun], base: ServiceModel, chances: tuple[int, ...]) -> ServiceModel:
    """One factor on all the base model's times."""

    def cost(log_scale: float) -> float:
        model = scaled(base, math.exp(log_scale))
        return math.fsum(r * r for run in runs.values() for r in _residuals(model, run, chances))

    grid = np.linspace(-MAX_LOG_SCALE, MAX_LOG_SCALE, 41)
    best = float(min(grid, key=cost))
    width = float(grid[1] - grid[0])
    found = minimize_scalar(cost, bounds=(best - width, best + width), method="bounded", options={"xatol": 1e-4})
    return scaled(base, _rounded(math.exp(float(found.x))))


def scaled(model: ServiceModel, factor: float) -> ServiceModel:
    """Return the model with all its times multiplied by `factor`."""
    times: dict[str, Any] = {
        f.name: _rounded(getattr(model, f.name) * factor) for f in dataclasses.fields(model) if f.name.endswith("_s")
    }
    return dataclasses.replace(model, **times)


def _residuals(model: ServiceModel, run: EngineRun, chances: tuple[int, ...]) -> list[float]:
    """Return the run's errors, weighted, with squares that grow as soft L1 does."""
    weight = (1.0 if len(run) >= SMALL else 0.5) * (1.0 if run.clients() else OPEN_LOOP_WEIGHT)
    found = []
    for measure, error in log_errors(model, run, chances).items():
        z = weight * WEIGHTS[measure] * error / NOISE
        found.append(math.copysign(math.sqrt(2 * (math.sqrt(1 + z * z) - 1)), z))
    return found


def _moved(base: ServiceModel, names: Sequence[str], logs: NDArray[np.float64]) -> ServiceModel:
    times: dict[str, Any] = {
        name: _rounded(getattr(base, name) * math.exp(v)) for name, v in zip(names, logs.tolist(), strict=True)
    }
    return dataclasses.replace(base, **times)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
