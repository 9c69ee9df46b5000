"""Goodput of one replica: the maximum rate within the SLO.

It is simulated on the workload's own requests.
"""

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
"""Requests drawn from the workload's: minutes of a replica, so an unsustainable rate shows as late requests."""
WARM_UP: Final = 0.1
"""Share of the requests that is not counted, because the engine is still filling up."""
SATURATED_REQUESTS: Final = 4000
"""Requests that wait at once: many times the largest batch."""
SATURATED_SHARES: Final = (0.25, 0.75)
"""Shares of the responses between which the batch is full: it fills before the first, and empties after the second."""
SATURATION_SPEED: Final = 1e6
"""Speed-up of the trace with which all requests arrive at once."""
STEPS: Final = 9
"""Bisection steps on a logarithmic scale. From a factor of 100 they leave 100 ** (1 / 2 ** 9) - 1 = 0.9 %."""
MIN_RATE_SHARE: Final = 0.01
"""Lowest rate tested, as a share of the bound by GPU time: below it, requests hardly overlap."""


@dataclass(frozen=True, slots=True)
class Goodput:
    """Requests per second that a replica serves within the SLO, and their mean tokens.

    0: the SLO is violated at any rate. `bound_rps` is the maximum by the engine's time alone.
    """

    rps: float
    bound_rps: float
    prompt_tokens: float
    cached_tokens: float
    output_tokens: float


def sample(trace: RequestTrace, seed: int, count: int = REQUESTS) -> RequestTrace:
    """Draw requests from a trace with replacement, as a Poisson process of 1 request per second."""
    rng_for = streams(seed)
    rows = rng_for("advise/requests").integers(0, len(trace), count)
    arrival_s = np.cumsum(rng_for("advise/arrivals").exponential(1.0, count))
    cached = None if trace.cached_tokens is None else trace.cached_tokens[rows]
    return RequestTrace(arrival_s, trace.prompt_tokens[rows], trace.output_tokens[rows], cached, name=trace.name)


def goodput(model: ServiceModel, drawn: RequestTrace, slo: Slo, seed: int) -> Goodput:
    """Return the maximum rate within the SLO.

    Every rate is tested with the same requests and relative gaps.
    """
    limit = bound_rps(model, drawn)
    cached = 0.0 if drawn.cached_tokens is None else float(drawn.cached_tokens.mean())
    means = float(drawn.prompt_tokens.mean()), cached, float(drawn.output_tokens.mean())
    if not meets_slo(model, drawn, slo, limit * MIN_RATE_SHARE, seed):
        return Goodput(0.0, limit, *means)
    low, high = limit * MIN_RATE_SHARE, limit
    for _ in range(STEPS):
        middle = math.sqrt(low * high)
        if meets_slo(model, drawn, slo, middle, seed):
            low = middle
        else:
            high = middle
    return Goodput(low, limit, *means)


def meets_slo(model: ServiceModel, drawn: RequestTrace, slo: Slo, rate_rps: float, seed: int) -> bool:
    """Return whether the requests after the warm-up meet the SLO at a rate."""
    requests = CountedRequests(running.simulate_engines(model, 1, drawn.speed(rate_rps), seed))
    requests.slo = slo
    counted = requests.met["all"][int(WARM_UP * len(drawn)) :]
    return bool(counted.mean() >= slo.share)


def saturated_rps(model: ServiceModel, drawn: RequestTrace) -> float:
    """Return the requests per second that a saturated replica serves.

    All of the requests wait at once. The SLO is disregarded.
    """
    end_s = float(drawn.arrival_s[min(SATURATED_REQUESTS, len(drawn)) - 1])
    burst = drawn.between(0.0, end_s).speed(SATURATION_SPEED)
    ends_s = CountedRequests(running.simulate_engines(model, 1, burst, 0)).e2e_s
    first, last = np.quantile(ends_s[np.isfinite(ends_s)], SATURATED_SHARES)
    return float((ends_s < np.inf).sum() * (SATURATED_SHARES[1] - SATURATED_SHARES[0]) / (last - first))


def bound_rps(model: ServiceModel, drawn: RequestTrace) -> float:
    """Return the maximum rate by the engine's time alone, in full batches."""
    cached = np.zeros(len(drawn), np.int32) if drawn.cached_tokens is None else drawn.cached_tokens
    return 1.0 / float(full_batch_work_s(model, drawn.prompt_tokens, cached, drawn.output_tokens).mean())


def batched(model: ServiceModel, at_once: int) -> ServiceModel:
    """Return the same engine, with fewer requests at once."""
    return dataclasses.replace(model, max_seqs=min(at_once, model.max_seqs))


def with_hit_share(trace: RequestTrace, share: float) -> RequestTrace:
    """Return the requests with this share of each prompt in a prefix cache.

    The share replaces their recorded hits.
    """
    return dataclasses.replace(trace, cached_tokens=None).with_prefix_hits(share)
