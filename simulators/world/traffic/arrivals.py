"""Arrivals from a rate that changes with time: a renewal process in operational time.

Operational time L(t) is the number of requests expected until t. A renewal process with gaps of mean 1 runs in it, and
L's inverse brings its arrivals back to clock time: with exponential gaps this is the non-homogeneous Poisson process
(Çinlar, "Introduction to Stochastic Processes", 1975, 4.7), with gamma gaps a burstier or smoother one of the same rate
(Gerhardt & Nelson, "Transforming renewal processes for simulation of nonstationary arrival processes", INFORMS J.
Computing 21, 2009).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from simulators.world.traffic.trace import Floats

MS_PER_S: Final = 1000
GAP_DECIMALS: Final = 9
"""Gaps come out of log and exp, whose last bits differ between machines."""
EVEN_CV: Final = 1e-3
"""Gaps that vary less are taken as equal."""
SPARE: Final = 6.0
"""Standard deviations of the count that are drawn beyond its mean at once; more is drawn when needed."""


def arrivals(edges_s: Floats, rates_rps: Floats, gap_cv: float, chance: np.random.Generator) -> Floats:
    """Arrival times for a rate that is constant between edges, sorted, in whole milliseconds rounded down.

    `gap_cv` is the gaps' coefficient of variation in operational time: 1 is Poisson, 0 even spacing.
    """
    expected = np.concatenate([[0.0], np.cumsum(rates_rps * np.diff(edges_s))])
    operational = renewal(float(expected[-1]), gap_cv, chance)
    times = np.interp(operational, expected, edges_s)
    return np.floor(times * MS_PER_S) / MS_PER_S


def renewal(length: float, gap_cv: float, chance: np.random.Generator) -> Floats:
    """Return the events in [0, length) of a stationary renewal process with gamma gaps of mean 1.

    It is stationary because the time to the first event has the equilibrium distribution: a uniform share of a gap
    drawn by its length, which for gamma gaps of shape k is gamma of shape k + 1 (Cox, "Renewal Theory", 1962, 5.2).
    So `length` events are expected, and spans drawn one by one join without a seam in the rate.
    """
    if length <= 0:
        return np.zeros(0)
    even = gap_cv < EVEN_CV
    shape = 1.0 / max(gap_cv, EVEN_CV) ** 2
    first = chance.random() * (1.0 if even else chance.gamma(shape + 1, 1 / shape))
    events = np.array([round(first, GAP_DECIMALS)])
    while events[-1] < length:
        left = length - events[-1]
        count = int(left + SPARE * max(gap_cv, 1.0) * np.sqrt(left)) + 16
        gaps = np.ones(count) if even else chance.gamma(shape, 1 / shape, count)
        events = np.concatenate([events, events[-1] + np.cumsum(np.round(gaps, GAP_DECIMALS))])
    return events[: np.searchsorted(events, length)]
