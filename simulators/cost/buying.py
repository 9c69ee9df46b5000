"""The cheapest market for each replica, by the time for which the replica is held.

The markets are reserved, spot and on demand.
"""

from __future__ import annotations

from typing import Final

from simulators.cost import plan, recommendation_text
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Citation, Figure, Gap, Section, sources, usd
from simulators.cost.recommendation import Purchase, spot_price
from simulators.world.traffic.describe import duration

TITLE: Final = "Purchase plan: reserved, spot, on-demand"
WEEK_H: Final = 168.0
FALLEN: Final = 0.8
"""Share of the observed load at which a reservation is tested: it binds for a year, and loads change."""


def section(evidence: WorkloadEvidence, purchase: Purchase | None) -> Section:
    """Return the recommended purchase, compared with what ran."""
    gaps = list(_gaps(evidence))
    if purchase is None:
        figures = [*(_curve(evidence) if evidence.held_curve.maximum else []), *_paid(evidence)]
        return Section("buying", TITLE, (), tuple(figures), tuple(gaps))
    figures = [*_curve(evidence), *_break_even(purchase), *_plan(evidence, purchase)]
    findings = (*recommendation_text.sentences(evidence, purchase), *_findings(evidence, purchase, figures))
    return Section("buying", TITLE, findings, tuple(figures), tuple(gaps))


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
    figures = [
        Figure("held_mean", "mean replicas", held.mean, unit,
               f"area under the load-duration curve of {held.seen_h:.4g} h", (evidence.recording,)),
        Figure("held_most", "maximum replicas", held.maximum, unit, "top of the curve", (evidence.recording,)),
        Figure("base", "replicas held for 90 % of the time", held.held_above(0.9), unit,
               "replicas whose share of the time is above 0.9", (evidence.recording,)),
    ]  # fmt: skip
    if needed.seen_h:
        figures += [
            Figure("needed_mean", "mean demand", needed.mean, unit,
                   "area under the curve of the policies' demand over the same time", (evidence.recording,)),
            Figure("short_share", "time with less than the demand", 100 * evidence.short_share, "%",
                   "share of the time in which the replicas held were below the demand", (evidence.recording,)),
        ]  # fmt: skip
    return figures


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


def _plan(evidence: WorkloadEvidence, purchase: Purchase) -> list[Figure]:
    chosen, curve, prices, offer = purchase.plan, purchase.curve, purchase.prices, purchase.offer
    citations = plan_citations(evidence, purchase)
    counts = {market: chosen.count(market) for market in plan.MARKETS}
    shares = {
        market: sum(s for m, s in zip(chosen.markets, curve.shares.tolist(), strict=True) if m == market)
        for market in plan.MARKETS
    }
    figures = [
        Figure(f"{market}_replicas", f"{market.replace('_', '-')} replicas of the cheapest plan", count, "replicas",
               _why(market, purchase), citations if market != "spot" else sources(*citations, purchase.limit))
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
        _month("plan_usd", "cheapest plan", chosen.usd_per_hour, f"({sums}) USD/h", citations),
        _month("on_demand_usd", "all on-demand", all_on_demand, f"{curve.mean:.3f} x {prices.on_demand:g} USD/h",
               sources(evidence.recording, *([offer.on_demand] if offer.on_demand else []))),
    ]  # fmt: skip
    if (run := purchase.as_run) is not None:
        figures.append(_month("run_usd", "what ran, on the same basis", run.usd_per_hour, run.formula, run.sources))
    figures.append(recommended(evidence, purchase))
    figures += _paid(evidence)
    figures += [] if purchase.keeps else _if_it_falls(purchase, citations)
    return figures


def recommended(evidence: WorkloadEvidence, purchase: Purchase) -> Figure:
    """Return the monthly cost of the recommended purchase."""
    run = purchase.as_run
    citations = run.sources if purchase.keeps and run is not None else plan_citations(evidence, purchase)
    formula = f"{purchase.usd_per_hour:.4g} USD/h, {purchase.choice}"
    return _month("recommended_usd", "recommended", purchase.usd_per_hour, formula, citations)


def _paid(evidence: WorkloadEvidence) -> list[Figure]:
    """Return the bill of the period, where that is known."""
    if evidence.cost is None:
        return []
    return [
        _month("paid_usd", "billed, with starts, draining and rounding", evidence.cost.value,
               f"{evidence.cost.value:.4g} USD/h", sources(evidence.cost))
    ]  # fmt: skip


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
    """Return the risks of the recommended purchase."""
    by = {(f.key, f.about): f for f in figures}
    sentences = []
    if ("if_load_falls_usd", "") in by:
        fallen = by["if_load_falls_usd", ""].value
        risk = f"still saves {usd(-fallen)}" if fallen <= 0 else f"costs {usd(fallen)} more than on-demand"
        years = purchase.offer.term_h.value / 8760
        sentences.append(
            f"A reservation has a term of {years:g} year{'s' * (years != 1)}. If the load falls to {FALLEN:.0%} of the"
            f" observed load, the plan {risk} per month."
        )
    if evidence.spot_share if purchase.keeps else purchase.plan.count("spot"):
        sentences.append(
            "Spot replicas can be interrupted: a lower spot share means fewer SLO violations in a spot shortage."
        )
    if purchase.curve.seen_h < WEEK_H:
        sentences.append(
            f"The curve covers {duration(purchase.curve.seen_h * 3600)}, less than a week, and may lack nights and"
            " weekends. Record at least a week before you buy a reservation."
        )
    return sentences
