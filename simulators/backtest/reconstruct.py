"""The requests of a recorded period, rebuilt from what the turns read.

What came is what was answered and what is more in the system than before. A rate over a window tells what was answered
in it, so arrivals are told by the same windows: exact over each, blind to bursts within. Where a queue is read alone,
what was drained from it is told by how many messages were in work and how long the service model takes for one.
Requests within a step come as a Poisson process; lengths are log-normal about the means that the token rates tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model import SignalName
from simulators.backtest.engines import service_s
from simulators.backtest.recorded_run import RecordedRun
from simulators.engine.models.service import ServiceModel
from simulators.reporting.time_bins import Floats
from simulators.world.rng import streams
from simulators.world.traffic.arrivals import arrivals
from simulators.world.traffic.trace import Floats as Times
from simulators.world.traffic.trace import Ints, RequestTrace, ordered

LENGTH_CV: Final = 1.0
"""Coefficient of variation of lengths about their mean: no reading tells it; chat traces have 0.7 to 1.5."""
MAX_PROMPT: Final = 65_536
MAX_OUTPUT: Final = 8192
PROMPT_TOKENS: Final = 1000.0
OUTPUT_TOKENS: Final = 200.0
"""Assumed where neither token rates nor options tell lengths: the simulator's usual chat."""
BRIDGED: Final = 4.0
"""A reading stands for so many intervals around it; what lies farther from any is unseen, and bridged by a line."""
LEAST_SEEN: Final = 0.5
"""With less of the period seen than this nothing is rebuilt: it would be made up."""
WINDOW_S: Final = 60.0
"""What rates span where no source says."""
IN_ENGINE: Final = ("running", "waiting")


class Unseen(Exception):
    """Arrivals that the record does not tell; says what it lacks."""


@dataclass(frozen=True, slots=True)
class AssumedLengths:
    """Mean lengths that the user gives, in tokens; None: as recorded, or assumed."""

    prompt_tokens: float | None = None
    output_tokens: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Rebuilt:
    """The requests, and the rates that they were drawn from. `seen` is the share of the period that readings cover."""

    trace: RequestTrace
    edges_s: Floats
    rate_rps: Floats
    seen: float
    how: tuple[str, ...]
    window_s: float
    queued: bool


def rebuild(recorded: RecordedRun, model: ServiceModel, given: AssumedLengths, seed: int) -> Rebuilt:
    """Return the requests. Raises `Unseen`."""
    source = next((s for s in recorded.spec.sources if recorded.reading(s, "requests_per_s") is not None), None)
    queue = next((s for s in recorded.spec.sources if recorded.reading(s, "visible") is not None), None)
    step_s = recorded.interval_s
    edges = np.arange(0.0, recorded.span_s + step_s / 2, step_s)
    at_s = recorded.at[0] + (edges[:-1] + edges[1:]) / 2
    window_s = span_of_rates_s(recorded, source)
    prompt, output, said = _lengths(recorded, source, given, at_s + window_s / 2)
    if source is not None:
        rate, seen = _by_answers(recorded, source, queue, at_s, window_s)
        how = f"requests answered by {source} and the change of what was in the system, over {window_s:g} s each"
    else:
        told, quantity = _in_work(recorded, queue)
        lengths = float(np.mean(prompt)), float(np.mean(output))
        rate, seen = _by_depth(recorded, (told, quantity), at_s, model, lengths)
        how = f"the change of what was in the system, and what left it: {told}.{quantity} over the model's time for one"
    if seen < LEAST_SEEN:
        raise Unseen(f"readings cover {seen:.0%} of the period, and {LEAST_SEEN:.0%} are needed to rebuild arrivals")
    bridged = f"; {1 - seen:.1%} of the period was not seen and is bridged by straight lines" if seen < 0.999 else ""
    rate = _conserving(rate)
    trace = _drawn(edges, rate, (prompt, output), _begun(recorded, source, queue), seed)
    return Rebuilt(trace, edges, rate, seen, (how + bridged, said), window_s, queue is not None)


