"""Observed tokens per minute, and the hours of the week that were observed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.cost.inputs import ManagedApi
from simulators.provisioned.offers import Unit
from simulators.provisioned.spillover import UnitLoad
from simulators.reporting.time_bins import Floats

HOUR_S: Final = 3600.0
WEEK_HOURS: Final = 168
WEEK_S: Final = HOUR_S * WEEK_HOURS
MONDAY_S: Final = 4 * 86_400.0
"""The first Monday of Unix time, 1970-01-05, at 00:00 UTC."""
SEEN_S: Final = 1800.0
"""Time observed of an hour of the week from which it counts as seen. Seconds."""


@dataclass(frozen=True)
class TokenSamples:
    """Tokens per minute of consecutive spans of time, of which all are known.

    A span starts at `at` (Unix time) and lasts `seconds`. `input` includes the `cached` prompt tokens; None: not known.
    `utilization` is the observed use of the held units, 1 for all of it and NaN where it is unknown; None: not known.
    """

    at: Floats
    seconds: Floats
    input: Floats
    output: Floats
    cached: Floats | None
    utilization: Floats | None
    origin: str

    @property
    def span_h(self) -> float:
        """Time from the first to the last observation, with the gaps. Hours."""
        return float(self.at[-1] + self.seconds[-1] - self.at[0]) / HOUR_S

    @property
    def seen_h(self) -> float:
        """Observed time. Hours."""
        return float(self.seconds.sum()) / HOUR_S

    @cached_property
    def hour_of_week(self) -> NDArray[np.int64]:
        """Hour of the week in which each span starts: 0 is Monday 00:00 UTC, 167 Sunday 23:00."""
        return ((self.at - MONDAY_S) % WEEK_S // HOUR_S).astype(np.int64)

    @cached_property
    def seconds_by_hour(self) -> Floats:
        """Observed time of each of the 168 hours of the week. Seconds."""
        return np.asarray(np.bincount(self.hour_of_week, self.seconds, WEEK_HOURS), np.float64)

    @property
    def hours_seen(self) -> int:
        """Number of the 168 hours of the week that were observed for at least `SEEN_S`."""
        return int((self.seconds_by_hour >= SEEN_S).sum())

    @property
    def weights(self) -> Floats:
        """Share of a typical week of each span.

        Each seen hour of the week has the same share: Mondays observed for four weeks and Tuesdays for one have the
        same weight. An hour observed for less than `SEEN_S` has a smaller one.
        """
        shares = self.seconds / np.maximum(self.seconds_by_hour[self.hour_of_week], SEEN_S)
        return np.asarray(shares / shares.sum(), np.float64)

    @property
    def tokens(self) -> Floats:
        """Prompt and output tokens per minute."""
        return self.input + self.output

    def mean_by_hour(self, values: Floats) -> Floats:
        """Return the mean of the values in each hour of the week; NaN where it was not seen."""
        sums = np.bincount(self.hour_of_week, values * self.seconds, WEEK_HOURS)
        seen = self.seconds_by_hour
        means = np.divide(sums, seen, out=np.full(WEEK_HOURS, np.nan), where=seen >= SEEN_S)
        return np.asarray(means, np.float64)

    def taken(self, rows: NDArray[np.bool_]) -> TokenSamples:
        """Return the samples of these rows only."""
        cached = None if self.cached is None else self.cached[rows]
        utilization = None if self.utilization is None else self.utilization[rows]
        return TokenSamples(
            self.at[rows], self.seconds[rows], self.input[rows], self.output[rows], cached, utilization, self.origin
        )


def unit_load(samples: TokenSamples, unit: Unit, prices: ManagedApi) -> UnitLoad:
    """Return the load in units of a kind, and its pay-as-you-go cost.

    12,000 prompt and 1,000 output tokens per minute at weight 4 and 3,000 tokens per minute of a unit are 5.3 units.
    """
    return UnitLoad(_units(samples, unit), _usd_per_hour(samples, unit, prices), samples.tokens, samples.weights)


def _units(samples: TokenSamples, unit: Unit) -> Floats:
    cached = 0.0 if samples.cached is None else samples.cached
    prompt = samples.input - (1.0 - unit.cached_weight) * cached
    if unit.output_tokens_per_minute is not None:
        by_output = samples.output / unit.output_tokens_per_minute
        by_input = 0.0 if unit.input_tokens_per_minute is None else prompt / unit.input_tokens_per_minute
        return np.asarray(np.maximum(by_input, by_output), np.float64)
    if unit.input_tokens_per_minute is None:
        raise ValueError("a unit has input or output tokens per minute")
    return np.asarray((prompt + unit.output_weight * samples.output) / unit.input_tokens_per_minute, np.float64)


def _usd_per_hour(samples: TokenSamples, unit: Unit, prices: ManagedApi) -> Floats:
    """Return the pay-as-you-go cost of the tokens that the unit serves.

    A unit may serve prompts only, or output only.
    """
    cached = np.zeros_like(samples.input) if samples.cached is None else samples.cached
    cached_price = prices.cached_input_usd_per_million
    usd = np.zeros_like(samples.input)
    if unit.input_tokens_per_minute is not None:
        usd += (samples.input - cached) * prices.input_usd_per_million
        usd += cached * (prices.input_usd_per_million if cached_price is None else cached_price)
    if unit.output_tokens_per_minute is not None or unit.output_weight > 0:
        usd += samples.output * prices.output_usd_per_million
    return np.asarray(usd * 60.0 / 1e6, np.float64)
