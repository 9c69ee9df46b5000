"""How far the slowest requests lie beyond the mean, learnt from how many were late.

Beyond its mean a latency is taken to fall off exponentially: a share of ``exp(-1 - (x / mean - 1) / spread)`` takes
longer than `x`. A waiting time has a spread of 1; a time per token, averaged over a request, one of 0.1 to 0.2 where
prompts are short beside the decoding, and more where they are not. So it is learnt, in its logarithm, by a Poisson
regression of the late ones that updates itself (the extended Kalman filter of a Poisson count: Fahrmeir 1992). It
learns where requests are late or nearly so, which is where it matters: far below the promise nobody can tell.

A mean and a share of late ones are exact in a histogram, the latter where the promise is one of its bounds. Quantiles
are not: between bounds of 25 and 50 ms each is an interpolation, which says 48.8 of all that lies there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

DOUBT: Final = 0.5
"""Prior standard deviation of the spread, in its logarithm."""
WITHIN: Final = 4.0
"""A learnt spread lies within this factor of the prior, either way, and below `most`: beyond it something else is
wrong. Late requests of bursts within a window otherwise teach spreads that no engine has, and buy fleets for them."""
LINGER: Final = 4.0
"""What was learnt lasts so many times as long as a line: there is mostly nothing to learn it from."""
CLUMP: Final = 4.0
"""Late requests come in clumps: so many count as one."""
OUTLIER: Final = 2.0
"""Residuals count at most as so many standard deviations."""
FAR: Final = 100.0
"""Mean excesses from the mean to a limit are told apart up to this: nobody is ever that late."""
STEP: Final = 0.3
"""The logarithm moves by no more than this in a turn: beyond it the line is no tangent any more."""
SURE: Final = 1e-4
"""Nothing is ever known to better than a hundredth (as a variance)."""
WIDEST: Final = 1e3
"""No latency exceeds its mean by a thousand means, on average."""
SELDOM: Final = 1e-4
"""Shares are told apart down to this: one request in ten thousand."""


@dataclass(frozen=True, slots=True)
class LatencyTail:
    """`spread` is the mean excess over the mean, as a share of it: what it is taken for before anything is known is
    `prior`, and `most` what it may be. `variance` is that of its logarithm."""

    spread: float
    prior: float
    most: float = math.inf
    variance: float = DOUBT**2

    @staticmethod
    def of(prior: float, most: float = math.inf) -> LatencyTail:
        """Before anything is known but the prior."""
        return LatencyTail(prior, prior, most)

    def late_share(self, limit_s: float, mean_s: float) -> float:
        """Return the share of requests that takes longer than `limit_s`."""
        if mean_s <= 0.0:
            return 0.0
        return math.exp(-max(0.0, 1.0 + (limit_s / mean_s - 1.0) / self.spread))

    def mean_s(self, limit_s: float, share: float) -> float:
        """Return the mean at which `share` of the requests take no longer than `limit_s`."""
        beyond = -math.log(max(1.0 - share, SELDOM)) - 1.0
        return limit_s / max(1.0 + self.spread * beyond, 0.5)

    def learn(self, limit_s: float, mean_s: float, late_share: float, requests: float, forget: float) -> LatencyTail:
        """With one more turn of so many requests, with this mean, of which this share took longer than `limit_s`."""
        faded = self.faded(forget)
        beyond = min(FAR, (limit_s / mean_s - 1.0) / faded.spread)
        if beyond <= 0.0 or requests <= 0.0:
            return faded
        expected = requests * faded.late_share(limit_s, mean_s)
        noise, slope = max(CLUMP * expected, 1e-12), expected * beyond
        spread_of = math.sqrt(noise + slope * slope * faded.variance)
        off = max(-OUTLIER * spread_of, min(OUTLIER * spread_of, requests * late_share - expected))
        variance = 1.0 / (1.0 / faded.variance + slope * slope / noise)
        step = max(-STEP, min(STEP, variance * slope / noise * off))
        spread = faded.spread * math.exp(step)
        bounded = max(self.prior / WITHIN, min(self.prior * WITHIN, self.most, spread))
        return replace(self, spread=bounded, variance=max(variance, SURE))

    def faded(self, forget: float) -> LatencyTail:
        """After some forgetting: less sure, and nearer to the prior."""
        spread = self.spread * (self.prior / self.spread) ** (forget / LINGER)
        return replace(self, spread=spread, variance=min(self.variance / (1.0 - forget), DOUBT**2))

    def memory(self, name: str) -> dict[str, float]:
        """As a policy hands it on; nothing while nothing was learnt, so that a prior may still change."""
        if self.spread == self.prior:
            return {}
        return {f"{name}.spread": self.spread, f"{name}.spread_variance": self.variance}

    @staticmethod
    def from_memory(name: str, memory: Mapping[str, float], prior: float, most: float = math.inf) -> LatencyTail:
        """As it was handed on; the prior where it was not, or where a record gives what cannot have been learned."""
        spread = memory.get(f"{name}.spread", math.nan)
        variance = memory.get(f"{name}.spread_variance", math.nan)
        if not (0.0 < spread <= WIDEST and 0.0 <= variance <= 2.0 * DOUBT**2):
            return LatencyTail.of(prior, most)
        return LatencyTail(spread, prior, most, variance)
