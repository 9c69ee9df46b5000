"""The recommended purchase: the cheapest plan, or what ran if that costs no more.

Both are priced on one basis: the replicas held in the period, at the prices of the same offers. The bill of the period
also has starts, draining and rounding, so it is shown apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from policies.model import PoolName
from simulators.cost import plan
from simulators.cost.curve import LoadDurationCurve, curve
from simulators.cost.evidence import WorkloadEvidence, size_of
from simulators.cost.figures import Basis, Citation, Figure, SourcedNumber, sources
from simulators.cost.offers import ReplicaOffer
from simulators.cost.plan import Plan, Prices
from simulators.experiments.slo_outcome import SloStatus
from simulators.reporting.time_bins import Floats

BILL_TOLERANCE: Final = 0.1
"""Starts, draining and rounding are a few percent of a bill; a larger difference comes from other prices."""
ROUNDING: Final = 1e-9
"""A saving below this share of the cost is floating-point noise."""


class Choice(StrEnum):
    """The recommended purchase, and why."""

    PLAN = "the plan: it costs less than what ran"
    KEEP = "what ran: no plan costs less"
    RUN_MISSED_SLO = "the plan: what ran costs less, but missed its SLO"
    RUN_OVER_SPOT_LIMIT = "the plan: what ran costs less, but exceeds spot_max_share"
    UNCOMPARED = "the plan: the cost of what ran is unknown"


@dataclass(frozen=True, slots=True)
class AsRun:
    """The run, priced as the plan is.

    `replicas` are the mean replicas by market: held ones, and all paid ones of reserved pools. `spot_peak` is the
    largest share of the held replicas on spot at any moment.
    """

    usd_per_hour: float
    replicas: Mapping[str, float]
    spot_peak: float
    formula: str
    sources: tuple[Citation, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Purchase:
    """The cheapest plan for the replicas of `curve`, what ran, and the choice between them.

    The plan's replicas are bought from `offer` at `prices`. `needed` is the curve of the policies' demand.
    """

    curve: LoadDurationCurve
    needed: LoadDurationCurve
    prices: Prices
    plan: Plan
    offer: ReplicaOffer
    limit: SourcedNumber
    as_run: AsRun | None
    choice: Choice

    @property
    def keeps(self) -> bool:
        """Whether what ran is recommended."""
        return self.choice is Choice.KEEP

    @property
    def usd_per_hour(self) -> float:
        """Cost of the recommended purchase. USD per hour."""
        return self.as_run.usd_per_hour if self.keeps and self.as_run is not None else self.plan.usd_per_hour


def recommend(evidence: WorkloadEvidence, limit: SourcedNumber) -> Purchase | None:
    """Return the recommended purchase, with at most the share `limit` of a plan on spot.

    The result is None without an on-demand price or an observed size. If the run missed its SLO, the plan covers the
    policies' demand where that exceeds the replicas held, up to `max_replicas`: the demand of a backlog has no limit.
    """
    offer, covered = evidence.offer, evidence.held
    if evidence.slo_status is SloStatus.MISSED:
        demand = np.minimum(evidence.recorded.columns["demand"], evidence.recorded.spec.max_replicas)
        covered = np.where(np.isfinite(covered), np.fmax(covered, demand), np.nan)
    duration_curve = curve(covered, evidence.recorded.over_s)
    if offer.on_demand is None or not duration_curve.maximum:
        return None
    spot = spot_price(offer)
    prices = Prices(
        offer.on_demand.value,
        None if offer.reserved is None else offer.reserved.value,
        None if spot is None else spot.value,
    )
    cheapest, run = plan.cheapest(duration_curve, prices, limit.value), as_run(evidence)
    choice = _choice(evidence, cheapest, run, limit)
    return Purchase(duration_curve, evidence.needed_curve, prices, cheapest, offer, limit, run, choice)


def _choice(evidence: WorkloadEvidence, cheapest: Plan, run: AsRun | None, limit: SourcedNumber) -> Choice:
    if run is None:
        return Choice.UNCOMPARED
    if cheapest.usd_per_hour < run_usd_per_hour(evidence, run) * (1 - ROUNDING):
        return Choice.PLAN
    if evidence.slo_status is SloStatus.MISSED:
        return Choice.RUN_MISSED_SLO
    user_limit = any(source.basis is Basis.GIVEN for source in limit.sources)
    return Choice.RUN_OVER_SPOT_LIMIT if user_limit and run.spot_peak > limit.value else Choice.KEEP


def run_usd_per_hour(evidence: WorkloadEvidence, run: AsRun) -> float:
    """Return the cost of what ran that a plan must undercut. USD per hour.

    It is the lower of the cost on the plan's basis and the bill, so that no plan is recommended above the bill. A bill
    at other prices, as with new prices in the offers file, does not count.
    """
    billed = math.nan if evidence.cost is None else evidence.cost.value
    same_prices = abs(billed - run.usd_per_hour) <= BILL_TOLERANCE * run.usd_per_hour
    return min(run.usd_per_hour, billed) if same_prices else run.usd_per_hour


def as_run(evidence: WorkloadEvidence) -> AsRun | None:
    """Return what ran at the prices of its offers; None if one of these prices is unknown.

    2 reserved replicas at 4.13 USD/h and 3.93 spot replicas at 2.96 USD/h cost 2 * 4.13 + 3.93 * 2.96 = 19.9 USD/h.
    """
    over_s = np.where(np.isfinite(evidence.held), evidence.recorded.over_s, 0.0)
    if not over_s.sum():
        return None
    replicas: dict[str, float] = {}
    terms: list[str] = []
    total, used = 0.0, []
    for pool, market in evidence.markets.items():
        mean = float(np.average(np.nan_to_num(_paid(evidence, pool, market)), weights=over_s))
        price = _unit_price(evidence.offers[evidence.pools[pool]], market)
        if not mean:
            continue
        if price is None:
            return None
        replicas[market] = replicas.get(market, 0.0) + mean
        terms.append(f"{mean:.3f} {market.replace('_', '-')} x {price.value:.4g}")
        total += mean * price.value
        used.append(price)
    formula = f"({' + '.join(terms) or '0'}) USD/h"
    return AsRun(total, replicas, _spot_peak(evidence), formula, sources(evidence.recording, *used))


def _paid(evidence: WorkloadEvidence, pool: PoolName, market: str) -> Floats:
    """Return the replicas of a pool that a plan would pay for: a reservation in full."""
    held = size_of(evidence.recorded, pool, market)
    return np.maximum(held, evidence.recorded.reservation(pool)) if market == "reserved" else held


def _spot_peak(evidence: WorkloadEvidence) -> float:
    on_spot = evidence.held_in("spot")
    known = np.isfinite(evidence.held) & (evidence.held > 0)
    return float(np.nanmax(on_spot[known] / evidence.held[known], initial=0.0))


def _unit_price(offer: ReplicaOffer, market: str) -> SourcedNumber | None:
    """Return the price of an hour of a held replica in a market."""
    if market != "spot":
        return offer.reserved if market == "reserved" else offer.on_demand
    if offer.spot is None or offer.losses is None or offer.lead_time_s is None:
        return None
    return SourcedNumber(offer.spot.value * _starts_factor(offer), sources(offer.spot, offer.losses, offer.lead_time_s))


def _starts_factor(offer: ReplicaOffer) -> float:
    """Return the hours paid for an hour of service on spot: each loss costs one more start."""
    if offer.losses is None or offer.lead_time_s is None:
        return 1.0
    return 1.0 + offer.losses.value * offer.lead_time_s.value / 3600.0


def spot_price(offer: ReplicaOffer) -> Figure | None:
    """Return the price of an hour of service on spot.

    It includes restarts after losses and on-demand replacements. At 1.5 USD/h, 0.1 losses/h, starts of 180 s and 80 %
    availability, with on-demand at 5 USD/h: 0.8 * 1.5 * (1 + 0.1 * 180 / 3600) + 0.2 * 5 = 2.21 USD/h. None where one
    of these is unknown, which is not zero.
    """
    spot, losses, available = offer.spot, offer.losses, offer.available
    lead_time, on_demand = offer.lead_time_s, offer.on_demand
    if spot is None or losses is None or available is None or lead_time is None or on_demand is None:
        return None
    value = available.value * spot.value * _starts_factor(offer) + (1.0 - available.value) * on_demand.value
    formula = (
        f"{available.value:.3f} available x {spot.value:g} USD/h x (1 + {losses.value:.3g} losses/h x"
        f" {lead_time.value:.0f} s / 3600) + {1 - available.value:.3f} x {on_demand.value:g} USD/h on-demand"
    )
    citations = sources(spot, losses, available, lead_time, on_demand)
    return Figure("spot_usd_per_hour", "an hour of service on spot", value, "USD/h", formula, citations, offer.name)
