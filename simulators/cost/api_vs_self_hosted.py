"""Cost of a managed API compared with own replicas, at the workload's volume."""

from __future__ import annotations

import dataclasses
from typing import Final

from simulators.cost.buying import recommended
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import MONTH_H, Basis, Citation, Figure, Gap, Section, sources, usd
from simulators.cost.inputs import LoadedOffers, ManagedApi
from simulators.cost.recommendation import Purchase
from simulators.cost.trial import RatedOffer, Trial

TITLE: Final = "Managed API compared with self-hosting"
MONTH_S: Final = MONTH_H * 3600


def section(
    evidence: WorkloadEvidence,
    trial: Trial | None,
    current: RatedOffer | None,
    purchase: Purchase | None,
    file: LoadedOffers,
) -> Section:
    """Compare the cost of the same requests at a managed API with that of own replicas.

    The section states the volume above which own replicas are cheaper.
    """
    api = file.content.api
    if api is None:
        gap = Gap("cost of a managed API", "no API prices are set", "set api in --offers FILE")
        return Section("managed", TITLE, (), (), (gap,))
    if evidence.requests is None:
        return Section(
            "managed", TITLE, (), (), (Gap("volume of requests", evidence.missing_reason, "see docs/how-to/advise.md"),)
        )
    figures = _api(evidence.requests, api, file)
    figures += _own(evidence, evidence.requests, purchase, figures[1])
    if trial is not None and current is not None and purchase is not None:
        figures += _break_even(evidence, purchase, current, figures[:2], trial.citations(current.engine))
    return Section("managed", TITLE, tuple(_findings(figures)), tuple(figures))


def _api(requests: RequestEvidence, api: ManagedApi, file: LoadedOffers) -> list[Figure]:
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
    thousand = Figure("api_request_usd", "1,000 requests on the API", per_thousand, "USD/1,000 requests", formula,
                      sources(given, *requests.sources))  # fmt: skip
    count = Figure("volume", "requests per month", volume, "requests/month",
                   f"{requests.rate_rps:.4g} requests/s x {MONTH_S:.4g} s", requests.sources)  # fmt: skip
    month = Figure("api_usd", "this volume on the API", volume / 1000 * per_thousand, "USD/month",
                   f"{volume:.4g} requests x {per_thousand:.4g} USD / 1,000", sources(thousand, count))  # fmt: skip
    return [thousand, count, month]


def _own(
    evidence: WorkloadEvidence, requests: RequestEvidence, purchase: Purchase | None, volume: Figure
) -> list[Figure]:
    figures = []
    if evidence.cost is not None:
        value = evidence.cost.value * MONTH_H
        formula = f"{MONTH_H:g} h x {evidence.cost.value:.4g} USD/h"
        figures.append(Figure("own_usd", "self-hosted, as run", value, "USD/month", formula, evidence.cost.sources))
        each = value / volume.value * 1000
        formula = f"{value:.4g} USD / {volume.value:.4g} requests x 1,000"
        citations = sources(evidence.cost, volume)
        title = "1,000 requests self-hosted, as run"
        figures.append(Figure("own_request_usd", title, each, "USD/1,000 requests", formula, citations))
    if purchase is not None:
        best = recommended(evidence, purchase)
        title = "self-hosted, as recommended"
        figures.append(dataclasses.replace(best, key="own_plan_usd", title=title))
    return figures


def _break_even(
    evidence: WorkloadEvidence,
    purchase: Purchase,
    current: RatedOffer,
    api_figures: list[Figure],
    trial_citations: tuple[Citation, ...],
) -> list[Figure]:
    """Return the monthly volume above which own replicas are cheaper.

    `api_figures` are the API's price and the volume.

    At a low volume the minimum replicas are paid for regardless of traffic: 1 replica at 5 USD/h costs 3650 USD a
    month, as much as 7.3 million requests at 0.5 USD per 1,000. At a higher volume, the marginal cost is that of a full
    replica divided by the observed utilization of the replicas.
    """
    api, volume = api_figures
    price, rps = current.price, current.rate.rps
    full = price.value / rps / 3.6
    factor = min(1.0, volume.value / MONTH_S / (purchase.curve.mean * rps))
    marginal = full / factor
    minimum = max(1, evidence.recorded.spec.min_replicas)
    citations = sources(api, price, volume, evidence.recording, *trial_citations)
    figures = [
        Figure("marginal_usd", "1,000 more requests self-hosted", marginal, "USD/1,000 requests",
               f"{full:.4g} USD on a full replica / {factor:.2f}, the observed utilization", citations)
    ]  # fmt: skip
    if api.value > marginal > 0:
        floor = minimum * price.value * MONTH_H
        formula = (
            f"{minimum} replica{'s' * (minimum != 1)} x {price.value:g} USD/h x {MONTH_H:g} h / {api.value:.4g} USD x"
            " 1,000: the cost of the minimum replicas over the API price"
        )
        title = "self-hosting is cheaper from"
        figures.append(Figure("break_even", title, floor / api.value * 1000, "requests/month", formula, citations))
    return figures


def _findings(figures: list[Figure]) -> list[str]:
    by = {f.key: f for f in figures}
    there = by["api_usd"]
    sentences = []
    own = by.get("own_plan_usd") or by.get("own_usd")
    if own is not None:
        less, more = sorted((own, there), key=lambda f: f.value)
        name = "Self-hosting" if less is own else "The API"
        sentences.append(
            f"{name} is cheaper: {usd(less.value)} instead of {usd(more.value)} per month for"
            f" {by['volume'].value:,.0f} requests."
        )
    if "break_even" in by:
        sentences.append(f"Self-hosting is cheaper from about {by['break_even'].value:,.0f} requests per month.")
    elif "marginal_usd" in by:
        sentences.append(
            "The API is cheaper at every volume at the observed utilization; a higher utilization may change that."
        )
    sentences.append("Only the cost is compared, not latency, rate limits, privacy or model quality.")
    return sentences
