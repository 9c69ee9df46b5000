"""The current load of the engines.

It is computed from token rates, and from the requests that arrive and wait.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from policies.history.ticks import READY
from policies.model import SignalName
from policies.recommend.predictive.latency_model import LearnedLatency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.latency_model import LatencyObservation

Values = TypeVar("Values", float, "NDArray[np.float64]")
ENGINE_QUANTITIES: Final = ("running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s")
MAX_ARRIVAL_RATIO: Final = 3.0
"""Arrivals are at most this multiple of the completed requests, and at least the reciprocal: beyond it, the difference
of two gauges is noise on a rate near zero."""
RISING_RATIO: Final = 1.1
"""Arrivals over completed requests from which the load is rising. Then the work of now counts if it is larger than that
at the average work of a request. In a doubling within minutes, completed requests lag behind the tokens: 96.2 instead
of 94.9 % were in time on day 55 of worldcup, with starts of 300 s."""
SURGE: Final = 2.0
"""Waiting requests per ready replica that indicate a surge: an engine admits fewer in its next step. Then the growth of
the last ticks counts if it is larger than that of the rate window."""
SURGE_S: Final = 31.0
"""Two ticks at the default interval, and their jitter. Seconds."""
BACKED_UP_PER_REPLICA: Final = 20.0
"""Above this many waiting requests per replica, latencies are those of a queue and do not describe the engines."""
UNEVEN_QUEUE_S: Final = 300.0
"""A waiting request stays in its engine, so a queue is uneven for this time after a replica was added. Seconds."""
MIN_LOAD: Final = 0.05
"""Below this share of its prior saturation a replica is idle, and its latency does not show its capacity."""
AVERAGE_S: Final = 300.0
"""Work per request, service and response times are averaged over this time: more than a burst, less than a drift of
lengths. With lengths that vary much (servegen-requests, mooncake), the work of single windows made sizes 4 to 27 % more
expensive. Seconds."""
FULL_WEIGHT_REQUESTS: Final = 200.0
"""Requests in a rate window from which its mean latency has full weight."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """The load of one tick.

    Loads are in prior saturations of a replica, summed over all replicas.

    `processed` is the work done in the rate window, `arriving` the work that arrived in it, `requests_per_s` the
    completed requests. `in_work` are the requests in the engines, `waiting` those of them that wait, and
    `sustained_waiting` those that waited in the last tick, too. `ready` is the mean number of ready replicas in the
    window; `is_steady` whether it stayed the same. `is_backed_up` is whether more than `BACKED_UP_PER_REPLICA` requests
    per replica waited in the whole window, and `is_uneven` whether a recently added replica found such a queue.
    """

    processed: float
    arriving: float
    requests_per_s: float
    in_work: float
    waiting: float
    ready: float
    is_steady: bool
    sustained_waiting: float
    is_backed_up: bool
    is_uneven: bool
    window_s: float

    @property
    def work_per_request(self) -> float:
        """Work of a request in replica-seconds at saturation.

        It is 0 without requests. Example: work of 2.0 at 10 requests per s is 0.2 s.
        """
        return self.processed / self.requests_per_s if self.requests_per_s > 0 else 0.0

    def learned_latencies(
        self,
        learned: Mapping[str, LearnedLatency],
        observations: Mapping[str, LatencyObservation],
        limits_s: Mapping[str, float],
        forget: float,
        interval_s: float,
    ) -> dict[str, LearnedLatency]:
        """Return the latency models after this tick of `interval_s`.

        Only a steady tick with some load changes them.

        The weight of a tick is its part of the rate window, since windows overlap, times its number of requests. If
        requests waited in the whole window, the engines ran at saturation and the latencies are those of the queue. An
        uneven queue is ignored: it stands in a few engines, and those added later have none.

        Example: a tick of 15 s is 0.25 of a window of 60 s. At 10 requests per s the window has 600 requests, more than
        200, so the weight is 0.25 and the tick counts for 150 requests.
        """
        per_replica = self.processed / self.ready if self.ready > 0 else 0.0
        updated = dict(learned)
        if not self.is_steady or self.is_uneven or per_replica <= MIN_LOAD:
            return updated
        new_share = min(1.0, interval_s / self.window_s)
        requests = new_share * self.requests_per_s * self.window_s
        weight = new_share * min(1.0, self.requests_per_s * self.window_s / FULL_WEIGHT_REQUESTS)
        for key, latency in learned.items():
            line, tail, observation = latency.line, latency.tail, observations.get(key)
            if self.is_backed_up:
                line = line.saturated(per_replica, forget, weight)
            elif observation is not None and self.waiting < BACKED_UP_PER_REPLICA * self.ready:
                line = line.learn(per_replica, observation.mean_s, forget, weight)
                if observation.late_share is not None and key in limits_s:
                    tail = tail.learn(limits_s[key], observation.mean_s, observation.late_share, requests, forget)
            updated[key] = LearnedLatency(line, tail)
        return updated


@dataclass(frozen=True, slots=True)
class ReplicaCapacity:
    """The prior saturation of a replica, and the window of the rates.

    The two saturations are with prompt tokens alone and with output tokens alone.
    """

    prompt_tokens_per_s: float
    generation_tokens_per_s: float
    window_s: float

    def load(self, prompt_tokens_per_s: Values, generation_tokens_per_s: Values) -> Values:
        """Return token rates in saturations of a replica.

        Example: 20,000 prompt tokens per s of 40,000 and 4,500 output tokens per s of 9,000 are 0.5 + 0.5 = 1.0.
        """
        return prompt_tokens_per_s / self.prompt_tokens_per_s + generation_tokens_per_s / self.generation_tokens_per_s


def engine_load(
    context: PolicyContext,
    used: tuple[SignalName, ...],
    values: Mapping[SignalName, float],
    capacity: ReplicaCapacity,
    queue: SignalName | None = None,
) -> EngineLoad:
    """Return the load from the signals of `ENGINE_QUANTITIES`.

    `used` names these signals, and `values` has all of them. The arriving work is that of the completed requests, at
    their average work, scaled by the growth of the requests in the system. Messages that wait in a `queue` before the
    engines are in the system, too, if `values` has them.

    Example: requests have an average work of 0.2 replica-seconds, 10 per s are completed, and the requests in the
    system grow from 20 to 140 in 60 s, by 2 per s. The arriving work is 10 * 0.2 * (1 + 2 / 10) = 2.4.
    """
    running, waiting, requests_per_s, prompt, generated = (values[signal] for signal in used)
    in_work = running + waiting
    gauges = (*used[:2], queue) if queue is not None and queue in values else used[:2]
    in_system = sum(values[signal] for signal in gauges)
    processed, window_s = capacity.load(prompt, generated), capacity.window_s
    completed = _completed_work(context, used[2:], (requests_per_s, prompt, generated), capacity)
    since = context.at - window_s - 1.0
    growth_per_s = _growth_per_s(context, gauges, in_system, since)
    if waiting > SURGE * (context.ready or 0):
        growth_per_s = max(growth_per_s, _growth_per_s(context, gauges, in_system, context.at - SURGE_S))
    ready = context.history.column_to_now(READY, since - 30.0, context.ready or 0)
    window = [replicas for replicas in (ready[2:] if ready.size > 3 else ready).tolist() if not math.isnan(replicas)]
    most_ready = max(window)
    if (context.ready or 0) < min(most_ready, context.desired or 0):
        growth_per_s = max(0.0, growth_per_s)  # the requests of lost replicas are gone and not completed
    ratio = 1.0 + growth_per_s / requests_per_s if requests_per_s > 0 else 1.0
    if ratio > RISING_RATIO:
        completed = max(completed, processed)
    queue_history = context.history.signal(used[1], context.at - max(UNEVEN_QUEUE_S, window_s + 1.0))
    at, queued = (values.tolist() for values in queue_history)
    starts = (since, context.at - SURGE_S, context.at - UNEVEN_QUEUE_S)
    in_window, in_surge, in_uneven = (queued[bisect_left(at, start) :] for start in starts)
    return EngineLoad(
        processed=processed,
        arriving=completed * min(MAX_ARRIVAL_RATIO, max(1.0 / MAX_ARRIVAL_RATIO, ratio)),
        requests_per_s=requests_per_s,
        in_work=in_work,
        waiting=waiting,
        ready=sum(window) / len(window),
        is_steady=most_ready == min(window),
        sustained_waiting=min([waiting, *in_surge[-1:]]),
        is_backed_up=min([waiting, *in_window]) > BACKED_UP_PER_REPLICA * most_ready,
        is_uneven=_is_uneven(context, max([waiting, *in_uneven])),
        window_s=window_s,
    )


def _completed_work(
    context: PolicyContext,
    signals: tuple[SignalName, ...],
    rates: tuple[float, float, float],
    capacity: ReplicaCapacity,
) -> float:
    """Return the work of the completed requests, at the average work of `AVERAGE_S`.

    `signals` and `rates` are those of requests, prompt tokens and output tokens. A few long requests change the tokens
    of a window, but not how many requests arrive.
    """
    series = [context.history.signal(signal, context.at - AVERAGE_S)[1].tolist() for signal in signals]
    if len({len(values) for values in series}) > 1 or rates[0] <= 0.0:
        return capacity.load(rates[1], rates[2])
    requests, prompt, generated = (rate + math.fsum(values) for rate, values in zip(rates, series, strict=True))
    return rates[0] * capacity.load(prompt, generated) / requests


def _is_uneven(context: PolicyContext, longest_queue: float) -> bool:
    """Return whether a replica was added recently while a long queue stood."""
    if longest_queue <= BACKED_UP_PER_REPLICA:
        return False
    ready = context.history.column_to_now(READY, context.at - UNEVEN_QUEUE_S, context.ready or 0)
    was_added = bool((ready[1:] > ready[:-1]).any())
    return was_added and longest_queue > BACKED_UP_PER_REPLICA * max(1.0, float(np.fmin.reduce(ready)))


def _growth_per_s(context: PolicyContext, gauges: tuple[SignalName, ...], in_system: float, since: float) -> float:
    """Return the growth of the requests in the system per second.

    It is measured from one of the first two ticks after `since` to now. `gauges` are the signals whose sum is the
    requests in the system, `in_system` is their sum now. The tick with more requests counts, so that a single reading
    of 0 is no growth. Example: the first two ticks read 0 and 80, 60 s and 45 s ago, and now there are 140:
    (140 - 80) / 45 = 1.3 per s.
    """
    series = [context.history.signal(signal, since) for signal in gauges]
    times, lengths = series[0][0], {values.size for _, values in series}
    if not times.size or len(lengths) > 1:
        return 0.0
    first_two: list[float] = [sum(tick) for tick in zip(*(values[:2].tolist() for _, values in series), strict=True)]
    start = first_two.index(max(first_two))
    elapsed_s = context.at - float(times[start])
    return (in_system - first_two[start]) / elapsed_s if elapsed_s > 0.0 else 0.0
