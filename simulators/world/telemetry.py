"""Engine metrics as a monitoring system has them.

They are the values of the last scrapes, not of the present.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from policies.model import Absent, Fresh
from policies.model.field_metadata import FieldMetadata
from policies.model.names import RATE_WINDOW
from scaler.clouds.engines.histogram import P95, quantile, share_above
from scaler.clouds.engines.presets import BUCKET_BOUNDS_S, PRESETS, missing_slo
from scaler.config.kinds.prometheus import window_of_scrapes
from simulators.engine.kernel.event_loop import Kernel
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import ReplicaTable, RequestMoment

BUSY_UTILIZATION: Final = 0.973
"""NVML's gpu_util of a GPU that is always busy, measured on an H100 (rmse 8.9 points over 1,544 samples). It is the
share of time in which any kernel runs, not the load."""
INF: Final = (math.inf,)
FIRST_BOUNDS_S: Final = np.array((*BUCKET_BOUNDS_S["vllm"]["ttft_s"], *INF))
TOKEN_BOUNDS_S: Final = np.array((*BUCKET_BOUNDS_S["vllm"]["itl_s"], *INF))
REQUEST_S: Final = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
REQUEST_BOUNDS_S: Final = np.array((*REQUEST_S, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0, *INF))
"""Bucket bounds of vLLM 0.24's histograms, which limit the resolution of quantiles."""
NO_LIMITS: Final[Mapping[str, float]] = {}
Floats = NDArray[np.float64]
COUNTERS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Settings of the scrapes of the engines."""

    scrape_interval_s: Annotated[float, FieldMetadata("Interval between scrapes. Seconds.", ge=0.001, le=3600)] = 15.0
    lag_s: Annotated[float, FieldMetadata("Delay until a scrape can be queried. Seconds.", ge=0, le=600)] = 0.0
    rate_window_s: Annotated[
        float | None,
        FieldMetadata(
            "Window of rates and latencies. Default: null, the window that the workload's policies expect, or four"
            " scrape intervals, 60 at least. Seconds.",
            ge=0.001,
            le=3600,
            example=60,
        ),
    ] = None
    lost_share: Annotated[float, FieldMetadata("Share of scrapes that fail entirely. Share.", ge=0, le=1)] = 0.0
    partial_share: Annotated[
        float, FieldMetadata("Share of scrapes in which one replica does not respond. Share.", ge=0, le=1)
    ] = 0.0

    @property
    def window_s(self) -> float:
        """The window of rates and latencies. Seconds."""
        return window_of_scrapes(self.scrape_interval_s) if self.rate_window_s is None else self.rate_window_s


@dataclass(frozen=True, slots=True)
class ScrapedTotals:
    """Totals of the engines at one scrape.

    `missing` names the replica that did not answer, if any.
    """

    at_s: float
    replicas: int
    running: int
    waiting: int
    kv_cache_usage: float
    busy_s: float
    requests: int
    prompt_tokens: int
    generation_tokens: int
    preemptions: int
    missing: str = ""


SATURATED_QUEUE, SATURATED_CACHE = 5.0, 0.8
"""Waiting requests and KV-cache usage at which llm-d's router counts an engine as saturated."""
BLOCK: Final = 4096
"""Requests that `_open_slots` examines at once."""


@dataclass(frozen=True, slots=True)
class ScrapeWindow:
    """Inputs of a quantity.

    They are the last scrape, the first one of the rate window, and the SLO's limits by name.
    """

    last: ScrapedTotals
    before: ScrapedTotals | None
    slo_limits_s: Mapping[str, float]


Reader = Callable[["EngineTelemetry", ScrapeWindow], float | None]


