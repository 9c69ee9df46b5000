"""The load that one replica carries, learned from mean latencies at measured loads.

A continuously batching engine resembles a shared processor: at a share rho of its maximum throughput, every request
takes 1 / (1 - rho) times as long (Kleinrock 1967, processor sharing). So the reciprocal of a mean latency falls in a
straight line with the load per replica, from the pace of an idle engine to zero at saturation:
``1 / latency = pace * (1 - load / saturation)``.

Example: an idle engine has an ITL of 20 ms, a pace of 50 per s, and a saturation of 1.0. At a load of 0.6 the ITL is
1 / (50 * (1 - 0.6)) = 50 ms. So an ITL limit of 50 ms allows a load of 0.6.

Each latency has these two numbers. An extended Kalman filter in their logarithms with forgetting (Ljung 1999, section
11.2) learns them from a prior. Neither number can reach zero, and outliers are bounded. A load beyond the believed
saturation corrects the saturation and not the pace. The state survives a restart exactly (`LoadLine` is in the policy's
memory), and its uncertainty is known. An engine with a standing queue runs at saturation, which measures the saturation
directly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

NOISE: Final = 0.15
"""Standard deviation of one tick's reciprocal latency about the line, as a share of the idle engine's pace."""
OUTLIER_SIGMAS: Final = 2.0
"""A residual counts as at most this many standard deviations (Huber 1964 has 1.345 for pure noise; ours is skewed)."""
PACE_SIGMA: Final = 1.0
"""Prior standard deviation of the logarithm of the pace: almost unknown."""
SATURATION_SIGMA: Final = 0.4
"""Prior standard deviation of the logarithm of the saturation: service models of other engines err by as much."""
MIN_VARIANCE: Final = 1e-6
"""Smallest variance, a standard deviation of 0.001: after rounding the matrix must remain a covariance matrix."""
MAX_FACTOR: Final = 8.0
"""The saturation stays within this factor of the prior, either way: beyond it another part of the model is wrong."""
PASSES: Final = 3
"""Linearizations per tick, each about the result of the last (Bell and Cathey 1993): the first may be far off."""
MAX_PACE, MIN_PACE = 1e6, 1e-6
"""Bounds of a pace (1/s): latencies of a microsecond and of 11 days."""


class LoadLine(NamedTuple):
    """The line of one reciprocal latency over the load per replica.

    `pace` is the reciprocal latency of an idle engine (1/s), `saturation` the load at which the latency is infinite, as
    a multiple of the prior saturation. `pace_variance`, `covariance` and `saturation_variance` are the covariance
    matrix of their logarithms.
    """

    pace: float
    saturation: float
    pace_variance: float
    covariance: float
    saturation_variance: float

    @staticmethod
    def prior(latency_s: float) -> LoadLine:
        """Return the line before any measurement, for an idle engine with about `latency_s`."""
        return LoadLine(1.0 / latency_s, 1.0, PACE_SIGMA**2, 0.0, SATURATION_SIGMA**2)

    def learn(self, load: float, latency_s: float, forget: float, weight: float = 1.0) -> LoadLine:
        """Return the line after one more tick with this load per replica and mean latency.

        `forget` (0 to 1) is the share of the knowledge that fades first, `weight` (0 to 1) that of the tick.

        Example: the prior has an idle latency of 100 ms, so it predicts 200 ms at a load of 0.5. A tick with 250 ms at
        0.5 moves the idle latency to 119 ms and the saturation from 1.0 to 0.97.
        """
        measured, line = 1.0 / (latency_s * self.pace), self
        faded = self.faded(forget)
        for _ in range(PASSES):
            pace_change = math.log(line.pace / self.pace)
            saturation_change = math.log(line.saturation / self.saturation)
            used = min(1.0, load / line.saturation)
            idle = 1.0 - used
            residual = measured * self.pace / line.pace - idle + idle * pace_change + used * saturation_change
            line = faded.corrected(idle, used, residual, weight)
        return line

    def saturated(self, load: float, forget: float, weight: float = 1.0) -> LoadLine:
        """Return the line after one more tick with a standing queue.

        In this tick, each engine ran at `load`. Example: the prior saturation is 1.0 and engines with a standing queue
        run at 0.8. The saturation becomes 0.82, and its variance falls from 0.16 to 0.02.
        """
        faded = self.faded(forget)
        return faded.corrected(0.0, 1.0, math.log(max(load, 1e-9) / self.saturation), weight)

    def corrected(self, by_pace: float, by_saturation: float, residual: float, weight: float) -> LoadLine:
        """Return the line after a residual: the update of a Kalman filter.

        `by_pace` and `by_saturation` are the derivatives of the residual with respect to the two logarithms.
        """
        pp, ps, ss = self.pace_variance, self.covariance, self.saturation_variance
        gain_p, gain_s = pp * by_pace + ps * by_saturation, ps * by_pace + ss * by_saturation
        variance = max(0.0, by_pace * gain_p + by_saturation * gain_s) + NOISE**2 / max(weight, 1e-3)
        limit = OUTLIER_SIGMAS * math.sqrt(variance)
        step = max(-limit, min(limit, residual)) / variance
        pace = max(MIN_PACE, min(MAX_PACE, self.pace * math.exp(gain_p * step)))
        saturation = max(1.0 / MAX_FACTOR, min(MAX_FACTOR, self.saturation * math.exp(gain_s * step)))
        after_pp = max(pp - gain_p * gain_p / variance, MIN_VARIANCE)
        after_ss = max(ss - gain_s * gain_s / variance, MIN_VARIANCE)
        limit_ps = math.sqrt(after_pp * after_ss)
        after_ps = max(-limit_ps, min(limit_ps, ps - gain_p * gain_s / variance))
        return LoadLine(pace, saturation, after_pp, after_ps, after_ss)

    def faded(self, forget: float) -> LoadLine:
        """Return the line with larger variances, up to the prior's.

        Example: 0.04 becomes 0.0402 with 0.5 % forgotten.
        """
        bounds = PACE_SIGMA**2 / self.pace_variance, SATURATION_SIGMA**2 / self.saturation_variance
        growth = max(1.0, min(1.0 / (1.0 - forget), *bounds))
        return LoadLine(
            self.pace,
            self.saturation,
            self.pace_variance * growth,
            self.covariance * growth,
            self.saturation_variance * growth,
        )

    @property
    def idle_s(self) -> float:
        """Latency of an idle engine. Seconds."""
        return 1.0 / self.pace

    def limit(self, latency_s: float) -> float:
        """Return the load per replica at which the latency reaches `latency_s`.

        It is 0 if an idle engine exceeds it. Example: with 20 ms on an idle engine and a saturation of 1.0, 50 ms are
        reached at 1.0 * (1 - 20 / 50) = 0.6.
        """
        return self.saturation * max(0.0, 1.0 - self.idle_s / latency_s)

    def uncertainty(self, load: float) -> float:
        """Return the standard deviation of a load from `limit`, as a share of it.

        It is computed by first-order propagation. Example: at a saturation of 1.0 with variances of 0.01 (pace) and
        0.04 (saturation), the uncertainty of a load of 0.6 is 21 %, and of 0.2, where the pace matters more, 45 %.
        """
        idle = max(0.0, 1.0 - load / self.saturation)
        by_pace = idle / max(1.0 - idle, 1e-9)
        variance = self.saturation_variance + 2 * by_pace * self.covariance + by_pace * by_pace * self.pace_variance
        return math.sqrt(max(variance, 0.0))

    def memory(self, name: str) -> dict[str, float]:
        """Return the line as numbers for the policy's memory."""
        values = (self.pace, self.saturation, self.pace_variance, self.covariance, self.saturation_variance)
        return dict(zip(_names(name), values, strict=True))

    @staticmethod
    def from_memory(name: str, memory: Mapping[str, float], latency_s: float) -> LoadLine:
        """Return the recorded line, or the prior.

        The prior is used if no line is recorded, or if the record cannot have been learned.
        """
        pace, saturation, pp, ps, ss = [memory.get(key, math.nan) for key in _names(name)]
        is_bounded = MIN_PACE <= pace <= MAX_PACE and 1.0 / MAX_FACTOR <= saturation <= MAX_FACTOR
        is_covariance = (
            0.0 < pp <= 2.0 * PACE_SIGMA**2 and 0.0 < ss <= 2.0 * SATURATION_SIGMA**2 and ps * ps <= 1.001 * pp * ss
        )
        return LoadLine(pace, saturation, pp, ps, ss) if is_bounded and is_covariance else LoadLine.prior(latency_s)


KEYS: Final = ("pace", "saturation", "pp", "ps", "ss")


@lru_cache(maxsize=64)
def _names(latency: str) -> tuple[str, ...]:
    """Return the names of a line's numbers in the policy's memory: ``itl_s.pace``."""
    return tuple(f"{latency}.{key}" for key in KEYS)