def mean_lengths(recorded: RecordedRun, given: AssumedLengths) -> tuple[float, float]:
    """Mean tokens of a prompt and of an output, over the period."""
    source = next((s for s in recorded.spec.sources if recorded.reading(s, "requests_per_s") is not None), None)
    prompt, output, _ = _lengths(recorded, source, given, recorded.at)
    return float(np.mean(prompt)), float(np.mean(output))


def span_of_rates_s(recorded: RecordedRun, source: str | None) -> float:
    """Return the time that the source's rates span."""
    told = [getattr(recorded.spec.sources.get(source or ""), "window_s", None)]
    told += [getattr(policy, "rate_window_s", None) for policy in recorded.spec.policies.values()]
    return next((float(t) for t in told if t is not None), WINDOW_S)


def _by_answers(
    recorded: RecordedRun, source: str, queue: str | None, at_s: Floats, window_s: float
) -> tuple[Floats, float]:
    """Return the arrivals in the window around each time: the answers in it, plus the growth of the open requests."""
    answered, seen = _told(recorded, source, "requests_per_s", at_s + window_s / 2)
    within = _system(recorded, source, queue)
    if within is None:
        return answered, seen
    after, before = (np.interp(at_s + side, *within) for side in (window_s / 2, -window_s / 2))
    return answered + (after - before) / window_s, seen


def _in_work(recorded: RecordedRun, queue: str | None) -> tuple[str, str]:
    """Return the signal that tells what replicas work on, where no rate is told. Raises `Unseen`."""
    found = [(queue, "in_flight")] if queue is not None else []
    for source, quantity in (*found, *((s, "running") for s in recorded.spec.sources)):
        within = _system(recorded, *((None, queue) if quantity == "in_flight" else (source, queue)))
        if recorded.reading(source, quantity) is not None and within is not None:
            return source, quantity
    raise Unseen(
        "no source tells requests_per_s, nor what waits and what is in work (visible and in_flight, or running and"
        " waiting): arrivals cannot be rebuilt"
    )


def _by_depth(
    recorded: RecordedRun, told: tuple[str, str], at_s: Floats, model: ServiceModel, lengths: tuple[float, float]
) -> tuple[Floats, float]:
    """Return the arrivals in the tick around each time: those that left, plus the growth of the queue."""
    in_work, seen = _told(recorded, *told, at_s)
    queue = next((s for s in recorded.spec.sources if recorded.reading(s, "visible") is not None), None)
    within = _system(recorded, *((None, queue) if told[1] == "in_flight" else (told[0], queue)))
    assert within is not None  # noqa: S101 - `_in_work` chose it so
    known = np.isfinite(recorded.columns["ready"])
    ready = np.interp(at_s, recorded.at[known], recorded.columns["ready"][known])
    each = np.divide(in_work, ready, out=np.zeros(len(ready)), where=ready >= 1)
    drained = np.where(ready >= 1, in_work / service_s(model, each, *lengths), 0.0)
    step_s = recorded.interval_s
    after, before = (np.interp(at_s + side, *within) for side in (step_s / 2, -step_s / 2))
    return drained + (after - before) / step_s, seen


