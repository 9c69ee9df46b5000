"""What a monitoring system knows of the engines: what its last scrapes told, never the present truth."""

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
from scaler.clouds.engines.histogram import P95, quantile, share_above
from simulators.engine.kernel.event_loop import Kernel
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import ReplicaTable, RequestMoment

BUSY_UTILIZATION: Final = 0.973
"""What NVML's gpu_util reads of a GPU that is busy all the time: measured on an H100 (rmse 8.9 points over 1,544
samples), whatever runs; it tells the share of time with any kernel running, not the load."""
TAIL_S: Final = (2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
INF: Final = (math.inf,)
FIRST_BOUNDS_S: Final = np.array(
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, *TAIL_S, 160.0, 640.0, 2560.0, *INF)
)
TOKEN_BOUNDS_S: Final = np.array((0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, *TAIL_S, *INF))
QUEUE_S: Final = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0)
QUEUE_BOUNDS_S: Final = np.array((*QUEUE_S, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0, *INF))
"""The bounds of vLLM 0.24's histograms: what lies between two of them nobody can tell apart."""
NOTHING: Final[Mapping[str, float]] = {}
Floats = NDArray[np.float64]
COUNTERS: Final = 4


@dataclass(frozen=True, kw_only=True)
class Telemetry:
    """How the engines are scraped."""

    scrape_interval_s: Annotated[float, FieldMetadata("Between two scrapes. Seconds.", ge=0.001, le=3600)] = 15.0
    lag_s: Annotated[float, FieldMetadata("From a scrape until it can be queried. Seconds.", ge=0, le=600)] = 0.0
    rate_window_s: Annotated[
        float, FieldMetadata("Rates and latencies are over this long. Seconds.", ge=0.001, le=3600)
    ] = 60.0
    lost_share: Annotated[float, FieldMetadata("Share of scrapes that are lost whole.", ge=0, le=1)] = 0.0
    partial_share: Annotated[
        float, FieldMetadata("Share of scrapes in which one replica does not answer.", ge=0, le=1)
    ] = 0.0


@dataclass(frozen=True, slots=True)
class ScrapedTotals:
    """The engines' totals at one time. `missing` says what did not answer."""

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


BLOCK: Final = 4096
"""Requests that are looked at at once."""


@dataclass(frozen=True, slots=True)
class ScrapeWindow:
    """What a quantity is made of: the last scrape, the one before which rates count from, and what is promised."""

    last: ScrapedTotals
    before: ScrapedTotals | None
    slo_limits_s: Mapping[str, float]


Reader = Callable[["EngineTelemetry", ScrapeWindow], float | None]


