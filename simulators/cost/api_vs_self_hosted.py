"""A managed API against one's own replicas, at the user's volume."""

from __future__ import annotations

from typing import Final

from simulators.cost.buying import Purchase, plan_rests
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, Citation, Figure, Gap, Section, sources, usd
from simulators.cost.inputs import GivenFile, ManagedApi
from simulators.cost.trial import Ready, Trial

TITLE: Final = "A managed API, or your own replicas"
MONTH_S: Final = MONTH_H * 3600


def section(
    seen: WorkloadEvidence, tried: Trial | None, one: Ready | None, bought: Purchase | None, file: GivenFile
) -> Section:
    """Compare the cost of the same requests at a managed API, with the volume above which own replicas are cheaper."""
    api = file.given.api
    if api is None:
        gap = Gap("what a managed API would cost", "no API's prices are given", "give api with --offers FILE")
        return Section("managed", TITLE, (), (), (gap,))
    if seen.requests is None:
        return Section("managed", TITLE, (), (), (Gap("the volume", seen.unknown, "see docs/advise.md"),))
    figures = _api(seen.requests, api, file)
    figures += _own(seen, seen.requests, bought, figures[1])
    if tried is not None and one is not None and bought is not None:
        figures += _break_even(seen, bought, one, figures[:2], tried.rests(one.engine))
    return Section("managed", TITLE, tuple(_findings(figures)), tuple(figures))


def _api(requests: RequestEvidence, api: ManagedApi, file: GivenFile) -> list[Figure]:
    trace = requests.trace
    prompt, output = float(trace.prompt_tokens.mean()), float(trace.output_tokens.mean())
    cached = 0.0 if trace.cached_tokens is None else float(trace.cached_tokens.mean())
    cached_usd = (
        api.input_usd_per_million if api.cached_input_usd_per_million is None else api.cached_input_usd_per_million
    )
    million = (prompt - cached) * api.input_usd_per_million + cached * cached_usd + output * api.output_usd_per_million
    given = Citation(Basis.GIVEN, file.where("api") + (f" ({api.source})" if api.source else ""))
    per_thousand = million / 1000
    formula = (
        f"({prompt - cached:.0f} prompt tokens x {api.input_usd_per_million:g} + {cached:.0f} cached x {cached_usd:g} +"
        f" {output:.0f} output tokens x {api.output_usd_per_million:g}) USD / 1,000"
    )
    volume = requests.rate_rps * MONTH_S
    thousand = Figure("api_request_usd", "1,000 requests there", per_thousand, "USD/1,000 requests", formula,
                      sources(given, *requests.sources))  # fmt: skip
    count = Figure("volume", "requests a month", volume, "requests/month",
                   f"{requests.rate_rps:.4g} requests/s x {MONTH_S:.4g} s", requests.sources)  # fmt: skip
    month = Figure("api_usd", "this volume there", volume / 1000 * per_thousand, "USD/month",
                   f"{volume:.4g} requests x {per_thousand:.4g} USD / 1,000", sources(thousand, count))  # fmt: skip
    return [thousand, count, month]


def _own(seen: WorkloadEvidence, requests: RequestEvidence, bought: Purchase | None, volume: Figure) -> list[Figure]:
    made = []
    if seen.cost is not None:
        value = seen.cost.value * MONTH_H
        formula = f"{MONTH_H:g} h x {seen.cost.value:.4g} USD/h"
        made.append(Figure("own_usd", "as it was run", value, "USD/month", formula, seen.cost.sources))
        each = value / volume.value * 1000
        formula = f"{value:.4g} USD / {volume.value:.4g} requests x 1,000"
        rests = sources(seen.cost, volume)
        title = "1,000 requests, as it was run"
        made.append(Figure("own_request_usd", title, each, "USD/1,000 requests", formula, rests))
    if bought is not None:
        value = bought.plan.usd_per_hour * MONTH_H
        formula = f"{MONTH_H:g} h x {bought.plan.usd_per_hour:.4g} USD/h"
        rests = plan_rests(seen, bought)
        made.append(Figure("own_plan_usd", "bought as advised", value, "USD/month", formula, rests))
    return made


def _break_even(
    seen: WorkloadEvidence, bought: Purchase, one: Ready, told: list[Figure], tried: tuple[Citation, ...]
) -> list[Figure]:
    """From how many requests a month one's own replicas are cheaper. `told` are the API's price and the volume.

    Below some volume the fewest replicas that must be there are paid whatever comes; above it another replica is paid
    for what it carries at the load factor that was seen.
    """
    api, volume = told
    price, rps = one.price, one.rate.rps
    full = price.value / rps / 3.6
    factor = min(1.0, volume.value / MONTH_S / (bought.curve.mean * rps))
    marginal = full / factor
    least = max(1, seen.recorded.spec.min_replicas)
    rests = sources(api, price, volume, seen.turns, *tried)
    made = [
        Figure("marginal_usd", "1,000 more requests on your own", marginal, "USD/1,000 requests",
               f"{full:.4g} USD on a full replica / {factor:.2f}, how full the replicas held were", rests)
    ]  # fmt: skip
    if api.value > marginal > 0:
        floor = least * price.value * MONTH_H
        formula = (
            f"{least} replica{'s' * (least != 1)} x {price.value:g} USD/h x {MONTH_H:g} h / {api.value:.4g} USD x 1,000"
            ": the fewest that must be there, at the API's price"
        )
        title = "your own are cheaper from"
        made.append(Figure("break_even", title, floor / api.value * 1000, "requests/month", formula, rests))
    return made


def _findings(figures: list[Figure]) -> list[str]:
    by = {f.key: f for f in figures}
    there = by["api_usd"]
    said = []
    own = by.get("own_plan_usd") or by.get("own_usd")
    if own is not None:
        less, more = sorted((own, there), key=lambda f: f.value)
        name = "Your own replicas" if less is own else "The API"
        said.append(
            f"{name}: {usd(less.value)} a month against {usd(more.value)} for {by['volume'].value:,.0f} requests."
        )
    if "break_even" in by:
        said.append(f"Your own are cheaper from about {by['break_even'].value:,.0f} requests a month.")
    elif "marginal_usd" in by:
        said.append("The API is cheaper at every volume, as full as the replicas were: fuller ones may change that.")
    said.append("Only money is compared: not latency, limits, privacy, or whether the model is the same.")
    return said