class EngineTelemetry:
    """Scraped metrics of the engines."""

    def __init__(self, telemetry: Telemetry, kernel: Kernel, rng: np.random.Generator, epoch_s: float) -> None:
        self.telemetry = telemetry
        self._kernel = kernel
        self._rng = rng
        self._epoch_s = epoch_s
        self._scrapes: deque[ScrapedTotals] = deque()
        self._first_open: dict[int, int] = {}
        self._durations_s: dict[tuple[float, int, int], Floats] = {}
        self._last_counters: NDArray[np.int64] = np.zeros((0, COUNTERS), dtype=np.int64)

    def scrape(self) -> None:
        """Scrape now."""
        lost, partial = self._rng.random(2)
        if lost < self.telemetry.lost_share:
            return
        totals = self._totals(partial < self.telemetry.partial_share)
        self._scrapes.append(totals)
        oldest_s = totals.at_s - self.telemetry.window_s - self.telemetry.lag_s - self.telemetry.scrape_interval_s
        while len(self._scrapes) > 2 and self._scrapes[1].at_s < oldest_s:
            self._scrapes.popleft()

    def read(
        self, quantities: tuple[str, ...], slo_limits_s: Mapping[str, float] = NO_LIMITS
    ) -> dict[str, Fresh[float] | Absent]:
        """Return the readings of a query now.

        Requests above `slo_limits_s` (by name of the SLO) are late.
        """
        now_s = self._kernel.now_ps / PS_PER_S
        shown = [s for s in self._scrapes if s.at_s + self.telemetry.lag_s <= now_s]
        if not shown:
            return dict.fromkeys(quantities, Absent("not scraped yet"))
        last = shown[-1]
        if last.replicas == 0:
            return dict.fromkeys(quantities, Absent("no ready engine"))
        since_s = last.at_s - self.telemetry.window_s
        before = next((s for s in shown[:-1] if s.at_s >= since_s - 1e-9 and not s.missing), None)
        window = ScrapeWindow(last, before, slo_limits_s)
        return {quantity: self._reading(quantity, window) for quantity in quantities}

    def _reading(self, quantity: str, window: ScrapeWindow) -> Fresh[float] | Absent:
        total, reader = QUANTITIES[quantity]
        last, recipe = window.last, PRESETS["vllm"].get(quantity)
        if recipe is not None and (no_slo := missing_slo(recipe, window.slo_limits_s)):
            return no_slo
        value: float | None = reader(self, window)
        if value is None:
            return Absent(f"no data for {quantity} in the last {self.telemetry.window_s:g} s")
        if last.missing and not total:
            return Absent(last.missing)
        return Fresh(value, self._epoch_s + last.at_s, last.missing)

    def _totals(self, partial: bool) -> ScrapedTotals:
        unanswered, missing = -1, ""
        if partial:
            replicas = self._kernel.read()
            alive = np.flatnonzero(replicas.takes_requests | (replicas.outstanding > 0))
            if len(alive):
                unanswered = int(alive[int(self._rng.integers(len(alive)))])
                missing = f"replica {unanswered} did not respond"
        sums = self._kernel.totals(unanswered)
        answered = int(sums.alive)
        finished, tokens_in, tokens_out, preemptions = self._counters_of(unanswered)
        return ScrapedTotals(
            at_s=self._kernel.now_ps / PS_PER_S,
            replicas=answered + (unanswered >= 0),
            running=int(sums.running),
            waiting=int(sums.waiting),
            kv_cache_usage=sums.kv_usage / max(1, answered),
            busy_s=sums.busy_ps / PS_PER_S,
            requests=int(sums.finished) + finished,
            prompt_tokens=int(sums.prompt_tokens) + tokens_in,
            generation_tokens=int(sums.output_tokens) + tokens_out,
            preemptions=int(sums.preemptions) + preemptions,
            missing=missing,
        )

    def _counters_of(self, unanswered: int) -> list[int]:
        """Return the last scraped counters of the replica that did not answer (-1: none).

        Also store the new counters.
        """
        if not self.telemetry.partial_share:
            return [0] * COUNTERS
        current = _counters(self._kernel.read())
        last = np.zeros(COUNTERS, dtype=np.int64)
        if unanswered >= 0:
            last[:] = self._last_counters[unanswered] if unanswered < len(self._last_counters) else 0
            current[unanswered] = last
        self._last_counters = current
        return last.tolist()

    def durations_s(
        self, last: ScrapedTotals, begin: RequestMoment, end: RequestMoment, per_token: bool = False
    ) -> Floats:
        """Return the time from `begin` to `end` of each request whose `end` is within the window.

        Seconds.

        `per_token` divides it by the output tokens after the first: 11 tokens in 1 s are 0.1 s per token.
        """
        key = (last.at_s, begin, end)
        if key not in self._durations_s:
            since_ps = max(-1, round((last.at_s - self.telemetry.window_s) * PS_PER_S))  # times are never negative
            recent = self._open_slots(end, since_ps)
            requests = self._kernel.requests[recent]
            ended = requests.at_ps(end)
            rows = np.flatnonzero((ended > since_ps) & (ended <= round(last.at_s * PS_PER_S)))
            durations = (ended[rows] - requests.at_ps(begin)[rows]) / PS_PER_S
            if per_token:
                output = requests.output_tokens[rows]
                durations = durations[output > 1] / (output[output > 1] - 1)
            self._durations_s = {k: v for k, v in self._durations_s.items() if k[0] == last.at_s} | {key: durations}
        return self._durations_s[key]

    def unanswered_prompt_tokens(self, last: ScrapedTotals) -> float:
        """Return the prompt tokens of the requests at engines, without a first token, at a scrape."""
        at_ps = round(last.at_s * PS_PER_S)
        window_ps = max(-1, at_ps - round(self.telemetry.window_s * PS_PER_S))  # as the latencies: it moves forward
        requests = self._kernel.requests[self._open_slots(RequestMoment.FIRST_TOKEN, window_ps)]
        entered, first_token = requests.at_ps(RequestMoment.ENTERED), requests.at_ps(RequestMoment.FIRST_TOKEN)
        waits = (
            (entered >= 0) & (entered < at_ps) & ((first_token > at_ps) | ((first_token < 0) & ~requests.has_failed))
        )
        return float(requests.prompt_tokens[waits].sum())

    def _open_slots(self, end: RequestMoment, since_ps: int) -> NDArray[np.int64] | slice:
        """Return the slots of arrived requests, from the first one open in the window.

        This is the first one whose `end` is not before the window. Windows only move forward, so each request is
        skipped once: `_first_open` remembers how far.
        """
        requests, arrived = self._kernel.requests, self._kernel.arrived
        first = max(self._first_open.get(end, 0), arrived - len(requests))
        for until in range(first + BLOCK, arrived + BLOCK, BLOCK):
            block = requests[self._slots(first, min(until, arrived))]
            ended = block.at_ps(end)
            open_still = (ended > since_ps) | ((ended < 0) & ~block.has_failed)
            if open_still.any():
                first += int(np.argmax(open_still))
                break
            first = min(until, arrived)
        self._first_open[end] = first
        return self._slots(first, arrived)

    def _slots(self, first: int, until: int) -> NDArray[np.int64] | slice:
        """Return the slots of requests by their numbers, in order of arrival."""
        slots = len(self._kernel.requests)
        if first // slots == max(until - 1, first) // slots:
            return slice(first % slots, first % slots + until - first)
        return np.arange(first, until) % slots


