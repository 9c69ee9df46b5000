"""The cheapest market for each replica, by the time for which the replica is held.

The markets are reserved, spot and on demand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulators.cost import plan
from simulators.cost.curve import LoadDurationCurve
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Citation, Figure, Gap, Section, SourcedNumber, sources, usd
from simulators.cost.offers import ReplicaOffer
from simulators.cost.plan import Plan, Prices
from simulators.world.traffic.describe import duration

TITLE: Final = "Purchase plan: reserved, spot, on-demand"
WEEK_H: Final = 168.0
FALLEN: Final = 0.8
"""Share of the observed load at which a reservation is tested: it binds for a year, and loads change."""


@dataclass(frozen=True, slots=True, eq=False)
class Purchase:
    """The cheapest plan, with the load-duration curves, the prices, and the offer.

    The replicas are bought from this offer.
    """

    curve: LoadDurationCurve
    needed: LoadDurationCurve
    prices: Prices
    plan: Plan
    offer: ReplicaOffer


def cheapest_purchase(evidence: WorkloadEvidence, spot_max_share: float) -> Purchase | None:
    """Return the cheapest way to buy the held replicas.

    The result is None without an on-demand price or an observed size.
    """
    offer, held = evidence.offer, evidence.held_curve
    if offer.on_demand is None or not held.maximum:
        return None
    spot = spot_price(offer)
    prices = Prices(
        offer.on_demand.value,
        None if offer.reserved is None else offer.reserved.value,
        None if spot is None else spot.value,
    )
    return Purchase(held, evidence.needed_curve, prices, plan.cheapest(held, prices, spot_max_share), offer)


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
    starts_factor = 1.0 + losses.value * lead_time.value / 3600.0
    value = available.value * spot.value * starts_factor + (1.0 - available.value) * on_demand.value
    formula = (
        f"{available.value:.3f} available x {spot.value:g} USD/h x (1 + {losses.value:.3g} losses/h x"
        f" {lead_time.value:.0f} s / 3600) + {1 - available.value:.3f} x {on_demand.value:g} USD/h on-demand"
    )
    citations = sources(spot, losses, available, lead_time, on_demand)
    return Figure("spot_usd_per_hour", "an hour of service on spot", value, "USD/h", formula, citations, offer.name)


def section(evidence: WorkloadEvidence, purchase: Purchase | None, spot_max_share: SourcedNumber) -> Section:
    """Return the number of replicas to reserve and the saving."""
    gaps = list(_gaps(evidence))
    if purchase is None:
        figures = [*(_curve(evidence) if evidence.held_curve.maximum else []), *_paid(evidence)]
        return Section("buying", TITLE, (), tuple(figures), tuple(gaps))
    figures = [*_curve(evidence), *_break_even(purchase), *_plan(evidence, purchase, spot_max_share)]
    return Section("buying", TITLE, tuple(_findings(evidence, purchase, figures)), tuple(figures), tuple(gaps))


def _gaps(evidence: WorkloadEvidence) -> list[Gap]:
    offer, gaps = evidence.offer, []
    remedy = f"set on_demand_usd_per_hour of offer {offer.name} in --offers FILE"
    if offer.on_demand is None:
        gaps.append(Gap("cheapest purchase plan", "the on-demand price is unknown", remedy))
    if offer.reserved is None:
        gaps.append(
            Gap("replicas to reserve", "the reserved price is unknown", remedy.replace("on_demand", "reserved", 1))
        )
    missing = [
        key
        for key, known in (
            ("spot_usd_per_hour", offer.spot),
            ("spot_losses_per_node_hour", offer.losses),
            ("spot_available_share", offer.available),
        )
        if known is None
    ]
    if missing:
        why = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} unknown"
        gaps.append(Gap("cost of spot replicas", why, f"set the values of offer {offer.name} in --offers FILE"))
    if not evidence.held_curve.maximum:
        gaps.append(Gap("number of replicas", "the record has no size", "check that the daemon can read its pools"))
    return gaps


def _curve(evidence: WorkloadEvidence) -> list[Figure]:
    held, needed = evidence.held_curve, evidence.needed_curve
    unit = "replicas"
    return [
        Figure("held_mean", "mean replicas", held.mean, unit,
               f"area under the load-duration curve of {held.seen_h:.4g} h", (evidence.recording,)),
        Figure("held_most", "maximum replicas", held.maximum, unit, "top of the curve", (evidence.recording,)),
        Figure("needed_mean", "mean demand", needed.mean, unit,
               "area under the same curve of the policies' demand", (evidence.recording,)),
        Figure("base", "replicas held for 90 % of the time", held.held_above(0.9), unit,
               "replicas whose share of the time is above 0.9", (evidence.recording,)),
    ]  # fmt: skip


def _break_even(purchase: Purchase) -> list[Figure]:
    """Return the monthly hours above which a reserved replica is cheaper than each other market."""
    figures, offer = [], purchase.offer
    spot = spot_price(offer)
    if spot is not None:
        figures.append(spot)
    if offer.reserved is None or offer.on_demand is None:
        return figures
    for market, price in (("on_demand", offer.on_demand), ("spot", spot)):
        if price is not None:
            share = offer.reserved.value / price.value
            formula = f"{MONTH_H:g} h x {offer.reserved.value:g} / {price.value:.4g} USD/h = {share:.1%} of the time"
            formula += ": never cheaper" if share > 1 else ""
            title = f"reserved is cheaper than {market.replace('_', '-')} from"
            citations = sources(offer.reserved, price)
            figures.append(Figure("break_even_h", title, MONTH_H * share, "h/month", formula, citations, market))
    return figures


def plan_citations(evidence: WorkloadEvidence, purchase: Purchase) -> tuple[Citation, ...]:
    """Return the sources of a plan's cost: its prices, and the time that was observed."""
    offer, used = purchase.offer, purchase.plan.count
    known = [offer.on_demand, offer.reserved if used("reserved") else None]
    spot = spot_price(offer) if used("spot") else None
    return sources(evidence.recording, *(k for k in known if k is not None), *([spot] if spot else []))


