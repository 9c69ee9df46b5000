"""The cheapest way to buy a load-duration curve, replica by replica."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulators.cost.curve import LoadDurationCurve
from simulators.reporting.time_bins import Floats

MARKETS = ("reserved", "spot", "on_demand")


@dataclass(frozen=True, slots=True)
class Prices:
    """Hourly price of a replica in each market. None: not offered, or not known. USD per hour.

    `reserved` is paid all the time, the others while the replica is held. `spot` is the price of an hour of service,
    including losses and on-demand replacements.
    """

    on_demand: float
    reserved: float | None = None
    spot: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The market of each replica from the bottom up, and the mean cost in USD per hour."""

    markets: tuple[str, ...]
    usd_per_hour: float

    def count(self, market: str) -> int:
        return Counter(self.markets)[market]


def cheapest(curve: LoadDurationCurve, prices: Prices, spot_max_share: float) -> Plan:
    """Return the cheapest plan within the limit of spot replicas.

    At any time, at most `spot_max_share` of the held replicas are on spot. A replica is held only while all lower ones
    are, so the limit holds at all times if it holds among the first k replicas for every k. Spot is given greedily to
    the largest savings that the limit allows. Such limits are a laminar matroid, for which the greedy choice is
    optimal.

    At 10 USD/h on demand and 6 reserved, a replica held 61 % of the time is reserved (6 < 6.1), one held 59 % is not.
    """
    on_demand = prices.on_demand * curve.shares
    reserved = np.full(curve.maximum, np.inf if prices.reserved is None else prices.reserved)
    costs = np.minimum(on_demand, reserved)
    markets = np.where(reserved < on_demand, "reserved", "on_demand")
    if prices.spot is not None:
        spot = prices.spot * curve.shares
        chosen = _largest_savings(costs - spot, spot_max_share)
        costs, markets = np.where(chosen, spot, costs), np.where(chosen, "spot", markets)
    return Plan(tuple(markets.tolist()), float(costs.sum()))


def _largest_savings(savings: Floats, max_share: float) -> NDArray[np.bool_]:
    """Return a mask of the replicas on spot: those with the largest savings.

    At most `max_share` of the first k replicas are on spot, for every k.
    """
    slots = np.floor(max_share * np.arange(1, len(savings) + 1) + 1e-9)
    chosen = np.zeros(len(savings), np.bool_)
    for k in np.argsort(-savings, kind="stable").tolist():
        if savings[k] > 0 and (slots[k:] >= 1).all():
            chosen[k] = True
            slots[k:] -= 1
    return chosen


def cost_under(plan: Plan, curve: LoadDurationCurve, prices: Prices) -> float:
    """Return the cost of a plan under the load of `curve`. USD per hour.

    Reservations are always paid, other replicas while they are held. Replicas beyond the plan are on demand.
    """
    total = plan.count("reserved") * (prices.reserved or 0.0)
    for k, share in enumerate(curve.shares.tolist()):
        market = plan.markets[k] if k < len(plan.markets) else "on_demand"
        if market != "reserved":
            total += share * (prices.spot if market == "spot" and prices.spot is not None else prices.on_demand)
    return total


def by_reserved(curve: LoadDurationCurve, prices: Prices) -> list[float]:
    """Return the cost with 0, 1, 2 ... reserved replicas from the bottom and the rest on demand.

    USD per hour.
    """
    reserved = prices.reserved or 0.0
    above = [float(curve.shares[k:].sum()) * prices.on_demand for k in range(curve.maximum + 1)]
    return [k * reserved + on_demand for k, on_demand in enumerate(above)]