def _counters(replicas: ReplicaTable) -> NDArray[np.int64]:
    """Return the counters, one row per replica."""
    return np.column_stack((replicas.finished, replicas.prompt_tokens, replicas.output_tokens, replicas.preemptions))


def _rate(field: str) -> Reader:
    def read(_: EngineTelemetry, window: ScrapeWindow) -> float | None:
        if window.before is None:
            return None
        increase = float(getattr(window.last, field) - getattr(window.before, field))
        return max(0.0, increase / (window.last.at_s - window.before.at_s))

    return read


def _gauge(field: str) -> Reader:
    return lambda _, window: float(getattr(window.last, field))


def _utilization(_: EngineTelemetry, window: ScrapeWindow) -> float | None:
    last, before = window.last, window.before
    if before is None:
        return None
    busy = (last.busy_s - before.busy_s) / ((last.at_s - before.at_s) * max(1, (last.replicas + before.replicas) / 2))
    return BUSY_UTILIZATION * min(1.0, max(0.0, busy))


def _ttft(engines: EngineTelemetry, window: ScrapeWindow) -> Floats:
    # an engine does not measure the wait in a central queue
    return engines.durations_s(window.last, RequestMoment.ENTERED, RequestMoment.FIRST_TOKEN)


def _itl(engines: EngineTelemetry, window: ScrapeWindow) -> Floats:
    return engines.durations_s(window.last, RequestMoment.FIRST_TOKEN, RequestMoment.FINISHED, per_token=True)


