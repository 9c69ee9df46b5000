"""Reserved, spot or on demand: by how long each replica is held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from simulators.cost import plan
from simulators.cost.curve import Curve
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Citation, Figure, Gap, Known, Section, sources, usd
from simulators.cost.offers import Buyable
from simulators.cost.plan import Plan, Prices
from simulators.world.traffic.describe import duration

TITLE: Final = "How to buy it: reserved, spot, on demand"
WEEK_H: Final = 168.0
FALLEN: Final = 0.8
"""Of the load seen: what a reservation is tried against, since it binds for a year and loads change."""


@dataclass(frozen=True, slots=True, eq=False)
class Purchase:
    """The curve, the prices it is bought at, the cheapest plan, and the offer it is bought from."""

    curve: Curve
    needed: Curve
    prices: Prices
    plan: Plan
    offer: Buyable


def purchase(seen: WorkloadEvidence, spot_max_share: float) -> Purchase | None:
    """Return the cheapest way to buy what was held; None without an on-demand price or without a size seen."""
    offer, held = seen.offer, seen.held_curve
    if offer.on_demand is None or not held.most:
        return None
    spot = spot_price(offer)
    prices = Prices(
        offer.on_demand.value,
        None if offer.reserved is None else offer.reserved.value,
        None if spot is None else spot.value,
    )
    return Purchase(held, seen.needed_curve, prices, plan.cheapest(held, prices, spot_max_share), offer)


def spot_price(offer: Buyable) -> Figure | None:
    """What an hour of service costs on spot: with the starts that losses cost, and on-demand for what spot lacks.

    None where its price, losses, availability or the time of a start is not known: what is not known is not zero.
    """
    spot, lost, there, lead, other = offer.spot, offer.losses, offer.available, offer.lead_time_s, offer.on_demand
    if spot is None or lost is None or there is None or lead is None or other is None:
        return None
    again = 1.0 + lost.value * lead.value / 3600.0
    value = there.value * spot.value * again + (1.0 - there.value) * other.value
    formula = (
        f"{there.value:.3f} available x {spot.value:g} USD/h x (1 + {lost.value:.3g} losses/h x {lead.value:.0f} s /"
        f" 3600) + {1 - there.value:.3f} x {other.value:g} USD/h on demand"
    )
    found = sources(spot, lost, there, lead, other)
    return Figure("spot_usd_per_hour", "an hour of service on spot", value, "USD/h", formula, found, offer.name)


def section(seen: WorkloadEvidence, found: Purchase | None, spot_max_share: Known) -> Section:
    """Return the number of replicas to reserve and the saving."""
    gaps = list(_gaps(seen))
    if found is None:
        figures = [*(_curve(seen) if seen.held_curve.most else []), *_paid(seen)]
        return Section("buying", TITLE, (), tuple(figures), tuple(gaps))
    figures = [*_curve(seen), *_break_even(found), *_plan(seen, found, spot_max_share)]
    return Section("buying", TITLE, tuple(_findings(seen, found, figures)), tuple(figures), tuple(gaps))


def _gaps(seen: WorkloadEvidence) -> list[Gap]:
    offer, gaps = seen.offer, []
    remedy = f"give on_demand_usd_per_hour of offer {offer.name} with --offers FILE"
    if offer.on_demand is None:
        gaps.append(Gap("the cheapest way to buy", "no on-demand price is known", remedy))
    if offer.reserved is None:
        gaps.append(Gap("what to reserve", "no reserved price is known", remedy.replace("on_demand", "reserved", 1)))
    lacking = [
        key
        for key, known in (
            ("spot_usd_per_hour", offer.spot),
            ("spot_losses_per_node_hour", offer.losses),
            ("spot_available_share", offer.available),
        )
        if known is None
    ]
    if lacking:
        why = f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not known, and not zero"
        gaps.append(Gap("what spot would cost", why, f"give them of offer {offer.name} with --offers FILE"))
    if not seen.held_curve.most:
        gaps.append(Gap("how much is held", "no size was seen", "look whether the daemon reads its pools"))
    return gaps


def _curve(seen: WorkloadEvidence) -> list[Figure]:
    held, needed = seen.held_curve, seen.needed_curve
    unit = "replicas"
    return [
        Figure("held_mean", "held in the mean", held.mean, unit,
               f"the area under the load-duration curve of {held.seen_h:.4g} h", (seen.turns,)),
        Figure("held_most", "held at most", held.most, unit, "the curve's top", (seen.turns,)),
        Figure("needed_mean", "needed in the mean", needed.mean, unit,
               "the same of what the policies found needed", (seen.turns,)),
        Figure("base", "held nine tenths of the time", held.held_at_least(0.9), unit,
               "replicas whose share of the time is above 0.9", (seen.turns,)),
    ]  # fmt: skip


def _break_even(found: Purchase) -> list[Figure]:
    """From how many hours a month a reserved replica pays."""
    made, offer = [], found.offer
    spot = spot_price(offer)
    if spot is not None:
        made.append(spot)
    if offer.reserved is None or offer.on_demand is None:
        return made
    for market, price in (("on_demand", offer.on_demand), ("spot", spot)):
        if price is not None:
            share = offer.reserved.value / price.value
            formula = f"{MONTH_H:g} h x {offer.reserved.value:g} / {price.value:.4g} USD/h = {share:.1%} of the time"
            formula += ", more than there is: never" if share > 1 else ""
            title = f"reserved pays against {market.replace('_', '-')} from"
            rests = sources(offer.reserved, price)
            made.append(Figure("break_even_h", title, MONTH_H * share, "h/month", formula, rests, market))
    return made


def plan_rests(seen: WorkloadEvidence, found: Purchase) -> tuple[Citation, ...]:
    """Return the sources of a plan's cost: its prices, and the time that was observed."""
    offer, used = found.offer, found.plan.count
    known = [offer.on_demand, offer.reserved if used("reserved") else None]
    spot = spot_price(offer) if used("spot") else None
    return sources(seen.turns, *(k for k in known if k is not None), *([spot] if spot else []))


