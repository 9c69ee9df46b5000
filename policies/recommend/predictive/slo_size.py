"""The size at which the expected share of late requests is the planned one.

The forecast gives the distribution of the demand when a replica requested now serves, and the latency models give the
share of late requests at every load. Their product is the late share to expect of a size. So the SLO itself sets the
margin: a steep latency curve, an uncertain forecast, or a stricter SLO each make the size larger, without a configured
quantile. The share is one of requests, so that each demand counts in proportion to itself.

Example: the demand is 4.0 replicas with a probability of 0.9, and 6.0 with 0.1. Replicas at their limit have 1 % late
requests, at 90 % of it 0.2 %, and at 150 % all. 4.0 replicas have 0.9 * 4 = 3.6 parts with 1 % and 0.1 * 6 = 0.6 parts
with 100 % late requests: 15 % of all. 6.0 replicas have about 0.14 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.quantile_forecast import QuantileForecast
    from policies.model.spec import WorkloadSpec
    from policies.recommend.predictive.latency_model import LearnedLatency

OUTER_RATIO: Final = 5.0
"""The outermost part of the distribution has this many times the allowed late share as its probability: 5 % for an SLO
of 99 %. A finer tail rests on one or two residuals: with 2 % and 0.5 %, sizes cost 2 to 4 % more at an equal
attainment (azure-conv, servegen-mid, nasa and worldcup, starts of 90 and 300 s)."""
MIN_OUTER, MAX_OUTER = 0.001, 0.5
"""Bounds of the outermost part. Probability."""
SIZES: Final = np.geomspace(1.0, 1.0 / 32.0, 40)
"""The sizes tried, as divisors of the demand: 9 % apart."""
REACH: Final = 4.0
"""The largest size tried, as a multiple of the largest demand: replicas filled to a quarter of their limit."""
ROUNDING_RATIO: Final = 2.5
"""Where replicas are whole, a size is rounded down if at most this many times the planned share is late then, and no
more than the allowed share: half of it at level 0 of the margin. Costs are 3 % lower than with rounding up, and 99 %
are kept in as many cases (the traces of `slo_margin.TRUSTED_S`)."""
MIN_SHARE: Final = 1e-12
"""Smallest late share whose logarithm is taken."""


class DemandParts(NamedTuple):
    """Parts of a distribution: the level in the middle of each, and its probability."""

    levels: tuple[float, ...]
    probabilities: NDArray[np.float64]


@lru_cache(maxsize=64)
def demand_parts(allowed_share: float) -> DemandParts:
    """Return the parts of the demand's distribution to read for an SLO.

    Example: an allowed share of 0.01 gives nine parts of 0.1, one from 0.9 to 0.95, and one from 0.95 up, whose level
    is 0.975.
    """
    outer_from = 1.0 - max(MIN_OUTER, min(MAX_OUTER, OUTER_RATIO * allowed_share))
    steps = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    edges = np.array([*(edge for edge in steps if edge < outer_from - 1e-9), outer_from, 1.0])
    return DemandParts(tuple((0.5 * (edges[1:] + edges[:-1])).tolist()), np.diff(edges))


@dataclass(frozen=True, slots=True)
class SloPlan:
    """The late requests to plan for, and the latency models that predict them.

    - `limits_s`: the latency limits (seconds). A request that exceeds one of them is late, and so is each one at a load
      above the saturation.
    - `replica_load`, `max_saturation`: the load of a full replica, and the load from which on all requests are late, in
      prior saturations.
    - `allowed_share`, `planned_share`: the late requests that the SLO allows and those to plan for.
    - `whole`: whether a replica equivalent is a replica, so that sizes are whole.
    """

    learned: Mapping[str, LearnedLatency]
    limits_s: Mapping[str, float]
    replica_load: float
    max_saturation: float
    allowed_share: float
    planned_share: float
    whole: bool = False

    def size_in(self, forecast: QuantileForecast, ahead_s: float) -> float:
        """Return the size for the demand in `ahead_s` seconds, in replica equivalents."""
        parts = demand_parts(self.allowed_share)
        return self.size(forecast.at(ahead_s, parts.levels)[0], parts.probabilities)

    def size(self, demand: NDArray[np.float64], probabilities: NDArray[np.float64]) -> float:
        """Return the smallest size with at most the planned share of late requests.

        `demand` has the demand of each part of its distribution. Sizes and demands are in replica equivalents. The size
        is at most `REACH` times the largest demand.

        Example: 3.4 replicas have the planned 0.2 % of late requests, and 2.9 replicas 0.5 %. If sizes are whole, 3
        replicas are enough. If 3.1 replicas had 0.5 %, the size is 3.4, which is rounded up to 4.
        """
        requests = probabilities * demand
        total, largest = float(requests.sum()), float(demand.max())
        if total <= 0.0:
            return 0.0
        sizes = REACH * largest * SIZES
        load = (self.replica_load * demand) / sizes[:, None]
        late = (load >= self.max_saturation).astype(np.float64)
        for key, limit_s in self.limits_s.items():
            np.maximum(late, self.learned[key].late_shares(limit_s, load), out=late)
        expected = np.maximum(late @ requests / total, MIN_SHARE)
        shares = np.log([self.planned_share, min(ROUNDING_RATIO * self.planned_share, self.allowed_share)])
        size, smallest = np.exp(np.interp(shares, np.log(expected), np.log(sizes))).tolist()
        return float(math.floor(size)) if self.whole and smallest <= math.floor(size) else float(size)


def largest_quantile(cost_ratio: float, allowed_share: float) -> float:
    """Return the quantile of the largest demand to provide for at most.

    It is the newsvendor's: the cost of late requests over the cost of late requests and idle replicas (Arrow, Harris
    and Marschak 1951). A `cost_ratio` of 19 gives 19 / (19 + 1) = 0.95. A strict SLO raises it: one of 99.9 % to
    1 - 5 * 0.001 = 0.995.
    """
    return max(cost_ratio / (1.0 + cost_ratio), 1.0 - OUTER_RATIO * allowed_share)


def surge_size(spec: WorkloadSpec | None, work: float) -> float:
    """Return the size that is ready for `slo.surge` times the current work; 0 without it."""
    surge = None if spec is None or spec.slo is None else spec.slo.surge
    return 0.0 if surge is None else surge * work


def has_whole_replicas(spec: WorkloadSpec | None) -> bool:
    """Return whether a replica equivalent is a replica in every serving pool."""
    pools = () if spec is None else spec.pools.values()
    return bool(pools) and all(pool.work_per_replica == 1.0 for pool in pools if pool.tier == "serving")