def _e2e(engines: EngineTelemetry, window: ScrapeWindow) -> Floats:
    return engines.durations_s(window.last, RequestMoment.ENTERED, RequestMoment.FINISHED)


def _queue_time(engines: EngineTelemetry, window: ScrapeWindow) -> Floats:
    return engines.durations_s(window.last, RequestMoment.ENTERED, RequestMoment.ADMITTED)


Durations = Callable[[EngineTelemetry, ScrapeWindow], Floats]


def _mean_of(durations: Durations) -> Reader:
    def read(engines: EngineTelemetry, window: ScrapeWindow) -> float | None:
        values_s = durations(engines, window)
        return float(values_s.mean()) if values_s.size else None

    return read


def _p95(durations: Durations, bounds_s: Floats) -> Reader:
    return lambda engines, window: quantile(P95, buckets(durations(engines, window), bounds_s))


def _late_share(durations: Durations, slo: str, bounds_s: Floats) -> Reader:
    def read(engines: EngineTelemetry, window: ScrapeWindow) -> float | None:
        limit_s = window.slo_limits_s.get(slo)
        return None if limit_s is None else share_above(limit_s, buckets(durations(engines, window), bounds_s))

    return read


def buckets(durations_s: Floats, bounds_s: Floats) -> dict[float, float]:
    """Return a cumulative histogram of the durations."""
    return dict(
        zip(bounds_s.tolist(), np.searchsorted(np.sort(durations_s), bounds_s, side="right").tolist(), strict=True)
    )


def _pool_saturation(_: EngineTelemetry, window: ScrapeWindow) -> float:
    last = window.last
    return max(last.waiting / last.replicas / SATURATED_QUEUE, last.kv_cache_usage / SATURATED_CACHE)


def _mean(field: str) -> Reader:
    """Return a reader of a total divided by the replicas, like a pods metric of the HPA."""
    return lambda _, window: float(getattr(window.last, field)) / window.last.replicas


QUANTITIES: Final[Mapping[str, tuple[bool, Reader]]] = {
    "e2e_late_share": (False, _late_share(_e2e, "e2e_s", REQUEST_BOUNDS_S)),
    "e2e_mean_s": (False, _mean_of(_e2e)),
    "e2e_p95_s": (False, _p95(_e2e, REQUEST_BOUNDS_S)),
    "generation_tokens_per_s": (True, _rate("generation_tokens")),
    "inflight_tokens": (True, lambda engines, window: engines.unanswered_prompt_tokens(window.last)),
    "itl_late_share": (False, _late_share(_itl, "itl_s", TOKEN_BOUNDS_S)),
    "itl_mean_s": (False, _mean_of(_itl)),
    "itl_p95_s": (False, _p95(_itl, TOKEN_BOUNDS_S)),
    "kv_cache_usage": (False, _gauge("kv_cache_usage")),
    "pool_saturation": (False, _pool_saturation),
    "preemptions_per_s": (True, _rate("preemptions")),
    "prompt_tokens_per_s": (True, _rate("prompt_tokens")),
    RATE_WINDOW: (True, lambda engines, _: engines.telemetry.window_s),
    "queue_time_p95_s": (False, _p95(_queue_time, REQUEST_BOUNDS_S)),
    "requests_per_s": (True, _rate("requests")),
    "running": (True, _gauge("running")),
    "running_per_replica": (False, _mean("running")),
    "ttft_late_share": (False, _late_share(_ttft, "ttft_s", FIRST_BOUNDS_S)),
    "ttft_mean_s": (False, _mean_of(_ttft)),
    "ttft_p95_s": (False, _p95(_ttft, FIRST_BOUNDS_S)),
    "utilization": (False, _utilization),
    "waiting": (True, _gauge("waiting")),
    "waiting_per_replica": (False, _mean("waiting")),
}
"""Quantities: whether each is a total over the replicas (a lower bound where one is missing), and its reader."""
