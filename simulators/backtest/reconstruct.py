"""Requests of a recorded period, reconstructed from the readings of its ticks.

Arrivals are the answered requests plus the growth of the open ones. 100 answered in a window in which the open requests
grow from 20 to 50 mean 130 arrivals. They are exact over each window of the rate and show no bursts within it. With a
queue only, departures are the messages in work over the service model's time for one. Requests within a step follow a
Poisson process; lengths are log-normal about the means of the token rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import SignalName
from policies.model.names import RATE_WINDOW
from simulators.backtest.engines import service_s
from simulators.backtest.recorded_run import RecordedRun
from simulators.engine.models.service import ServiceModel
from simulators.reporting.time_bins import Floats
from simulators.world.rng import streams
from simulators.world.traffic.arrivals import arrivals
from simulators.world.traffic.trace import Floats as Times
from simulators.world.traffic.trace import Ints, RequestTrace, ordered

LENGTH_CV: Final = 1.0
"""Coefficient of variation of lengths about their mean: no reading has it; chat traces have 0.7 to 1.5."""
MAX_PROMPT: Final = 65_536
MAX_OUTPUT: Final = 8192
PROMPT_TOKENS: Final = 1000.0
OUTPUT_TOKENS: Final = 200.0
"""The default lengths without token rates and options: the simulator's usual chat."""
MAX_READING_INTERVALS: Final = 4.0
"""A reading covers this many intervals around it. Time farther from any reading is interpolated."""
MIN_COVERED: Final = 0.5
"""The minimum share of the period that readings cover: below it nothing is rebuilt."""
WINDOW_S: Final = 60.0
"""The default window of rates. Seconds."""
IN_ENGINE: Final = ("running", "waiting")


class ArrivalsUnknown(Exception):
    """The record does not show the arrivals. The message names what is missing."""


@dataclass(frozen=True, slots=True)
class AssumedLengths:
    """Mean lengths set by the user, in tokens; None: as recorded, else the default."""

    prompt_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rebuilt:
    """The reconstructed requests and their rates.

    `covered` is the share of the period that readings cover. `default_lengths` is True where a mean length is neither
    recorded nor set.
    """

    trace: RequestTrace
    edges_s: Floats
    rate_rps: Floats
    covered: float
    assumptions: tuple[str, ...]
    default_lengths: bool
    window_s: float
    queued: bool


@dataclass(frozen=True, slots=True, eq=False)
class _MeanLengths:
    """Mean tokens of prompts and outputs at each time, and their origin as text.

    `default` is True where one of the two is neither recorded nor set.
    """

    prompt: Floats
    output: Floats
    default: bool
    text: str

    @property
    def overall(self) -> tuple[float, float]:
        """Mean tokens of a prompt and of an output over all times."""
        return float(np.mean(self.prompt)), float(np.mean(self.output))


def rebuild(recorded: RecordedRun, model: ServiceModel, assumed: AssumedLengths, seed: int) -> Rebuilt:
    """Return the reconstructed requests. Raises `ArrivalsUnknown`."""
    source = next((s for s in recorded.spec.sources if recorded.reading(s, "requests_per_s") is not None), None)
    queue = next((s for s in recorded.spec.sources if recorded.reading(s, "visible") is not None), None)
    step_s = recorded.interval_s
    edges = np.arange(0.0, recorded.span_s + step_s / 2, step_s)
    at_s = recorded.at[0] + (edges[:-1] + edges[1:]) / 2
    window_s = rate_window_s(recorded, source)
    means = _mean_lengths(recorded, source, assumed, at_s + window_s / 2)
    if source is not None:
        rate, covered = _arrivals_by_throughput(recorded, source, queue, at_s, window_s)
        method = f"arrivals: requests answered by {source} plus the growth of open requests, over {window_s:g} s each"
    else:
        signal = _in_work_signal(recorded, queue)
        rate, covered = _arrivals_by_queue_depth(recorded, signal, at_s, model, means.overall)
        method = f"arrivals: growth of open requests plus departures ({'.'.join(signal)} over the model's service time)"
    if covered < MIN_COVERED:
        raise ArrivalsUnknown(
            f"readings cover {covered:.0%} of the period, but rebuilding the arrivals needs {MIN_COVERED:.0%}"
        )
    gaps = f"; {1 - covered:.1%} of the period has no readings and is interpolated" if covered < 0.999 else ""
    rate = _without_negative(rate)
    trace = _draw_trace(edges, rate, (means.prompt, means.output), _initial_waiting(recorded, source, queue), seed)
    texts = (method + gaps, means.text)
    return Rebuilt(trace, edges, rate, covered, texts, means.default, window_s, queue is not None)


