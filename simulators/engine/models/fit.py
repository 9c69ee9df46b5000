"""Fit of a service model's coefficients to recorded runs of a real engine.

The fit does not regress step times. It simulates each candidate model on every run, and compares the times that users
see. Runs determine some coefficients well (memory-bound step time, launch times) and others poorly (front-end time per
sequence). So a log-normal prior (`WIDTHS`) pulls each coefficient towards the base model, and the least squares are
robust (soft L1) against single measures that the model cannot explain.
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
"""Fitted coefficients, each with the standard deviation of the logarithm of fitted / base: 0.03 is about 3 %."""
WEIGHTS: Final[Mapping[str, float]] = {"ttft_p50": 1, "ttft_p95": 1, "tpot": 2, "e2e": 2, "throughput": 2}
"""Mean times have half the uncertainty of TTFT quantiles."""
NOISE: Final = 0.03
"""Error of a measure above which it counts linearly instead of squared. Share."""
MIN_HELD_OUT_REQUESTS: Final = 20
"""A run of fewer requests is never held out: it shows one effect, not a service."""
FULL_WEIGHT_REQUESTS: Final = 100
"""A run of fewer requests has half the weight: its quantiles are those of a few bursts."""
OPEN_LOOP_WEIGHT: Final = 2.0
"""Replayed traffic counts twice. Closed loops send equal requests, whose decode steps were measured 2 % faster than
those of ragged traffic with the same batch and cache, and no coefficient separates the two."""
DIFF_STEP: Final = 0.01
"""Relative step of the numerical derivative: large enough to change a schedule's discrete choices."""
MAX_EVALUATIONS: Final = 25
FOLDS: Final = 4
STREAMS: Final = 3
"""Random streams over which simulated measures are averaged."""
DIGITS: Final = 5
"""Significant digits of a fitted coefficient."""
MAX_LOG_SCALE: Final = math.log(8)

