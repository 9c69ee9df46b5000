"""What one replica carries while it keeps its promise, learnt from the latencies that loads came with.

A continuously batching engine is close to a shared processor: at a share rho of what it could do at most, everything
takes 1 / (1 - rho) times as long (Kleinrock 1967, processor sharing). So the reciprocal of a latency falls in a
straight line with the load per replica, ``1 / latency = a - b * load``, from the pace of an idle engine to nothing at
saturation. Two numbers a latency, by recursive least squares with forgetting (Ljung 1999, section 11.2) from a prior:
robust to outliers, exact after a restart (`Fit` lives in the policy's memory), and it says how sure it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

NOISE: Final = 0.15
"""Standard deviation of a turn's reciprocal latency about the line, as a share of an idle engine's: 60 s of p95."""
OUTLIER: Final = 2.0
"""Residuals count at most as so many standard deviations (Huber 1964 has 1.345 for pure noise; ours is skewed)."""
SCALE: Final = 1.0
"""Prior standard deviation of an idle engine's pace, as a share: all but unknown."""
WORTH: Final = 0.35
"""Prior standard deviation of the load at saturation, as a share: service models of other engines err by as much."""
SURE: Final = 1e-6
"""A line is never known to better than a thousandth (as a variance): what rounding leaves must stay a covariance."""
BOUND: Final = 4.0
"""A learnt capacity lies within this factor of the prior, either way: beyond it something else is wrong."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The line of one latency: `pace` is the reciprocal latency of an idle engine (1/s), `slope` what a load of 1 (the
    prior's saturation) takes of it (1/s); `pp`, `ps`, `ss` are their covariance, `turns` how many taught it.
    """

    pace: float
    slope: float
    pp: float
    ps: float
    ss: float
    turns: float = 0.0

    @staticmethod
    def prior(latency_s: float) -> Fit:
        """Before anything is known but that an idle engine takes about `latency_s`."""
        pace = 1.0 / latency_s
        scale, worth = (SCALE * pace) ** 2, (WORTH * pace) ** 2
        return Fit(pace, pace, scale, scale, scale + worth)

    def learn(self, load: float, latency_s: float, forget: float, weight: float = 1.0) -> Fit:
        """With one more turn: a load per replica and the latency it came with.

        `forget` (0 to 1) is how much of what is known fades first, `weight` how much the turn counts (0 to 1).
        """
        pp, ps, ss = self._faded(forget)
        noise = (NOISE * self.pace) ** 2 / max(weight, 1e-3)
        gain_p, gain_s = pp - load * ps, ps - load * ss
        spread = max(0.0, gain_p - load * gain_s) + noise
        off = 1.0 / latency_s - (self.pace - load * self.slope)
        most = OUTLIER * math.sqrt(spread)
        step = max(-most, min(most, off)) / spread
        pace = max(self.pace + gain_p * step, 1e-6)
        slope = max(self.slope + gain_s * step, pace / BOUND)
        left_p = max(pp - gain_p * gain_p / spread, SURE * pace * pace)
        left_s = max(ss - gain_s * gain_s / spread, SURE * slope * slope)
        most_ps = math.sqrt(left_p * left_s)
        left_ps = max(-most_ps, min(most_ps, ps - gain_p * gain_s / spread))
        return Fit(pace, min(slope, pace * BOUND), left_p, left_ps, left_s, self.turns + weight)

    def _faded(self, forget: float) -> tuple[float, float, float]:
        """The covariance after some forgetting: never wider than the prior."""
        prior = Fit.prior(1.0 / self.pace)
        keep = min(1.0 / (1.0 - forget), prior.ss / max(self.ss, 1e-12), prior.pp / max(self.pp, 1e-12))
        return (self.pp * keep, self.ps * keep, self.ss * keep) if keep > 1 else (self.pp, self.ps, self.ss)

    @property
    def idle_s(self) -> float:
        """What an idle engine takes. Seconds."""
        return 1.0 / self.pace

    @property
    def saturation(self) -> float:
        """The load at which nothing is answered in time, in the prior's saturations."""
        return self.pace / self.slope

    def limit(self, latency_s: float) -> float:
        """The load at which the latency reaches `latency_s`, in the prior's saturations; 0 where an idle engine has."""
        return max(self.saturation - 1.0 / (latency_s * self.slope), 0.0)

    def unsure(self, load: float) -> float:
        """The standard deviation of a load found by `limit`, as a share of it (first-order propagation)."""
        variance = max(self.pp - 2 * load * self.ps + load * load * self.ss, 0.0)
        return math.sqrt(variance) / (self.slope * max(load, 1e-9))

    def memory(self, name: str) -> dict[str, float]:
        """As a policy hands it on."""
        values = (self.pace, self.slope, self.pp, self.ps, self.ss, self.turns)
        return {f"{name}.{key}": value for key, value in zip(KEYS, values, strict=True)}

    @staticmethod
    def recalled(name: str, memory: Mapping[str, float], latency_s: float) -> Fit:
        """As it was handed on; the prior where it was not."""
        if f"{name}.{KEYS[0]}" not in memory:
            return Fit.prior(latency_s)
        return Fit(*(memory[f"{name}.{key}"] for key in KEYS))