def mean_lengths(recorded: RecordedRun, assumed: AssumedLengths) -> tuple[float, float]:
    """Return the mean tokens of a prompt and of an output over the period."""
    source = next((s for s in recorded.spec.sources if recorded.reading(s, "requests_per_s") is not None), None)
    return _mean_lengths(recorded, source, assumed, recorded.at).overall


def rate_window_s(recorded: RecordedRun, source: str | None) -> float:
    """Return the window of the source's rates in seconds: the last reported one, if it is read."""
    reported = recorded.reading(source, RATE_WINDOW) if source is not None else None
    if reported is not None:
        return float(reported[np.isfinite(reported)][-1])
    windows = [getattr(recorded.spec.sources.get(source or ""), "window_s", None)]
    windows += [getattr(policy, "rate_window_s", None) for policy in recorded.spec.policies.values()]
    return next((float(t) for t in windows if t is not None), WINDOW_S)


def _arrivals_by_throughput(
    recorded: RecordedRun, source: str, queue: str | None, at_s: Floats, window_s: float
) -> tuple[Floats, float]:
    """Return the arrival rate in the window around each time.

    Also return the share of times near a reading. The rate is that of the answered requests plus the growth of the open
    ones: 10 per second answered and 30 more open over 60 s are 10.5 per second.
    """
    answered, covered = _interpolated(recorded, source, "requests_per_s", at_s + window_s / 2)
    open_requests = _open_requests(recorded, source, queue)
    if open_requests is None:
        return answered, covered
    after, before = (np.interp(at_s + offset, *open_requests) for offset in (window_s / 2, -window_s / 2))
    return answered + (after - before) / window_s, covered


def _in_work_signal(recorded: RecordedRun, queue: str | None) -> tuple[str, str]:
    """Return the signal of requests in work, for a record without rates.

    Raises `ArrivalsUnknown`.
    """
    signals = [(queue, "in_flight")] if queue is not None else []
    for source, quantity in (*signals, *((s, "running") for s in recorded.spec.sources)):
        open_requests = _open_requests(recorded, *((None, queue) if quantity == "in_flight" else (source, queue)))
        if recorded.reading(source, quantity) is not None and open_requests is not None:
            return source, quantity
    raise ArrivalsUnknown(
        "arrivals cannot be rebuilt: no source provides requests_per_s, or both waiting and running requests (visible"
        " and in_flight, or waiting and running)"
    )


def _arrivals_by_queue_depth(
    recorded: RecordedRun, signal: tuple[str, str], at_s: Floats, model: ServiceModel, lengths: tuple[float, float]
) -> tuple[Floats, float]:
    """Return the arrival rate around each time.

    It is the rate of departures plus the growth of the open requests. Departures follow from the service time: 8
    requests in work that take 2 s each leave at 4 per second.
    """
    in_work, covered = _interpolated(recorded, *signal, at_s)
    queue = next((s for s in recorded.spec.sources if recorded.reading(s, "visible") is not None), None)
    open_requests = _open_requests(recorded, *((None, queue) if signal[1] == "in_flight" else (signal[0], queue)))
    assert open_requests is not None  # noqa: S101 - `_in_work` chose it so
    known = np.isfinite(recorded.columns["ready"])
    ready = np.interp(at_s, recorded.at[known], recorded.columns["ready"][known])
    concurrency = np.divide(in_work, ready, out=np.zeros(len(ready)), where=ready >= 1)
    drained = np.where(ready >= 1, in_work / service_s(model, concurrency, *lengths), 0.0)
    step_s = recorded.interval_s
    after, before = (np.interp(at_s + offset, *open_requests) for offset in (step_s / 2, -step_s / 2))
    return drained + (after - before) / step_s, covered


def _open_requests(recorded: RecordedRun, source: str | None, queue: str | None) -> tuple[Floats, Floats] | None:
    """Return the measurement times and counts of open requests, queued and in engines.

    The result is None if a part is never read.
    """
    names = [] if queue is None else [f"{queue}.visible", f"{queue}.in_flight"]
    if source is not None and (queue is None or recorded.reading(queue, "in_flight") is None):
        names = [*names[:1], *(f"{source}.{quantity}" for quantity in IN_ENGINE)]
    signals = [SignalName(name) for name in names]
    if not signals or any(signal not in recorded.readings for signal in signals):
        return None
    total = np.asarray(np.sum([recorded.readings[signal] for signal in signals], axis=0), np.float64)
    known = np.isfinite(total)
    return (recorded.measured[signals[-1]][known], total[known]) if known.any() else None


