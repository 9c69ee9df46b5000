"""What one replica carries within the promise: by the service model, run on the user's own requests."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.model.spec import Slo
from simulators.engine.models.service import ServiceModel
from simulators.experiments import run as running
from simulators.experiments.results import CountedRequests
from simulators.experiments.warnings import full_batch_work_s
from simulators.world.rng import streams
from simulators.world.traffic.trace import RequestTrace

REQUESTS: Final = 10_000
"""Drawn from the user's: minutes of a replica, so that a rate that cannot be sustained shows in what is late."""
WARM_UP: Final = 0.1
"""Share of them that finds an engine still filling up, and is not counted."""
SATURATING: Final = 4000
"""Requests that wait at once: many fillings of the largest batch."""
FULL: Final = (0.25, 0.75)
"""Between which shares of the answers the batch is full: it fills before, and empties after."""
RUSH: Final = 1e6
"""So many times as fast they all come at once."""
STEPS: Final = 9
"""Halvings of the bracket: 1 % of the rate or finer."""
LEAST: Final = 0.01
"""The lowest rate tried, as a share of the most by the engine's time: below it, one request is served at a time."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests a second that a replica serves with the promise kept, and their mean tokens.

    0: the promise is broken however slowly requests come. `bound_rps` is the most by the engine's time alone.
    """

    rps: float
    bound_rps: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float


def sample(trace: RequestTrace, seed: int, count: int = REQUESTS) -> RequestTrace:
    """Draw requests from a trace with replacement, as a Poisson stream of one a second."""
    rng_for = streams(seed)
    rows = rng_for("advise/requests").integers(0, len(trace), count)
    arrival_s = np.cumsum(rng_for("advise/arrivals").exponential(1.0, count))
    cached = None if trace.cached_tokens is None else trace.cached_tokens[rows]
    return RequestTrace(arrival_s, trace.prompt_tokens[rows], trace.output_tokens[rows], cached, name=trace.name)


def goodput(model: ServiceModel, drawn: RequestTrace, slo: Slo, seed: int) -> Goodput:
    """Return the largest rate at which the promise is kept, on the same requests and gaps at every rate."""
    bound = bound_rps(model, drawn)
    cached = 0.0 if drawn.cached_tokens is None else float(drawn.cached_tokens.mean())
    means = float(drawn.prompt_tokens.mean()), cached, float(drawn.output_tokens.mean())
    if not kept(model, drawn, slo, bound * LEAST, seed):
        return Goodput(0.0, bound, *means)
    low, high = bound * LEAST, bound
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        if kept(model, drawn, slo, middle, seed):
            low = middle
        else:
            high = middle
    return Goodput(low, bound, *means)


def kept(model: ServiceModel, drawn: RequestTrace, slo: Slo, rate_rps: float, seed: int) -> bool:
    """Return whether the promise is kept at a rate, by those that come after the warm-up."""
    requests = CountedRequests(running.simulate_engines(model, 1, drawn.speed(rate_rps), seed))
    requests.slo = slo
    counted = requests.met["all"][int(WARM_UP * len(drawn)) :]
    return bool(counted.mean() >= slo.share)


def saturated_rps(model: ServiceModel, drawn: RequestTrace) -> float:
    """Return the requests a second that a replica answers with all of them waiting, whatever the SLO."""
    some = drawn.between(0.0, float(drawn.arrival_s[min(SATURATING, len(drawn)) - 1])).speed(RUSH)
    ends_s = CountedRequests(running.simulate_engines(model, 1, some, 0)).e2e_s
    first, last = np.quantile(ends_s[np.isfinite(ends_s)], FULL)
    return float((ends_s < np.inf).sum() * (FULL[1] - FULL[0]) / (last - first))


def bound_rps(model: ServiceModel, drawn: RequestTrace) -> float:
    """Return the most by the engine's time alone, in full batches."""
    cached = np.zeros(len(drawn), np.int32) if drawn.cached_tokens is None else drawn.cached_tokens
    return 1.0 / float(full_batch_work_s(model, drawn.prompt_tokens, cached, drawn.output_tokens).mean())


def batched(model: ServiceModel, at_once: int) -> ServiceModel:
    """Return the same engine, with fewer requests at once."""
    return dataclasses.replace(model, max_seqs=min(at_once, model.max_seqs))


def hitting(trace: RequestTrace, share: float) -> RequestTrace:
    """Return the same requests with a prefix cache that holds this share of each prompt, whatever they told before."""
    return dataclasses.replace(trace, cached_tokens=None).hitting(share)
