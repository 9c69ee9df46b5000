"""The cheapest way to buy a load-duration curve, replica by replica."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.cost.curve import Curve
from simulators.reporting.time_bins import Floats

MARKETS = ("reserved", "spot", "on_demand")


@dataclass(frozen=True, slots=True)
class Prices:
    """What an hour of a replica costs in each market. None: cannot be bought so, or is not known.

    `reserved` is paid all the time, the others while the replica is held. `spot` is the price of an hour of service:
    losses and what on-demand must stand in for are in it.
    """

    on_demand: float
    reserved: float | None = None
    spot: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The market of each replica from the bottom up, and what that costs. USD per hour, in the mean."""

    markets: tuple[str, ...]
    usd_per_hour: float

    def count(self, market: str) -> int:
        return Counter(self.markets)[market]


def cheapest(curve: Curve, prices: Prices, spot_max_share: float) -> Plan:
    """Return the least cost, with never more than `spot_max_share` of the replicas held at any moment on spot.

    The lower replicas are held whenever a higher one is, so the limit holds at every moment if it holds among the first
    k for every k. Spot goes where it saves the most as long as the limit allows: such limits are a laminar matroid, on
    which that is the best there is.
    """
    on_demand = prices.on_demand * curve.shares
    reserved = np.full(curve.most, np.inf if prices.reserved is None else prices.reserved)
    costs = np.minimum(on_demand, reserved)
    markets = np.where(reserved < on_demand, "reserved", "on_demand")
    if prices.spot is not None:
        spot = prices.spot * curve.shares
        chosen = _most_saved(costs - spot, spot_max_share)
        costs, markets = np.where(chosen, spot, costs), np.where(chosen, "spot", markets)
    return Plan(tuple(markets.tolist()), float(costs.sum()))


def _most_saved(savings: Floats, most_share: float) -> NDArray[np.bool_]:
    """Which replicas go on spot: the largest savings, with at most this share of the first k for every k."""
    room = np.floor(most_share * np.arange(1, len(savings) + 1) + 1e-9)
    chosen = np.zeros(len(savings), np.bool_)
    for k in np.argsort(-savings, kind="stable").tolist():
        if savings[k] > 0 and (room[k:] >= 1).all():
            chosen[k] = True
            room[k:] -= 1
    return chosen


def kept(plan: Plan, curve: Curve, prices: Prices) -> float:
    """What a plan costs if the load turns out as `curve`: reservations are paid either way, the rest as it is held.

    Replicas beyond the plan are bought on demand. USD per hour.
    """
    total = plan.count("reserved") * (prices.reserved or 0.0)
    for k, share in enumerate(curve.shares.tolist()):
        market = plan.markets[k] if k < len(plan.markets) else "on_demand"
        if market != "reserved":
            total += share * (prices.spot if market == "spot" and prices.spot is not None else prices.on_demand)
    return total


def by_reserved(curve: Curve, prices: Prices) -> list[float]:
    """Return the cost with 0, 1, 2 ... reserved replicas from the bottom and the rest on demand. USD per hour."""
    reserved = prices.reserved or 0.0
    above = [float(curve.shares[k:].sum()) * prices.on_demand for k in range(curve.most + 1)]
    return [k * reserved + rest for k, rest in enumerate(above)]