def _interpolated(recorded: RecordedRun, source: str, quantity: str, at_s: Floats) -> tuple[Floats, float]:
    """Return a quantity interpolated at these times, and the share of the times near a reading."""
    values = recorded.reading(source, quantity)
    if values is None:
        raise ArrivalsUnknown(f"source {source} does not provide {quantity}")
    known = np.isfinite(values)
    measured, values = recorded.measured[SignalName(f"{source}.{quantity}")][known], values[known]
    order = np.argsort(measured, kind="stable")
    measured, values = measured[order], values[order]
    after = np.clip(np.searchsorted(measured, at_s), 1, max(1, len(measured) - 1))
    distance_s = np.minimum(
        np.abs(at_s - measured[after - 1]), np.abs(measured[np.minimum(after, len(measured) - 1)] - at_s)
    )
    return np.interp(at_s, measured, values), float((distance_s <= MAX_READING_INTERVALS * recorded.interval_s).mean())


def _mean_lengths(recorded: RecordedRun, source: str | None, assumed: AssumedLengths, at_s: Floats) -> _MeanLengths:
    """Return the mean tokens of prompts and outputs at each time, and their origin."""
    means, texts, default_used = [], [], False
    for name, set_by_user, quantity, default in (
        ("prompts", assumed.prompt_tokens, "prompt_tokens_per_s", PROMPT_TOKENS),
        ("outputs", assumed.output_tokens, "generation_tokens_per_s", OUTPUT_TOKENS),
    ):
        rate = None if source is None else recorded.reading(source, "requests_per_s")
        tokens = None if source is None else recorded.reading(source, quantity)
        if set_by_user is None and source is not None and rate is not None and tokens is not None:
            mean = (
                float(np.nansum(np.where(np.isfinite(rate), tokens, np.nan)) / np.nansum(rate))
                if np.nansum(rate)
                else default
            )
            requests, total = (_interpolated(recorded, source, q, at_s)[0] for q in ("requests_per_s", quantity))
            measurable = requests > 0.1 * float(np.nanmean(rate))
            means.append(
                np.where(measurable, np.divide(total, requests, out=np.full(len(at_s), mean), where=measurable), mean)
            )
            texts.append(f"{name} have {mean:.0f} tokens on average, as recorded")
        else:
            embedded = None if set_by_user is not None else _embedded_mean(recorded, name)
            means.append(np.full(len(at_s), set_by_user or embedded or default))
            origin = (
                "as set by the options"
                if set_by_user
                else "as in the recorded world"
                if embedded
                else "assumed: give the lengths"
            )
            default_used = default_used or not (set_by_user or embedded)
            texts.append(f"{name} have {means[-1][0]:.0f} tokens on average, {origin}")
    text = "; ".join(texts) + f"; a log-normal spread of lengths (CV {LENGTH_CV:g}) is assumed"
    return _MeanLengths(means[0], means[1], default_used, text)


def _embedded_mean(recorded: RecordedRun, name: str) -> float | None:
    """Return the mean length of an embedded world's traffic; None if there is none."""
    traffics = (getattr(source, "traffic", None) for source in recorded.spec.sources.values())
    return next((getattr(t, f"{name[:-1]}_tokens") for t in traffics if hasattr(t, f"{name[:-1]}_tokens")), None)


def _without_negative(rate: Floats) -> Floats:
    """Return rates without negative values; a deficit is taken off the rates that follow.

    5, -2, 3 becomes 5, 0, 1.
    """
    deficit, rates = 0.0, np.empty(len(rate))
    for k, value in enumerate(rate.tolist()):
        rates[k] = max(0.0, value + deficit)
        deficit = min(0.0, value + deficit)
    return rates


def _initial_waiting(recorded: RecordedRun, source: str | None, queue: str | None) -> int:
    """Return the number of requests that wait at the start.

    They arrive first in the reconstructed trace.
    """
    columns = [recorded.reading(queue, "visible")] if queue is not None else []
    columns += [recorded.reading(source, "waiting")] if source is not None else []
    first = (float(column[np.isfinite(column)][0]) for column in columns if column is not None)
    return round(sum(first))


def _draw_trace(edges: Floats, rate: Floats, lengths: tuple[Floats, Floats], waiting: int, seed: int) -> RequestTrace:
    rng = streams(seed)
    times: Times = np.concatenate((np.zeros(waiting), arrivals(edges, rate, 1.0, rng("retrospect/arrivals"))))
    step = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(rate) - 1)
    columns: dict[str, Ints] = {}
    for name, means, maximum in zip(("prompt_tokens", "output_tokens"), lengths, (MAX_PROMPT, MAX_OUTPUT), strict=True):
        deviation = float(np.sqrt(np.log1p(LENGTH_CV**2)))
        normal = rng(f"retrospect/{name}").standard_normal(len(times))
        tokens = np.rint(np.exp(np.log(np.maximum(means[step], 1.0)) - deviation**2 / 2 + deviation * normal))
        columns[name] = np.clip(tokens, 1, maximum).astype(np.int32)
    return ordered(columns, times, "recorded", "rebuilt from the readings of a journal")