Errors = Mapping[str, Mapping[str, float]]
Fitter = Callable[[Mapping[str, EngineRun], ServiceModel, tuple[int, ...]], ServiceModel]


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted model and its errors.

    `fitted` has the errors on the runs of the fit, `held_out` those on each run when it was held out.
    """

    model: ServiceModel
    fitted: Errors
    held_out: Errors


@dataclass(frozen=True, slots=True)
class CalibrationOptions:
    """Options of a calibration.

    They are the fitter, the runs held out together (none: each in turn), and the seed of the noise.
    """

    fitter: Fitter
    held_out: Sequence[str] = ()
    seed: int = 0


def keys(seed: int) -> tuple[int, ...]:
    """Return the keys of the random streams over which simulated measures are averaged."""
    return tuple(seed * 1_000_003 + i * 65_537 for i in range(STREAMS))


def calibrate(
    runs: Mapping[str, EngineRun],
    base: ServiceModel,
    options: CalibrationOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibration:
    """Fit a model to all runs, and further models for the errors on held-out runs.

    See `splits`. `progress` receives the number of fits done and the total number. Raises `ValueError` where a request
    of a run does not fit into the base model's KV cache.
    """
    streams, fitter = keys(options.seed), options.fitter
    parts = splits(runs, options.held_out)
    held_out: dict[str, Mapping[str, float]] = {}
    for done, (fitted, group) in enumerate(parts):
        progress(done, len(parts) + 1)
        held_out |= errors(fitter(fitted, base, streams), group, streams)
    progress(len(parts), len(parts) + 1)
    model = fitter(runs, base, streams)
    order = [*runs, *(name for name in held_out if name not in runs)]
    return Calibration(
        model, errors(model, runs, streams), {name: held_out[name] for name in order if name in held_out}
    )


def splits(
    runs: Mapping[str, EngineRun], held_out: Sequence[str] = ()
) -> list[tuple[dict[str, EngineRun], dict[str, EngineRun]]]:
    """Return pairs of the runs to fit to and the runs held out of that fit.

    The runs of `held_out` are held out together. Without it, the runs of at least `MIN_HELD_OUT_REQUESTS` requests are
    dealt to `FOLDS` groups in order, and each group is held out in turn: of runs 0 to 9, the first group is 0, 4, 8. Of
    a single run, the second half is held out of a fit to the first half.
    """
    if len(runs) == 1:
        (run,) = runs.values()
        half = len(run) // 2
        return [({run.name: run.part(0, half)}, {f"{run.name}, second half": run.part(half, len(run))})] if half else []
    eligible = [name for name, run in runs.items() if len(run) >= MIN_HELD_OUT_REQUESTS]
    groups = [list(held_out)] if held_out else [eligible[i::FOLDS] for i in range(FOLDS)]
    pairs = []
    for group in groups:
        fitted = {name: run for name, run in runs.items() if name not in group}
        if group and fitted:
            pairs.append((fitted, {name: runs[name] for name in runs if name in group}))
    return pairs


def fit_coefficients(runs: Mapping[str, EngineRun], base: ServiceModel, streams: tuple[int, ...]) -> ServiceModel:
    """Fit every coefficient in `WIDTHS` that is above 0 in the base model. The others stay 0."""
    names = [name for name in WIDTHS if getattr(base, name) > 0]
    widths = np.array([WIDTHS[name] for name in names])

    def residuals(x: NDArray[np.float64]) -> NDArray[np.float64]:
        model = _with_log_changes(base, names, x - 1)
        from_runs = [r for run in runs.values() for r in _residuals(model, run, streams)]
        return np.array([*from_runs, *((x - 1) / widths)])

    start = np.ones(len(names))  # x is 1 + log(value / base), because the solver's step is a share of x
    solution = least_squares(residuals, start, diff_step=DIFF_STEP, x_scale=0.1, max_nfev=MAX_EVALUATIONS)
    return _with_log_changes(base, names, solution.x - 1)


def fit_scale(runs: Mapping[str, EngineRun], base: ServiceModel, streams: tuple[int, ...]) -> ServiceModel:
    """Fit one factor on all the base model's times."""

    def cost(log_scale: float) -> float:
        model = scaled(base, math.exp(log_scale))
        return math.fsum(r * r for run in runs.values() for r in _residuals(model, run, streams))

    grid = np.linspace(-MAX_LOG_SCALE, MAX_LOG_SCALE, 41)
    best = float(min(grid, key=cost))
    width = float(grid[1] - grid[0])
    solution = minimize_scalar(cost, bounds=(best - width, best + width), method="bounded", options={"xatol": 1e-4})
    return scaled(base, _rounded(math.exp(float(solution.x))))


def scaled(model: ServiceModel, factor: float) -> ServiceModel:
    """Return the model with all its times multiplied by `factor`."""
    times: dict[str, Any] = {
        f.name: _rounded(getattr(model, f.name) * factor) for f in dataclasses.fields(model) if f.name.endswith("_s")
    }
    return dataclasses.replace(model, **times)


def _residuals(model: ServiceModel, run: EngineRun, streams: tuple[int, ...]) -> list[float]:
    """Return the run's weighted errors, transformed so that their squares are soft L1.

    An error of 3 % at weight 1 is z = 1 and gives 0.91; one of 30 % is z = 10 and gives 4.25, not 10.
    """
    weight = (1.0 if len(run) >= FULL_WEIGHT_REQUESTS else 0.5) * (1.0 if run.clients() else OPEN_LOOP_WEIGHT)
    residuals = []
    for measure, error in log_errors(model, run, streams).items():
        z = weight * WEIGHTS[measure] * error / NOISE
        residuals.append(math.copysign(math.sqrt(2 * (math.sqrt(1 + z * z) - 1)), z))
    return residuals


def _with_log_changes(base: ServiceModel, names: Sequence[str], logs: NDArray[np.float64]) -> ServiceModel:
    times: dict[str, Any] = {
        name: _rounded(getattr(base, name) * math.exp(v)) for name, v in zip(names, logs.tolist(), strict=True)
    }
    return dataclasses.replace(base, **times)


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