def _plan(evidence: WorkloadEvidence, purchase: Purchase, spot_max_share: SourcedNumber) -> list[Figure]:
    chosen, curve, prices, offer = purchase.plan, purchase.curve, purchase.prices, purchase.offer
    citations = plan_citations(evidence, purchase)
    counts = {market: chosen.count(market) for market in plan.MARKETS}
    shares = {
        market: sum(s for m, s in zip(chosen.markets, curve.shares.tolist(), strict=True) if m == market)
        for market in plan.MARKETS
    }
    figures = [
        Figure(f"{market}_replicas", f"replicas to buy {market.replace('_', '-')}", count, "replicas",
               _why(market, purchase), citations if market != "spot" else sources(*citations, spot_max_share))
        for market, count in counts.items()
        if market == "on_demand" or getattr(prices, market) is not None
    ]  # fmt: skip
    terms = {
        "reserved": f"{counts['reserved']} x {prices.reserved or 0:g}",
        "spot": f"{shares['spot']:.3f} x {prices.spot or 0:.4g}",
        "on_demand": f"{shares['on_demand']:.3f} x {prices.on_demand:g}",
    }
    sums = " + ".join(term for market, term in terms.items() if counts[market]) or "0"
    all_on_demand = curve.mean * prices.on_demand
    figures += [
        _month("plan_usd", "recommended plan", chosen.usd_per_hour, f"({sums}) USD/h", citations),
        _month("on_demand_usd", "all on-demand", all_on_demand, f"{curve.mean:.3f} x {prices.on_demand:g} USD/h",
               sources(evidence.recording, *([offer.on_demand] if offer.on_demand else []))),
    ]  # fmt: skip
    figures += _paid(evidence)
    figures += _if_it_falls(purchase, citations)
    return figures


def _paid(evidence: WorkloadEvidence) -> list[Figure]:
    """Return the amount paid, where that is known."""
    if evidence.cost is None:
        return []
    return [
        _month("paid_usd", "as run", evidence.cost.value, f"{evidence.cost.value:.4g} USD/h", sources(evidence.cost))
    ]


def _why(market: str, purchase: Purchase) -> str:
    if market == "reserved":
        return "replicas held long enough that every other market is more expensive"
    if market == "spot":
        return "remaining replicas that are cheaper on spot, limited by spot_max_share at any moment"
    return "remaining replicas"


def _month(key: str, title: str, usd_per_hour: float, formula: str, citations: tuple[Citation, ...]) -> Figure:
    return Figure(key, title, usd_per_hour * MONTH_H, "USD/month", f"{MONTH_H:g} h x {formula}", citations)


def _if_it_falls(purchase: Purchase, citations: tuple[Citation, ...]) -> list[Figure]:
    """Return the cost of the plan beyond on-demand if load is lower than observed."""
    if not purchase.plan.count("reserved"):
        return []
    lower = purchase.curve.scaled(FALLEN)
    planned, on_demand = plan.cost_under(purchase.plan, lower, purchase.prices), lower.mean * purchase.prices.on_demand
    formula = f"plan {planned:.4g} USD/h - all on-demand {on_demand:.4g} USD/h, at {FALLEN:.0%} of the observed load"
    title = f"plan compared with on-demand at {FALLEN:.0%} of the load"
    return [_month("if_load_falls_usd", title, planned - on_demand, formula, citations)]


def _findings(evidence: WorkloadEvidence, purchase: Purchase, figures: list[Figure]) -> list[str]:
    by = {(f.key, f.about): f for f in figures}
    chosen, planned, plain = purchase.plan, by["plan_usd", ""].value, by["on_demand_usd", ""].value
    parts = [f"{chosen.count(m)} {m.replace('_', '-')}" for m in plan.MARKETS if chosen.count(m)]
    sentences = [
        f"The cheapest plan for {purchase.curve.maximum} replicas is {', '.join(parts)}: {usd(planned)} per month."
    ]
    if planned < plain:
        sentences.append(f"All on-demand costs {usd(plain)}: the plan saves {1 - planned / plain:.0%}.")
    if purchase.prices.reserved is None and purchase.prices.spot is None:
        sentences = [f"The replicas cost {usd(plain)} per month on-demand; no other price is known."]
    if chosen.count("reserved"):
        fallen = by["if_load_falls_usd", ""].value
        risk = f"still saves {usd(-fallen)}" if fallen <= 0 else f"costs {usd(fallen)} more than on-demand"
        years = purchase.offer.term_h.value / 8760
        sentences.append(
            f"A reservation has a term of {years:g} year{'s' * (years != 1)}. If the load falls to {FALLEN:.0%} of the"
            f" observed load, the plan {risk} per month."
        )
    if chosen.count("spot"):
        sentences.append(
            "Spot replicas can be interrupted: a lower spot share means fewer SLO violations in a spot shortage."
        )
    paid = by.get(("paid_usd", ""))
    if paid is not None and paid.value < planned and evidence.spot_share:
        sentences.append(
            f"The workload as run cost {usd(paid.value)}, less than the plan: {evidence.spot_share:.0%} of its"
            " replica-hours were on spot. The plan limits spot at any moment to spot_max_share."
        )
    if purchase.curve.seen_h < WEEK_H:
        sentences.append(
            f"The curve covers {duration(purchase.curve.seen_h * 3600)}, less than a week, and may lack nights and"
            " weekends. Record at least a week before you buy a reservation."
        )
    return sentences
