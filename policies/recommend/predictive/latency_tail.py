"""The tail of a latency above its mean, learned from the share of late requests.

The tail is exponential: a share of ``exp(-1 - (x / mean - 1) / spread)`` of the requests takes longer than `x`. A
waiting time has a spread of 1; a time per output token, averaged over a request, one of 0.1 to 0.2 if prompts are short
compared with decoding, and more otherwise.

Example: at a mean ITL of 30 ms and a spread of 0.15, exp(-1 - (50 / 30 - 1) / 0.15) = 0.43 % take longer than 50 ms.

The logarithm of the spread is learned by a recursive Poisson regression of the number of late requests (the extended
Kalman filter of a Poisson count: Fahrmeir 1992). It learns where requests are late or nearly late, which is where the
tail matters; far below the SLO there is nothing to learn from.

A histogram gives the exact mean, and the exact late share if the SLO is one of its bounds. It does not give exact
quantiles: between bounds of 25 and 50 ms, a p95 is an interpolation and reads 48.8 ms for any distribution between
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Values = TypeVar("Values", float, "NDArray[np.float64]")

SPREAD_SIGMA: Final = 0.5
"""Prior standard deviation of the logarithm of the spread."""
MAX_FACTOR: Final = 4.0
"""The spread stays within this factor of the prior, either way, and below `max_spread`: beyond it another part of the
model is wrong. Otherwise late requests of short bursts teach spreads that no engine has, and the fleet grows for
them."""
DECAY_RATIO: Final = 4.0
"""The spread decays to the prior this many times as slowly as a `LoadLine`, since few ticks have late requests."""
CLUMP_SIZE: Final = 4.0
"""Late requests occur in clumps: this many count as one."""
OUTLIER_SIGMAS: Final = 2.0
"""A residual counts as at most this many standard deviations."""
MAX_DISTANCE: Final = 100.0
"""Largest distance from the mean to the limit, in mean excesses: no request is that late."""
MAX_STEP: Final = 0.3
"""The logarithm moves by at most this much per tick: beyond it the linearization is not valid."""
MIN_VARIANCE: Final = 1e-4
"""Smallest variance, a standard deviation of 0.01."""
MAX_SPREAD: Final = 1e3
"""Largest spread that a record may hold: a mean excess of a thousand means."""
MIN_LATE_SHARE: Final = 1e-4
"""Smallest allowed late share: one request in ten thousand."""


@dataclass(frozen=True, slots=True)
class LatencyTail:
    """The spread of one latency above its mean.

    `spread` is the mean excess over the mean, as a share of the mean: `prior_spread` before any measurement, and at
    most `max_spread`. `variance` is the variance of its logarithm.
    """

    spread: float
    prior_spread: float
    max_spread: float = math.inf
    variance: float = SPREAD_SIGMA**2

    @staticmethod
    def of(prior_spread: float, max_spread: float = math.inf) -> LatencyTail:
        """Return the tail before any measurement."""
        return LatencyTail(prior_spread, prior_spread, max_spread)

    def late_share(self, limit_s: float, mean_s: float) -> float:
        """Return the share of requests that takes longer than `limit_s`.

        Example: at a mean of 30 ms and a spread of 0.15, it is 0.43 % above 50 ms.
        """
        if mean_s <= 0.0:
            return 0.0
        return math.exp(-max(0.0, self.exponent(limit_s / mean_s)))

    def exponent(self, limit_ratio: Values) -> Values:
        """Return the negative logarithm of the late share, below 0 where all requests are late.

        `limit_ratio` is the limit as a multiple of the mean. Example: with a spread of 0.15, 50 / 30 gives
        1 + (50 / 30 - 1) / 0.15 = 5.4, a late share of exp(-5.4) = 0.43 %.
        """
        return 1.0 + (limit_ratio - 1.0) / self.spread

    def mean_s(self, limit_s: float, share: float) -> float:
        """Return the mean at which `share` of the requests take no longer than `limit_s`.

        Example: with a spread of 0.15, 99 % stay within 50 ms at a mean of 50 / (1 + 0.15 * (ln(100) - 1)) = 32.5 ms.
        """
        distance = -math.log(max(1.0 - share, MIN_LATE_SHARE)) - 1.0
        return limit_s / max(1.0 + self.spread * distance, 0.5)

    def learn(self, limit_s: float, mean_s: float, late_share: float, requests: float, forget: float) -> LatencyTail:
        """Return the tail after one more tick.

        In this tick, `late_share` of its `requests` took longer than `limit_s`.

        Example: 150 requests have a mean of 30 ms. A spread of 0.15 predicts 0.65 requests above 50 ms; 1 % are above,
        1.5 requests. The spread rises to 0.17.
        """
        faded = self.faded(forget)
        distance = min(MAX_DISTANCE, (limit_s / mean_s - 1.0) / faded.spread)
        if distance <= 0.0 or requests <= 0.0:
            return faded
        expected = requests * faded.late_share(limit_s, mean_s)
        count_variance, slope = max(CLUMP_SIZE * expected, 1e-12), expected * distance
        sigma = math.sqrt(count_variance + slope * slope * faded.variance)
        residual = max(-OUTLIER_SIGMAS * sigma, min(OUTLIER_SIGMAS * sigma, requests * late_share - expected))
        variance = 1.0 / (1.0 / faded.variance + slope * slope / count_variance)
        step = max(-MAX_STEP, min(MAX_STEP, variance * slope / count_variance * residual))
        spread = faded.spread * math.exp(step)
        bounded_spread = max(
            self.prior_spread / MAX_FACTOR, min(self.prior_spread * MAX_FACTOR, self.max_spread, spread)
        )
        return LatencyTail(bounded_spread, self.prior_spread, self.max_spread, max(variance, MIN_VARIANCE))

    def faded(self, forget: float) -> LatencyTail:
        """Return the tail with a larger variance and a spread nearer to the prior."""
        spread = self.spread * (self.prior_spread / self.spread) ** (forget / DECAY_RATIO)
        variance = min(self.variance / (1.0 - forget), SPREAD_SIGMA**2)
        return LatencyTail(spread, self.prior_spread, self.max_spread, variance)

    def memory(self, name: str) -> dict[str, float]:
        """Return the tail as numbers for the policy's memory.

        It has none while it is the prior, which may still change.
        """
        if self.spread == self.prior_spread:
            return {}
        return {f"{name}.spread": self.spread, f"{name}.spread_variance": self.variance}

    @staticmethod
    def from_memory(
        name: str, memory: Mapping[str, float], prior_spread: float, max_spread: float = math.inf
    ) -> LatencyTail:
        """Return the recorded tail, or the prior.

        The prior is used if no tail is recorded, or if the record cannot have been learned.
        """
        spread = memory.get(f"{name}.spread", math.nan)
        variance = memory.get(f"{name}.spread_variance", math.nan)
        if not (0.0 < spread <= MAX_SPREAD and 0.0 <= variance <= 2.0 * SPREAD_SIGMA**2):
            return LatencyTail.of(prior_spread, max_spread)
        return LatencyTail(spread, prior_spread, max_spread, variance)
