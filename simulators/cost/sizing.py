"""Choice of the GPU: cost of a unit of demand on each offer, within the SLO."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from simulators.cost import parity
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import MONTH_H, Figure, Gap, Section, sources, usd
from simulators.cost.offers import OfferedEngine
from simulators.cost.trial import TIME_FACTORS, RatedEngine, RatedOffer, Trial, rated_offers

TITLE: Final = "Choice of the GPU: cost per request"
BIN_S: Final = 300.0
"""Bin over which the needed replicas are counted: shorter bursts queue, or use headroom."""


def section(evidence: WorkloadEvidence, trial: Trial | None, rates: Mapping[str, RatedEngine]) -> Section:
    """Return a comparison of the offers."""
    if trial is None:
        why = evidence.missing_reason or "the SLO is unknown, so the capacity of a replica is unknown"
        remedy = (
            "see docs/how-to/advise.md for the required contents of a journal"
            if evidence.missing_reason
            else "set slo in --offers FILE"
        )
        return Section("sizing", TITLE, (), (), (Gap("capacity of each GPU", why, remedy),))
    figures: list[Figure] = []
    for name, offer in evidence.offers.items():
        if offer.engine is not None:
            figures.append(_rate(trial, name, offer.engine, rates[name]))
    minimum = evidence.recorded.spec.min_replicas
    for rated in rated_offers(evidence, rates).values():
        figures += _costs(trial, rated, minimum)
    now = rated_offers(evidence, rates).get(evidence.runs_on)
    parities = [] if now is None else list(parity.figures(evidence, trial, now))
    figures += [p for p in parities if isinstance(p, Figure)]
    gaps = (*_gaps(evidence), *(p for p in parities if isinstance(p, Gap)))
    return Section("sizing", TITLE, tuple(_findings(evidence, figures, rates)), tuple(figures), gaps)


def _gaps(evidence: WorkloadEvidence) -> list[Gap]:
    gaps = []
    for name, offer in evidence.offers.items():
        if offer.engine is None:
            why, remedy = "its service model is unknown", f"set model of offer {name} in --offers FILE"
            gaps.append(Gap(f"capacity of {name}", why, remedy))
        if offer.price is None:
            remedy = f"set on_demand_usd_per_hour of offer {name} in --offers FILE"
            gaps.append(Gap(f"cost of {name}", "its price is unknown", remedy))
    return gaps


def _rate(trial: Trial, name: str, engine: OfferedEngine, rated: RatedEngine) -> Figure:
    rate = rated.rate
    formula = (
        f"largest rate at which {trial.slo.share:.0%} of the requests meet the SLO, with {rate.prompt_tokens:.0f}"
        f" prompt tokens ({rate.cached_tokens:.0f} of them cached) and {rate.output_tokens:.0f} output tokens on"
        f" average; the GPU time alone would allow {rate.bound_rps:.3g}"
    )
    if rated.time_factor > 1:
        low, high = TIME_FACTORS
        formula += (
            f"; the model has GPU times only, which are multiplied by {rated.time_factor:.2f}, since real engines took"
            f" {low - 1:.0%} to {high - 1:.0%} longer"
        )
    title = "goodput of a replica"
    citations = trial.citations(engine)
    return Figure("goodput_rps", title, rate.rps, "requests/s", formula, citations, name, rated.min_rps, rated.max_rps)


def _costs(trial: Trial, offer: RatedOffer, minimum: int) -> list[Figure]:
    price, rate = offer.price.value, offer.rate
    citations = sources(offer.price, *trial.citations(offer.engine))

    def cost_figure(key: str, title: str, unit: str, formula: str, cost: Callable[[float], float]) -> Figure:
        """Return the cost at the likely rate and at its bounds."""
        bounds = (offer.rated.max_rps, offer.rated.min_rps)
        low, high = (None if not rps else cost(rps) for rps in bounds)
        return Figure(key, title, cost(rate.rps), unit, formula, citations, offer.name, low, high)

    def thousand(rps: float) -> float:
        return price / rps / 3.6

    need = replicas_needed(trial.requests, rate.rps, minimum)
    by_month = (
        f"{MONTH_H:g} h x {price:g} USD/h x {need:.3f} replicas: mean of the rate per {BIN_S / 60:g} minutes /"
        f" {rate.rps:.4g} requests/s, rounded up, at least {minimum}"
    )
    return [
        cost_figure("request_usd", "1,000 requests on a full replica", "USD/1,000 requests",
             f"{price:g} USD/h / ({rate.rps:.4g} requests/s x 3.6)", thousand),
        cost_figure("token_usd", "1M output tokens on a full replica", "USD/1M output tokens",
             f"{thousand(rate.rps):.4g} USD / 1,000 requests / {rate.output_tokens:.0f} output tokens",
             lambda rps: thousand(rps) / rate.output_tokens * 1e3),
        cost_figure("month_usd", "observed traffic on whole replicas", "USD/month", by_month,
             lambda rps: replicas_needed(trial.requests, rps, minimum) * price * MONTH_H),
    ]  # fmt: skip


def replicas_needed(requests: RequestEvidence, rps: float, minimum: int) -> float:
    """Return the mean number of whole replicas that the bins' rates need.

    Each bin needs at least `minimum`. At 10 requests/s per replica, bins of 12 and 31 requests/s need 2 and 4 replicas:
    3 in the mean.
    """
    edges = np.append(np.arange(0.0, requests.span_s, BIN_S), requests.span_s)
    widths = np.diff(edges)
    counts = np.histogram(requests.trace.arrival_s, edges)[0]
    needs = np.maximum(np.ceil(counts / widths / rps - 1e-9), minimum)
    return float((needs * widths).sum() / widths.sum())


def _findings(evidence: WorkloadEvidence, figures: list[Figure], rates: Mapping[str, RatedEngine]) -> list[str]:
    failing = [name for name, rated in rates.items() if not rated.rate.rps]
    sentences = [f"These offers cannot meet the SLO at any request rate: {', '.join(failing)}."] if failing else []
    months = sorted((f for f in figures if f.key == "month_usd"), key=lambda f: f.value)
    if len(months) == 1:
        (only,) = months
        sentences.append(
            f"{only.about}: the observed traffic costs {usd(only.value)} per month if every replica is full."
        )
    elif months:
        sentences += _ranked(evidence, figures, months)
    return [*sentences, *filter(None, [parity.finding(figures, evidence.runs_on)])]


def _ranked(evidence: WorkloadEvidence, figures: list[Figure], months: list[Figure]) -> Iterator[str]:
    """Yield sentences about the cheapest and the next offer.

    `months` are in ascending order of cost.
    """
    best, second, *_ = months
    yield (
        f"{best.about} is cheapest for this traffic: {usd(best.value)} per month with full replicas; {second.about}"
        f" costs {usd(second.value)}."
    )
    if (best.high or best.value) >= (second.low or second.value):
        yield "The difference is within the error of the service models: measure both before you migrate."
    each = min((f for f in figures if f.key == "request_usd"), key=lambda f: f.value)
    if each.about != best.about:
        minimum = evidence.recorded.spec.min_replicas
        yield (
            f"{each.about} has the lowest cost per request, {usd(each.value)} per 1,000 requests, but needs whole"
            f" replicas, at least {minimum}."
        )
    now = next((f for f in months[2:] if f.about == evidence.runs_on), None)
    if now is not None:
        yield f"The workload runs on {now.about} now: {usd(now.value)} per month under the same assumptions."