class EngineTelemetry:
    """The engines' metrics, scraped."""

    def __init__(self, telemetry: Telemetry, kernel: Kernel, chance: np.random.Generator, epoch_s: float) -> None:
        self.telemetry = telemetry
        self._kernel = kernel
        self._chance = chance
        self._epoch_s = epoch_s
        self._kept: deque[ScrapedTotals] = deque()
        self._settled: dict[int, int] = {}
        self._spans_s: dict[tuple[float, int, int], Floats] = {}
        self._told: NDArray[np.int64] = np.zeros((0, COUNTERS), dtype=np.int64)

    def scrape(self) -> None:
        """Scrape now."""
        lost, partial = self._chance.random(2)
        if lost < self.telemetry.lost_share:
            return
        found = self._look(partial < self.telemetry.partial_share)
        self._kept.append(found)
        oldest_s = found.at_s - self.telemetry.rate_window_s - self.telemetry.lag_s - self.telemetry.scrape_interval_s
        while len(self._kept) > 2 and self._kept[1].at_s < oldest_s:
            self._kept.popleft()

    def read(
        self, quantities: tuple[str, ...], slo_limits_s: Mapping[str, float] = NOTHING
    ) -> dict[str, Fresh[float] | Absent]:
        """Return the readings of a query now; late requests are beyond `slo_limits_s`, by the SLO's name."""
        now_s = self._kernel.now_ps / PS_PER_S
        shown = [s for s in self._kept if s.at_s + self.telemetry.lag_s <= now_s]
        if not shown:
            return dict.fromkeys(quantities, Absent("not scraped yet"))
        last = shown[-1]
        if last.replicas == 0:
            return dict.fromkeys(quantities, Absent("no engine serves"))
        since_s = last.at_s - self.telemetry.rate_window_s
        before = next((s for s in shown[:-1] if s.at_s >= since_s - 1e-9 and not s.missing), None)
        return {quantity: self._one(quantity, ScrapeWindow(last, before, slo_limits_s)) for quantity in quantities}

    def _one(self, quantity: str, look: ScrapeWindow) -> Fresh[float] | Absent:
        total, reader = QUANTITIES[quantity]
        last = look.last
        value: float | None = reader(self, look)
        if value is None:
            return Absent(f"nothing to make {quantity} from in the last {self.telemetry.rate_window_s:g} s")
        if last.missing and not total:
            return Absent(last.missing)
        return Fresh(value, self._epoch_s + last.at_s, last.missing)

    def _look(self, partial: bool) -> ScrapedTotals:
        silent, missing = -1, ""
        if partial:
            replicas = self._kernel.read()
            alive = np.flatnonzero(replicas.takes_requests | (replicas.outstanding > 0))
            if len(alive):
                silent = int(alive[int(self._chance.integers(len(alive)))])
                missing = f"replica {silent} did not answer"
        sums = self._kernel.totals(silent)
        answered = int(sums.alive)
        finished, tokens_in, tokens_out, preemptions = self._last_told(silent)
        return ScrapedTotals(
            at_s=self._kernel.now_ps / PS_PER_S,
            replicas=answered + (silent >= 0),
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

    def _last_told(self, silent: int) -> list[int]:
        """Return the counters of the one replica that is silent (-1: none is), as it last told them."""
        if not self.telemetry.partial_share:
            return [0] * COUNTERS
        told = _counters(self._kernel.read())
        last = np.zeros(COUNTERS, dtype=np.int64)
        if silent >= 0:
            last[:] = self._told[silent] if silent < len(self._told) else 0
            told[silent] = last
        self._told = told
        return last.tolist()

    def spans_s(self, last: ScrapedTotals, begin: RequestMoment, end: RequestMoment, per_token: bool = False) -> Floats:
        """Return a span of each of those requests for which it ended within the window."""
        key = (last.at_s, begin, end)
        if key not in self._spans_s:
            since_ps = max(-1, round((last.at_s - self.telemetry.rate_window_s) * PS_PER_S))  # below 0 stands no time
            recent = self._unsettled(end, since_ps)
            requests = self._kernel.requests[recent]
            ended = requests.at_ps(end)
            rows = np.flatnonzero((ended > since_ps) & (ended <= round(last.at_s * PS_PER_S)))
            spans = (ended[rows] - requests.at_ps(begin)[rows]) / PS_PER_S
            if per_token:
                output = requests.output_tokens[rows]
                spans = spans[output > 1] / (output[output > 1] - 1)
            self._spans_s = {k: v for k, v in self._spans_s.items() if k[0] == last.at_s} | {key: spans}
        return self._spans_s[key]

    def _unsettled(self, end: RequestMoment, since_ps: int) -> NDArray[np.int64] | slice:
        """Return the slots of the arrived requests whose `end` is not settled before a window.

        Windows only move on, and what is settled stays so: each request is passed over once.
        """
        requests, arrived = self._kernel.requests, self._kernel.arrived
        first = max(self._settled.get(end, 0), arrived - len(requests))
        for until in range(first + BLOCK, arrived + BLOCK, BLOCK):
            block = requests[self._slots(first, min(until, arrived))]
            ended = block.at_ps(end)
            open_still = (ended > since_ps) | ((ended < 0) & ~block.has_failed)
            if open_still.any():
                first += int(np.argmax(open_still))
                break
            first = min(until, arrived)
        self._settled[end] = first
        return self._slots(first, arrived)

    def _slots(self, first: int, until: int) -> NDArray[np.int64] | slice:
        """Return the slots of requests by their numbers, in order of arrival."""
        slots = len(self._kernel.requests)
        if first // slots == max(until - 1, first) // slots:
            return slice(first % slots, first % slots + until - first)
        return np.arange(first, until) % slots


def _counters(replicas: ReplicaTable) -> NDArray[np.int64]:
    """Return the numbers that only grow, one row a replica: a silent replica counts with its last ones."""
    return np.column_stack((replicas.finished, replicas.prompt_tokens, replicas.output_tokens, replicas.preemptions))


def _rate(field: str) -> Reader:
    def read(_: EngineTelemetry, look: ScrapeWindow) -> float | None:
        if look.before is None:
            return None
        grown = float(getattr(look.last, field) - getattr(look.before, field))
        return max(0.0, grown / (look.last.at_s - look.before.at_s))

    return read


def _gauge(field: str) -> Reader:
    return lambda _, look: float(getattr(look.last, field))


def _utilization(_: EngineTelemetry, look: ScrapeWindow) -> float | None:
    last, before = look.last, look.before
    if before is None:
        return None
    busy = (last.busy_s - before.busy_s) / ((last.at_s - before.at_s) * max(1, (last.replicas + before.replicas) / 2))
    return BUSY_UTILIZATION * min(1.0, max(0.0, busy))


def _ttft(engines: EngineTelemetry, look: ScrapeWindow) -> Floats:
    return engines.spans_s(
        look.last, RequestMoment.ENTERED, RequestMoment.FIRST_TOKEN
    )  # an engine knows of no queue before it


def _itl(engines: EngineTelemetry, look: ScrapeWindow) -> Floats:
    return engines.spans_s(look.last, RequestMoment.FIRST_TOKEN, RequestMoment.FINISHED, per_token=True)


def _queue_time(engines: EngineTelemetry, look: ScrapeWindow) -> Floats:
    return engines.spans_s(look.last, RequestMoment.ENTERED, RequestMoment.ADMITTED)


Spans = Callable[[EngineTelemetry, ScrapeWindow], Floats]


def _mean_of(spans: Spans) -> Reader:
    def read(engines: EngineTelemetry, look: ScrapeWindow) -> float | None:
        found = spans(engines, look)
        return float(found.mean()) if found.size else None

    return read


def _p95(spans: Spans, bounds_s: Floats) -> Reader:
    return lambda engines, look: quantile(P95, buckets(spans(engines, look), bounds_s))


def _late(spans: Spans, promise: str, bounds_s: Floats) -> Reader:
    def read(engines: EngineTelemetry, look: ScrapeWindow) -> float | None:
        limit_s = look.slo_limits_s.get(promise)
        return None if limit_s is None else share_above(limit_s, buckets(spans(engines, look), bounds_s))

    return read


def buckets(spans_s: Floats, bounds_s: Floats) -> dict[float, float]:
    """Return a histogram of the spans, cumulative."""
    return dict(zip(bounds_s.tolist(), np.searchsorted(np.sort(spans_s), bounds_s, side="right").tolist(), strict=True))


def _mean(field: str) -> Reader:
    """Return a total shared out over the replicas, as what the HPA calls a pods metric is."""
    return lambda _, look: float(getattr(look.last, field)) / look.last.replicas


QUANTITIES: Final[Mapping[str, tuple[bool, Reader]]] = {
    "generation_tokens_per_s": (True, _rate("generation_tokens")),
    "itl_late_share": (False, _late(_itl, "itl_s", TOKEN_BOUNDS_S)),
    "itl_mean_s": (False, _mean_of(_itl)),
    "itl_p95_s": (False, _p95(_itl, TOKEN_BOUNDS_S)),
    "kv_cache_usage": (False, _gauge("kv_cache_usage")),
    "preemptions_per_s": (True, _rate("preemptions")),
    "prompt_tokens_per_s": (True, _rate("prompt_tokens")),
    "queue_time_p95_s": (False, _p95(_queue_time, QUEUE_BOUNDS_S)),
    "requests_per_s": (True, _rate("requests")),
    "running": (True, _gauge("running")),
    "running_per_replica": (False, _mean("running")),
    "ttft_late_share": (False, _late(_ttft, "ttft_s", FIRST_BOUNDS_S)),
    "ttft_mean_s": (False, _mean_of(_ttft)),
    "ttft_p95_s": (False, _p95(_ttft, FIRST_BOUNDS_S)),
    "utilization": (False, _utilization),
    "waiting": (True, _gauge("waiting")),
    "waiting_per_replica": (False, _mean("waiting")),
}
"""What can be told, whether it is a total over the replicas (a lower bound where one is missing), and how."""
