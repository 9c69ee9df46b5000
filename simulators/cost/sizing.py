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

TITLE: Final = "Which GPU: what a unit of demand costs"
BIN_S: Final = 300.0
"""Bin over which the needed replicas are counted: shorter bursts queue, or use headroom."""


def section(evidence: WorkloadEvidence, trial: Trial | None, rates: Mapping[str, RatedEngine]) -> Section:
    """Return a comparison of the offers."""
    if trial is None:
        why = evidence.missing_reason or "nothing is promised, so that it is not known how full a replica may be"
        remedy = (
            "see docs/advise.md for what a journal must hold"
            if evidence.missing_reason
            else "give slo with --offers FILE"
        )
        return Section("sizing", TITLE, (), (), (Gap("what each GPU carries", why, remedy),))
    figures: list[Figure] = []
    for name, offer in evidence.offers.items():
        if offer.engine is not None:
            figures.append(_rate(trial, name, offer.engine, rates[name]))
    minimum = evidence.recorded.spec.min_replicas
    for rated in rated_offers(evidence, rates).values():
        figures += _costs(trial, rated, minimum)
    now = rated_offers(evidence, rates).get(evidence.runs_on)
    figures += [] if now is None else parity.figures(evidence, trial, now)
    return Section("sizing", TITLE, tuple(_findings(evidence, figures, rates)), tuple(figures), tuple(_gaps(evidence)))


def _gaps(evidence: WorkloadEvidence) -> list[Gap]:
    gaps = []
    for name, offer in evidence.offers.items():
        if offer.engine is None:
            why, remedy = "its service model is not known", f"give model of offer {name} with --offers FILE"
            gaps.append(Gap(f"what {name} carries", why, remedy))
        if offer.price is None:
            remedy = f"give on_demand_usd_per_hour of offer {name} with --offers FILE"
            gaps.append(Gap(f"what {name} costs", "it has no price", remedy))
    return gaps


def _rate(trial: Trial, name: str, engine: OfferedEngine, rated: RatedEngine) -> Figure:
    rate = rated.rate
    formula = (
        f"the largest rate at which {trial.slo.share:.0%} of the requests keep the promise, {rate.prompt_tokens:.0f}"
        f" prompt tokens ({rate.cached_tokens:.0f} of them cached) and {rate.output_tokens:.0f} output tokens in the"
        f" mean; the GPU's time alone would allow {rate.bound_rps:.3g}"
    )
    if rated.time_factor > 1:
        low, high = TIME_FACTORS
        formula += (
            f"; the model's times x {rated.time_factor:.2f}, as engines took {low - 1:.0%} to {high - 1:.0%} longer"
            " than the GPU's time alone, which is all that it tells"
        )
    title = "requests a replica serves in time"
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
        f"{MONTH_H:g} h x {price:g} USD/h x {need:.3f} replicas: each {BIN_S / 60:g} minutes' rate over {rate.rps:.4g}"
        f" requests/s, rounded up, and {minimum} at least, in the mean"
    )
    return [
        cost_figure("request_usd", "1,000 requests on a full replica", "USD/1,000 requests",
             f"{price:g} USD/h / ({rate.rps:.4g} requests/s x 3.6)", thousand),
        cost_figure("token_usd", "the same by the output token", "USD/1M output tokens",
             f"{thousand(rate.rps):.4g} USD / 1,000 requests / {rate.output_tokens:.0f} output tokens",
             lambda rps: thousand(rps) / rate.output_tokens * 1e3),
        cost_figure("month_usd", "the traffic that came, by whole replicas", "USD/month", by_month,
             lambda rps: replicas_needed(trial.requests, rps, minimum) * price * MONTH_H),
    ]  # fmt: skip


def replicas_needed(requests: RequestEvidence, rps: float, minimum: int) -> float:
    """Return the mean over the bins of the whole replicas that each bin's rate needs, at least `minimum`.

    At 10 requests/s per replica, bins of 12 and 31 requests/s need 2 and 4 replicas: 3 in the mean.
    """
    edges = np.append(np.arange(0.0, requests.span_s, BIN_S), requests.span_s)
    widths = np.diff(edges)
    counts = np.histogram(requests.trace.arrival_s, edges)[0]
    needs = np.maximum(np.ceil(counts / widths / rps - 1e-9), minimum)
    return float((needs * widths).sum() / widths.sum())


def _findings(evidence: WorkloadEvidence, figures: list[Figure], rates: Mapping[str, RatedEngine]) -> list[str]:
    failing = [name for name, rated in rates.items() if not rated.rate.rps]
    sentences = (
        [f"On {', '.join(failing)} the promise cannot be kept, however slowly requests come."] if failing else []
    )
    months = sorted((f for f in figures if f.key == "month_usd"), key=lambda f: f.value)
    if len(months) == 1:
        (only,) = months
        sentences.append(
            f"{only.about}: the traffic that came costs {usd(only.value)} a month, if every replica is full."
        )
    elif months:
        sentences += _ranked(evidence, figures, months)
    return [*sentences, *filter(None, [parity.finding(figures, evidence.runs_on)])]


def _ranked(evidence: WorkloadEvidence, figures: list[Figure], months: list[Figure]) -> Iterator[str]:
    """Yield sentences about the cheapest and the next offer. `months` are in ascending order of cost."""
    best, second, *_ = months
    yield (
        f"Cheapest for this traffic is {best.about}, {usd(best.value)} a month with full replicas; {second.about} costs"
        f" {usd(second.value)}."
    )
    if (best.high or best.value) >= (second.low or second.value):
        yield "The two lie within what the service models may be off by: measure both before you move."
    each = min((f for f in figures if f.key == "request_usd"), key=lambda f: f.value)
    if each.about != best.about:
        minimum = evidence.recorded.spec.min_replicas
        yield (
            f"By the request alone {each.about} is cheaper, {usd(each.value)} for 1,000: whole replicas, and {minimum}"
            " at least, make the difference."
        )
    now = next((f for f in months[2:] if f.about == evidence.runs_on), None)
    if now is not None:
        yield f"It runs on {now.about} now, {usd(now.value)} a month on the same terms."