def _system(recorded: RecordedRun, source: str | None, queue: str | None) -> tuple[Floats, Floats] | None:
    """Return the requests in the system, waiting before engines and in them, with the times they were measured.

    None where a part of it is never reported.
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


def _told(recorded: RecordedRun, source: str, quantity: str, at_s: Floats) -> tuple[Floats, float]:
    """Return a quantity at these times by straight lines between its readings, and the share of them near one."""
    values = recorded.reading(source, quantity)
    if values is None:
        raise Unseen(f"{source} does not tell {quantity}")
    known = np.isfinite(values)
    measured, values = recorded.measured[SignalName(f"{source}.{quantity}")][known], values[known]
    order = np.argsort(measured, kind="stable")
    measured, values = measured[order], values[order]
    after = np.clip(np.searchsorted(measured, at_s), 1, max(1, len(measured) - 1))
    near = np.minimum(np.abs(at_s - measured[after - 1]), np.abs(measured[np.minimum(after, len(measured) - 1)] - at_s))
    return np.interp(at_s, measured, values), float((near <= BRIDGED * recorded.interval_s).mean())


def _lengths(
    recorded: RecordedRun, source: str | None, given: AssumedLengths, at_s: Floats
) -> tuple[Floats, Floats, str]:
    """Mean tokens of prompts and outputs at each step, and where they are from."""
    found, said = [], []
    for what, told, quantity, assumed in (
        ("prompts", given.prompt_tokens, "prompt_tokens_per_s", PROMPT_TOKENS),
        ("outputs", given.output_tokens, "generation_tokens_per_s", OUTPUT_TOKENS),
    ):
        rate = None if source is None else recorded.reading(source, "requests_per_s")
        tokens = None if source is None else recorded.reading(source, quantity)
        if told is None and source is not None and rate is not None and tokens is not None:
            mean = (
                float(np.nansum(np.where(np.isfinite(rate), tokens, np.nan)) / np.nansum(rate))
                if np.nansum(rate)
                else assumed
            )
            requests, total = (_told(recorded, source, q, at_s)[0] for q in ("requests_per_s", quantity))
            enough = requests > 0.1 * float(np.nanmean(rate))
            found.append(np.where(enough, np.divide(total, requests, out=np.full(len(at_s), mean), where=enough), mean))
            said.append(f"{what} have {mean:.0f} tokens in the mean, as recorded")
        else:
            embedded = None if told is not None else _embedded(recorded, what)
            found.append(np.full(len(at_s), told or embedded or assumed))
            origin = "as given" if told else "as the recorded world has it" if embedded else "assumed: give the lengths"
            said.append(f"{what} have {found[-1][0]:.0f} tokens in the mean, {origin}")
    return found[0], found[1], "; ".join(said) + f"; single lengths scatter log-normally (CV {LENGTH_CV:g}), assumed"


def _embedded(recorded: RecordedRun, what: str) -> float | None:
    """Return the mean length that an embedded world's traffic states."""
    traffics = (getattr(source, "traffic", None) for source in recorded.spec.sources.values())
    return next((getattr(t, f"{what[:-1]}_tokens") for t in traffics if hasattr(t, f"{what[:-1]}_tokens")), None)


def _conserving(rate: Floats) -> Floats:
    """Rates that are not negative, with what was below zero taken off those that follow."""
    owed, found = 0.0, np.empty(len(rate))
    for k, value in enumerate(rate.tolist()):
        found[k] = max(0.0, value + owed)
        owed = min(0.0, value + owed)
    return found


def _begun(recorded: RecordedRun, source: str | None, queue: str | None) -> int:
    """Return the requests that waited when the period began: they come first, as if just sent."""
    columns = [recorded.reading(queue, "visible")] if queue is not None else []
    columns += [recorded.reading(source, "waiting")] if source is not None else []
    first = (float(column[np.isfinite(column)][0]) for column in columns if column is not None)
    return round(sum(first))


def _drawn(edges: Floats, rate: Floats, lengths: tuple[Floats, Floats], begun: int, seed: int) -> RequestTrace:
    chance = streams(seed)
    times: Times = np.concatenate((np.zeros(begun), arrivals(edges, rate, 1.0, chance("retrospect/arrivals"))))
    step = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(rate) - 1)
    columns: dict[str, Ints] = {}
    for name, means, most in zip(("prompt_tokens", "output_tokens"), lengths, (MAX_PROMPT, MAX_OUTPUT), strict=True):
        deviation = float(np.sqrt(np.log1p(LENGTH_CV**2)))
        normal = chance(f"retrospect/{name}").standard_normal(len(times))
        tokens = np.rint(np.exp(np.log(np.maximum(means[step], 1.0)) - deviation**2 / 2 + deviation * normal))
        columns[name] = np.clip(tokens, 1, most).astype(np.int32)
    return ordered(columns, times, "recorded", "rebuilt from a journal's readings")