def _plan(seen: WorkloadEvidence, found: Purchase, spot_max_share: Known) -> list[Figure]:
    bought, curve, prices, offer = found.plan, found.curve, found.prices, found.offer
    rests = plan_rests(seen, found)
    counts = {market: bought.count(market) for market in plan.MARKETS}
    shares = {
        market: sum(s for m, s in zip(bought.markets, curve.shares.tolist(), strict=True) if m == market)
        for market in plan.MARKETS
    }
    made = [
        Figure(f"{market}_replicas", f"to buy {market.replace('_', '-')}", count, "replicas", _why(market, found),
               rests if market != "spot" else sources(*rests, spot_max_share))
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
    made += [
        _month("plan_usd", "this plan", bought.usd_per_hour, f"({sums}) USD/h", rests),
        _month("on_demand_usd", "all of it on demand", all_on_demand, f"{curve.mean:.3f} x {prices.on_demand:g} USD/h",
               sources(seen.turns, *([offer.on_demand] if offer.on_demand else []))),
    ]  # fmt: skip
    made += _paid(seen)
    made += _if_it_falls(found, rests)
    return made


def _paid(seen: WorkloadEvidence) -> list[Figure]:
    """Return the amount paid, where that is known."""
    if seen.cost is None:
        return []
    return [_month("paid_usd", "as it was run", seen.cost.value, f"{seen.cost.value:.4g} USD/h", sources(seen.cost))]


def _why(market: str, found: Purchase) -> str:
    if market == "reserved":
        return "replicas held for so long that their hours cost more in every other market"
    if market == "spot":
        return "of the others those cheaper on spot, within the largest share allowed on spot at any moment"
    return "the rest"


def _month(key: str, title: str, usd_per_hour: float, formula: str, rests: tuple[Citation, ...]) -> Figure:
    return Figure(key, title, usd_per_hour * MONTH_H, "USD/month", f"{MONTH_H:g} h x {formula}", rests)


def _if_it_falls(found: Purchase, rests: tuple[Citation, ...]) -> list[Figure]:
    """Return the cost of the plan beyond on-demand if load is lower than observed."""
    if not found.plan.count("reserved"):
        return []
    less = found.curve.stretched(FALLEN)
    kept, free = plan.kept(found.plan, less, found.prices), less.mean * found.prices.on_demand
    formula = f"{kept:.4g} USD/h kept to, less {free:.4g} USD/h all on demand, at {FALLEN:.0%} of the load seen"
    title = f"the plan beyond on-demand at {FALLEN:.0%} of the load"
    return [_month("if_load_falls_usd", title, kept - free, formula, rests)]


def _findings(seen: WorkloadEvidence, found: Purchase, figures: list[Figure]) -> list[str]:
    by = {(f.key, f.about): f for f in figures}
    bought, planned, plain = found.plan, by["plan_usd", ""].value, by["on_demand_usd", ""].value
    parts = [f"{bought.count(m)} {m.replace('_', '-')}" for m in plan.MARKETS if bought.count(m)]
    said = [f"{found.curve.most} replicas are cheapest as {', '.join(parts)}: {usd(planned)} a month."]
    if planned < plain:
        said.append(f"All on demand they cost {usd(plain)}: the plan saves {1 - planned / plain:.0%}.")
    if found.prices.reserved is None and found.prices.spot is None:
        said = [f"On demand the replicas held cost {usd(plain)} a month; no other price is known."]
    if bought.count("reserved"):
        fallen = by["if_load_falls_usd", ""].value
        risk = f"still saves {usd(-fallen)}" if fallen <= 0 else f"costs {usd(fallen)} more than on-demand"
        years = found.offer.term_h.value / 8760
        said.append(
            f"A reservation binds for {years:g} year{'s' * (years != 1)}: if the load fell to {FALLEN:.0%} of what was"
            f" seen, the plan {risk} a month."
        )
    if bought.count("spot"):
        said.append(
            "Spot replicas are taken away: the lower the share on them, the fewer requests are late when a zone goes."
        )
    paid = by.get(("paid_usd", ""))
    if paid is not None and paid.value < planned and seen.spot_share:
        said.append(
            f"As it was run it cost {usd(paid.value)}, less than that: {seen.spot_share:.0%} of the replica-hours were"
            " on spot, and spot_max_share says how many may be at any moment."
        )
    if found.curve.seen_h < WEEK_H:
        said.append(
            f"{duration(found.curve.seen_h * 3600)} were seen, less than a week: nights and weekends may be missing"
            " from the curve. Look at a week before you bind yourself."
        )
    return said
