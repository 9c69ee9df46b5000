"""Arrivals from a rate that changes with time: a renewal process in operational time.

Operational time L(t) is the number of requests expected until t. A renewal process with gaps of mean 1 runs in it, and
the inverse of L maps its arrivals back to clock time. At 2 requests/s for 10 s and then 5 requests/s, L(10) = 20, and
an event at 25 arrives at 11 s. With exponential gaps this is the non-homogeneous Poisson process (Çinlar, "Introduction
to Stochastic Processes", 1975, 4.7). With gamma gaps it is a burstier or smoother process of the same rate (Gerhardt &
Nelson, "Transforming renewal processes for simulation of nonstationary arrival processes", INFORMS J. Computing 21,
2009).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from simulators.world.traffic.trace import Floats

MS_PER_S: Final = 1000
GAP_DECIMALS: Final = 9
"""Decimals to which gaps are rounded: the last bits of log and exp differ between machines."""
EVEN_CV: Final = 1e-3
"""Coefficient of variation below which gaps are equal."""
SPARE: Final = 6.0
"""Standard deviations of the count that are drawn at once beyond its mean. More is drawn if needed."""


def arrivals(edges_s: Floats, rates_rps: Floats, gap_cv: float, rng: np.random.Generator) -> Floats:
    """Return sorted arrival times for a rate that is constant between edges. Seconds.

    They are rounded down to milliseconds. `gap_cv` is the coefficient of variation of the gaps in operational time: 1
    is Poisson, 0 even spacing.
    """
    expected = np.concatenate([[0.0], np.cumsum(rates_rps * np.diff(edges_s))])
    operational = renewal(float(expected[-1]), gap_cv, rng)
    times = np.interp(operational, expected, edges_s)
    return np.floor(times * MS_PER_S) / MS_PER_S


def renewal(length: float, gap_cv: float, rng: np.random.Generator) -> Floats:
    """Return the events in [0, length) of a stationary renewal process.

    It has gamma gaps of mean 1. It is stationary because the time to the first event has the equilibrium distribution:
    a uniform share of a gap drawn by its length, which for gamma gaps of shape k is gamma of shape k + 1 (Cox, "Renewal
    Theory", 1962, 5.2). So `length` events are expected, and intervals drawn one by one join without a change of the
    rate.
    """
    if length <= 0:
        return np.zeros(0)
    even = gap_cv < EVEN_CV
    shape = 1.0 / max(gap_cv, EVEN_CV) ** 2
    first = rng.random() * (1.0 if even else rng.gamma(shape + 1, 1 / shape))
    events = np.array([round(first, GAP_DECIMALS)])
    while events[-1] < length:
        remaining = length - events[-1]
        count = int(remaining + SPARE * max(gap_cv, 1.0) * np.sqrt(remaining)) + 16
        gaps = np.ones(count) if even else rng.gamma(shape, 1 / shape, count)
        events = np.concatenate([events, events[-1] + np.cumsum(np.round(gaps, GAP_DECIMALS))])
    return events[: np.searchsorted(events, length)]