KEYS: Final = ("pace", "slope", "pp", "ps", "ss", "turns")
LATENCIES: Final[Mapping[str, tuple[str, float]]] = {"ttft_p95_s": ("ttft_s", 0.1), "itl_p95_s": ("itl_s", 0.01)}
"""Quantities that teach, the promise that each belongs to, and what an idle engine takes before it is known. Seconds:
the measured H100's to a prompt of a thousand tokens, and to a token."""
P95: Final = math.log(20.0)
"""An exponential tail has a twentieth beyond its 95th percentile, and e times less for each 1 / ln 20 of it more."""
FILLED: Final = 0.9
"""Share of the saturation that is filled where no latency says less: queues grow without bound near 1."""
HOPELESS: Final = 0.2
"""A promise that leaves less than this share of the saturation is not bought: nearly idle replicas miss it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """The load that a replica may carry, in the prior's saturations.

    `latency` is the quantity that sets it (empty: none does), `unsure` its standard deviation as a share, `relaxed`
    what it would be if no latency were promised, `hopeless` the quantity whose promise no number of replicas keeps.
    """

    load: float
    latency: str
    unsure: float
    relaxed: float
    hopeless: str = ""


def tail_s(limit_s: float, share: float, idle_s: float) -> float:
    """What a 95th percentile may be so that `share` of all stay below `limit_s`.

    What comes on top of an idle engine's time is taken to be exponential: it is waiting, and waiting in a queue is.
    """
    return idle_s + max(0.0, limit_s - idle_s) * P95 / -math.log(1.0 - min(share, 0.9999))


def missed_share(limit_s: float, p95_s: float, idle_s: float) -> float:
    """The share beyond `limit_s`, by the same tail."""
    if p95_s <= idle_s:
        return 0.0
    return math.exp(-P95 * max(0.0, limit_s - idle_s) / (p95_s - idle_s))


def limit(fits: Mapping[str, Fit], promised_s: Mapping[str, float], share: float) -> Limit:
    """The least load at which a latency reaches what `share` of the requests may have (`promised_s` by quantity)."""
    relaxed = FILLED * min((fit.saturation for fit in fits.values()), default=1.0)
    found = Limit(relaxed, "", 0.0, relaxed)
    for quantity, promise_s in promised_s.items():
        fit = fits[quantity]
        load = fit.limit(tail_s(promise_s, share, fit.idle_s))
        if load < HOPELESS * fit.saturation:
            found = Limit(found.load, found.latency, found.unsure, relaxed, quantity)
        elif load < found.load:
            found = Limit(load, quantity, fit.unsure(load), relaxed, found.hopeless)
    return found
