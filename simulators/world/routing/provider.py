"""A simulated token API: its latency, rate limits, price and faults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from policies.model.field_metadata import FieldMetadata
from policies.model.route_spec import Provider
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import Mask, Picoseconds, RequestEnd, Tokens
from simulators.world.fault_period import FaultPeriod

MINUTE_PS: Final = 60 * PS_PER_S
TOKENS_PER_PRICE: Final = 1e6
Fault = Literal["slow", "throttled", "unavailable"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """A log-normal time, defined by its median and the standard deviation of its logarithm."""

    median_s: Annotated[float, FieldMetadata("Median. Seconds.", ge=0, le=3600)]
    sigma: Annotated[
        float,
        FieldMetadata("Log-normal spread: p95 = median * exp(1.645 sigma). Default: 0, always the median.", ge=0, le=3),
    ] = 0.0

    def seconds(self, normals: Floats) -> Floats:
        """Return the times for standard normal draws.

        A median of 0.4 s and a sigma of 0.5 give 0.4 * exp(0.5 * 1.645) = 0.91 s at 1.645 (p95).
        """
        return np.asarray(self.median_s * np.exp(self.sigma * normals))


@dataclass(frozen=True, kw_only=True)
class ProviderFault(FaultPeriod):
    """A period in which a provider is slow, rejects requests, or does not serve them."""

    fault: Annotated[
        Fault,
        FieldMetadata(
            "slow multiplies TTFT and ITL by factor. throttled answers 429, which reaches the client. unavailable"
            " answers 503 at once, and the gateway sends the request to the pools."
        ),
    ]
    share: Annotated[float, FieldMetadata("Share of the requests with this fault. Share.", ge=0, le=1)] = 1.0
    factor: Annotated[float, FieldMetadata("Multiplier of slow responses. Factor.", ge=1, le=1000)] = 5.0

    def affects(self, arrived_ps: Picoseconds, draws: Floats) -> Mask:
        """Return the requests that have this fault, for uniform draws."""
        until_s = np.inf if self.until_s is None else self.until_s
        arrived_s = arrived_ps / PS_PER_S
        return np.asarray((arrived_s >= self.since_s) & (arrived_s < until_s) & (draws < self.share))


@dataclass(frozen=True, kw_only=True)
class SimulatedProvider(Provider):
    """A token API of the world: its true price and rate limits, its latency and its faults.

    A workload may know other prices and limits. The limits apply to each minute of the run.
    """

    ttft: Annotated[
        Latency, FieldMetadata("Time to first token. Default: 0.4 s (p50) and 0.91 s (p95), an assumption.")
    ] = field(default_factory=lambda: Latency(median_s=0.4, sigma=0.5))
    itl: Annotated[
        Latency,
        FieldMetadata("Mean inter-token latency of a request. Default: 10 ms (p50) and 16 ms (p95), an assumption."),
    ] = field(default_factory=lambda: Latency(median_s=0.01, sigma=0.3))
    faults: Annotated[
        tuple[ProviderFault, ...], FieldMetadata("Periods of slow or failing responses. Default: none.")
    ] = ()


class Arrivals(NamedTuple):
    """Requests on their way to a backend, one entry a request.

    `draws` has the random numbers of each: two standard normals (TTFT, ITL) and a uniform one (faults).
    """

    arrived_ps: Picoseconds
    prompt_tokens: Tokens
    output_tokens: Tokens
    draws: Floats


class Answers(NamedTuple):
    """The answers of a provider, one entry a request.

    `is_served` is false for a request that the gateway must send elsewhere. `finished_ps` is `RequestEnd.REJECTED` for
    a status of 429, which has no first token and costs nothing.
    """

    is_served: Mask
    first_token_ps: Picoseconds
    finished_ps: Picoseconds
    usd: Floats


class ResponseTimes:
    """Times until responses of a provider began and ended, by which its latency is measured."""

    def __init__(self) -> None:
        self._times_ps: NDArray[np.int64] = np.zeros((3, 0), np.int64)
        """Rows: arrival, first token and end; one column a response."""

    def add(self, arrived_ps: Picoseconds, first_token_ps: Picoseconds, finished_ps: Picoseconds) -> None:
        """Record responses. A negative time of the first token is a request without a response."""
        added = np.stack((arrived_ps, first_token_ps, finished_ps))[:, first_token_ps >= 0]
        self._times_ps = np.hstack((self._times_ps, added))

    def quantile_s(self, share: float, now_ps: int, *, is_whole: bool) -> float | None:
        """Return a quantile of the responses that began since the last call, or ended if `is_whole`.

        Returns None without any.
        """
        arrived_ps, at_ps = self._times_ps[0], self._times_ps[2 if is_whole else 1]
        is_past = at_ps <= now_ps
        waited_s = (at_ps - arrived_ps)[is_past] / PS_PER_S
        self._times_ps = self._times_ps[:, ~is_past]
        return float(np.quantile(waited_s, share)) if len(waited_s) else None


class TokenApi:
    """A provider in a run. It counts the requests and tokens of the present minute."""

    def __init__(self, settings: SimulatedProvider, round_trip_s: Mapping[str, float]) -> None:
        self.settings = settings
        self._round_trip_s = 0.0 if settings.region is None else round_trip_s.get(settings.region, 0.0)
        self._minute = -1
        self._requests = 0
        self._tokens = 0

    def answer(self, arrivals: Arrivals) -> Answers:
        """Return the answers to requests, in order of arrival."""
        slowdown, throttled, unavailable = self._faults(arrivals)
        accepted = self._within_limits(arrivals, ~throttled & ~unavailable)
        first_ps, finished_ps = self._times_ps(arrivals, slowdown)
        prices = self.settings.usd_per_million_input_tokens, self.settings.usd_per_million_output_tokens
        usd = (arrivals.prompt_tokens * prices[0] + arrivals.output_tokens * prices[1]) / TOKENS_PER_PRICE
        return Answers(
            ~unavailable,
            np.where(accepted, first_ps, -1),
            np.where(accepted, finished_ps, int(RequestEnd.REJECTED)),
            np.where(accepted, usd, 0.0),
        )

    def _faults(self, arrivals: Arrivals) -> tuple[Floats, Mask, Mask]:
        """Return the slowdown of each request, and those that get 429 or 503."""
        arrived_ps, draws = arrivals.arrived_ps, arrivals.draws[:, 2]
        failing: Mapping[str, Mask] = {
            "throttled": np.zeros(len(draws), np.bool_),
            "unavailable": np.zeros(len(draws), np.bool_),
        }
        slowdown = np.ones(len(draws))
        for fault in self.settings.faults:
            affected = fault.affects(arrived_ps, draws)
            if fault.fault == "slow":
                slowdown[affected] *= fault.factor
            else:
                failing[fault.fault][affected] = True
        return slowdown, failing["throttled"], failing["unavailable"]

    def _within_limits(self, arrivals: Arrivals, candidates: Mask) -> Mask:
        """Return the candidates that the rate limits accept: the first ones of each minute."""
        max_requests, max_tokens = self.settings.max_requests_per_min, self.settings.max_tokens_per_min
        if max_requests is None and max_tokens is None:
            return candidates
        accepted = candidates.copy()
        tokens = (arrivals.prompt_tokens.astype(np.int64) + arrivals.output_tokens).tolist()
        minutes = (arrivals.arrived_ps // MINUTE_PS).tolist()
        for k in np.flatnonzero(candidates).tolist():
            if minutes[k] != self._minute:
                self._minute, self._requests, self._tokens = minutes[k], 0, 0
            has_request = max_requests is None or self._requests + 1 <= max_requests
            accepted[k] = has_request and (max_tokens is None or self._tokens + tokens[k] <= max_tokens)
            if accepted[k]:
                self._requests += 1
                self._tokens += tokens[k]
        return accepted

    def _times_ps(self, arrivals: Arrivals, slowdown: Floats) -> tuple[Picoseconds, Picoseconds]:
        """Return the times of the first and the last token."""
        ttft_s = self.settings.ttft.seconds(arrivals.draws[:, 0]) * slowdown + self._round_trip_s
        itl_s = self.settings.itl.seconds(arrivals.draws[:, 1]) * slowdown
        decode_s = itl_s * np.maximum(arrivals.output_tokens - 1, 0)
        first_ps = arrivals.arrived_ps + np.round(ttft_s * PS_PER_S).astype(np.int64)
        return first_ps, first_ps + np.round(decode_s * PS_PER_S).astype(np.int64)
