"""What one replica carries, learnt from the mean latencies that loads came with.

A continuously batching engine is close to a shared processor: at a share rho of what it could do at most, everything
takes 1 / (1 - rho) times as long (Kleinrock 1967, processor sharing). So the reciprocal of a mean latency falls in a
straight line with the load per replica, ``1 / latency = pace * (1 - load / saturation)``, from the pace of an idle
engine to nothing at saturation. Two numbers a latency, by an extended Kalman filter in their logarithms with forgetting
(Ljung 1999, section 11.2) from a prior: neither can reach zero, a load beyond the saturation believed so far corrects
the saturation and not the pace, outliers are bounded, it is exact after a restart (`LoadLine` lives in the policy's
memory), and it says how sure it is. An engine with a standing queue does all it can: that tells the saturation by
itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

NOISE: Final = 0.15
"""Standard deviation of a turn's reciprocal latency about the line, as a share of an idle engine's."""
OUTLIER: Final = 2.0
"""Residuals count at most as so many standard deviations (Huber 1964 has 1.345 for pure noise; ours is skewed)."""
SCALE: Final = 1.0
"""Prior standard deviation of an idle engine's pace, in its logarithm: all but unknown."""
WORTH: Final = 0.4
"""Prior standard deviation of the load at saturation, likewise: service models of other engines err by as much."""
SURE: Final = 1e-6
"""Nothing is ever known to better than a thousandth (as a variance): what rounding leaves must stay a covariance."""
BOUND: Final = 8.0
"""A learnt capacity lies within this factor of the prior, either way: beyond it something else is wrong."""
PASSES: Final = 3
"""How often a turn is linearised anew where the last pass led (Bell and Cathey 1993): a first guess may be far off."""
FAST, SLOW = 1e6, 1e-6
"""Bounds of a pace (1/s): latencies of a microsecond and of days are no latencies."""


@dataclass(frozen=True, slots=True)
class LoadLine:
    """The line of one latency: `pace` is the reciprocal latency of an idle engine (1/s), `saturation` the load at which
    nothing is answered in time, in the prior's saturations; `pp`, `ps`, `ss` are the covariance of their logarithms.
    """

    pace: float
    saturation: float
    pp: float
    ps: float
    ss: float

    @staticmethod
    def prior(latency_s: float) -> LoadLine:
        """Before anything is known but that an idle engine takes about `latency_s`."""
        return LoadLine(1.0 / latency_s, 1.0, SCALE**2, 0.0, WORTH**2)

    def learn(self, load: float, latency_s: float, forget: float, weight: float = 1.0) -> LoadLine:
        """With one more turn: a load per replica and the latency it came with.

        `forget` (0 to 1) is how much of what is known fades first, `weight` how much the turn counts (0 to 1).
        """
        seen, fit = 1.0 / (latency_s * self.pace), self
        faded = self.faded(forget)
        for _ in range(PASSES):
            moved_p, moved_s = math.log(fit.pace / self.pace), math.log(fit.saturation / self.saturation)
            used = min(1.0, load / fit.saturation)
            left = 1.0 - used
            off = seen * self.pace / fit.pace - left + left * moved_p + used * moved_s
            fit = faded.corrected(left, used, off, weight)
        return fit

    def saturated(self, load: float, forget: float, weight: float = 1.0) -> LoadLine:
        """With one more turn in which engines with a standing queue did `load` each: all they can."""
        faded = self.faded(forget)
        return faded.corrected(0.0, 1.0, math.log(max(load, 1e-9) / self.saturation), weight)

    def corrected(self, by_pace: float, by_saturation: float, off: float, weight: float) -> LoadLine:
        """After a residual `off`, and by how much it would grow with either logarithm (a Kalman filter's update)."""
        pp, ps, ss = self.pp, self.ps, self.ss
        gain_p, gain_s = pp * by_pace + ps * by_saturation, ps * by_pace + ss * by_saturation
        spread = max(0.0, by_pace * gain_p + by_saturation * gain_s) + NOISE**2 / max(weight, 1e-3)
        most = OUTLIER * math.sqrt(spread)
        step = max(-most, min(most, off)) / spread
        pace = max(SLOW, min(FAST, self.pace * math.exp(gain_p * step)))
        saturation = max(1.0 / BOUND, min(BOUND, self.saturation * math.exp(gain_s * step)))
        left_p, left_s = max(pp - gain_p * gain_p / spread, SURE), max(ss - gain_s * gain_s / spread, SURE)
        most_ps = math.sqrt(left_p * left_s)
        left_ps = max(-most_ps, min(most_ps, ps - gain_p * gain_s / spread))
        return LoadLine(pace, saturation, left_p, left_ps, left_s)

    def faded(self, forget: float) -> LoadLine:
        """After some forgetting: less sure, but never less than the prior."""
        keep = max(1.0, min(1.0 / (1.0 - forget), SCALE**2 / self.pp, WORTH**2 / self.ss))
        return replace(self, pp=self.pp * keep, ps=self.ps * keep, ss=self.ss * keep)

    @property
    def idle_s(self) -> float:
        """What an idle engine takes. Seconds."""
        return 1.0 / self.pace

    def limit(self, latency_s: float) -> float:
        """Return the load at which the latency reaches `latency_s`, in the prior's saturations.

        0 where an idle engine has.
        """
        return self.saturation * max(0.0, 1.0 - self.idle_s / latency_s)

    def unsure(self, load: float) -> float:
        """Return the standard deviation of a load found by `limit`, as a share of it (first-order propagation)."""
        idle = max(0.0, 1.0 - load / self.saturation)
        by_pace = idle / max(1.0 - idle, 1e-9)
        return math.sqrt(max(self.ss + 2 * by_pace * self.ps + by_pace * by_pace * self.pp, 0.0))

    def memory(self, name: str) -> dict[str, float]:
        """As a policy hands it on."""
        values = (self.pace, self.saturation, self.pp, self.ps, self.ss)
        return {f"{name}.{key}": value for key, value in zip(KEYS, values, strict=True)}

    @staticmethod
    def from_memory(name: str, memory: Mapping[str, float], latency_s: float) -> LoadLine:
        """As it was handed on; the prior where it was not, or where a record gives what cannot have been learned."""
        pace, saturation, pp, ps, ss = (memory.get(f"{name}.{key}", math.nan) for key in KEYS)
        bounded = SLOW <= pace <= FAST and 1.0 / BOUND <= saturation <= BOUND
        sure = 0.0 < pp <= 2.0 * SCALE**2 and 0.0 < ss <= 2.0 * WORTH**2 and ps * ps <= 1.001 * pp * ss
        return LoadLine(pace, saturation, pp, ps, ss) if bounded and sure else LoadLine.prior(latency_s)


KEYS: Final = ("pace", "saturation", "pp", "ps", "ss")
