"""Which kind of GPU: what a unit of demand costs on each, within the promise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np

from simulators.cost import parity
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import MONTH_H, Figure, Gap, Section, sources, usd
from simulators.cost.offers import OfferedEngine
from simulators.cost.trial import LONGER, Rated, Ready, Trial, ready

TITLE: Final = "Which GPU: what a unit of demand costs"
BIN_S: Final = 300.0
"""Replicas needed are counted over so long: shorter bursts wait, or are what headroom is for."""


def section(seen: WorkloadEvidence, tried: Trial | None, rates: Mapping[str, Rated]) -> Section:
    """Return the offers side by side."""
    if tried is None:
        why = seen.unknown or "nothing is promised, so that it is not known how full a replica may be"
        remedy = "see docs/advise.md for what a journal must hold" if seen.unknown else "give slo with --offers FILE"
        return Section("sizing", TITLE, (), (), (Gap("what each GPU carries", why, remedy),))
    figures: list[Figure] = []
    for name, offer in seen.offers.items():
        if offer.engine is not None:
            figures.append(_rate(tried, name, offer.engine, rates[name]))
    least = seen.recorded.spec.min_replicas
    for one in ready(seen, rates).values():
        figures += _costs(tried, one, least)
    now = ready(seen, rates).get(seen.runs_on)
    figures += [] if now is None else parity.figures(seen, tried, now)
    return Section("sizing", TITLE, tuple(_findings(seen, figures, rates)), tuple(figures), tuple(_gaps(seen)))


def _gaps(seen: WorkloadEvidence) -> list[Gap]:
    found = []
    for name, offer in seen.offers.items():
        if offer.engine is None:
            why, remedy = "its service model is not known", f"give model of offer {name} with --offers FILE"
            found.append(Gap(f"what {name} carries", why, remedy))
        if offer.price is None:
            remedy = f"give on_demand_usd_per_hour of offer {name} with --offers FILE"
            found.append(Gap(f"what {name} costs", "it has no price", remedy))
    return found


def _rate(tried: Trial, name: str, engine: OfferedEngine, rated: Rated) -> Figure:
    rate = rated.rate
    formula = (
        f"the largest rate at which {tried.slo.share:.0%} of the requests keep the promise, {rate.prompt_tokens:.0f}"
        f" prompt tokens ({rate.cached_tokens:.0f} of them cached) and {rate.output_tokens:.0f} output tokens in the"
        f" mean; the GPU's time alone would allow {rate.bound_rps:.3g}"
    )
    if rated.longer > 1:
        low, high = LONGER
        formula += (
            f"; the model's times x {rated.longer:.2f}, as engines took {low - 1:.0%} to {high - 1:.0%} longer than the"
            " GPU's time alone, which is all that it tells"
        )
    title = "requests a replica serves in time"
    rests = tried.rests(engine)
    return Figure("goodput_rps", title, rate.rps, "requests/s", formula, rests, name, rated.least_rps, rated.most_rps)


def _costs(tried: Trial, one: Ready, least: int) -> list[Figure]:
    price, rate = one.price.value, one.rate
    rests = sources(one.price, *tried.rests(one.engine))

    def made(key: str, title: str, unit: str, formula: str, cost: Callable[[float], float]) -> Figure:
        """Return the cost by the likely rate, and by the bounds of it."""
        bounds = (one.rated.most_rps, one.rated.least_rps)
        low, high = (None if not rps else cost(rps) for rps in bounds)
        return Figure(key, title, cost(rate.rps), unit, formula, rests, one.name, low, high)

    def thousand(rps: float) -> float:
        return price / rps / 3.6

    need = replicas_needed(tried.requests, rate.rps, least)
    by_month = (
        f"{MONTH_H:g} h x {price:g} USD/h x {need:.3f} replicas: each {BIN_S / 60:g} minutes' rate over {rate.rps:.4g}"
        f" requests/s, rounded up, and {least} at least, in the mean"
    )
    return [
        made("request_usd", "1,000 requests on a full replica", "USD/1,000 requests",
             f"{price:g} USD/h / ({rate.rps:.4g} requests/s x 3.6)", thousand),
        made("token_usd", "the same by the output token", "USD/1M output tokens",
             f"{thousand(rate.rps):.4g} USD / 1,000 requests / {rate.output_tokens:.0f} output tokens",
             lambda rps: thousand(rps) / rate.output_tokens * 1e3),
        made("month_usd", "the traffic that came, by whole replicas", "USD/month", by_month,
             lambda rps: replicas_needed(tried.requests, rps, least) * price * MONTH_H),
    ]  # fmt: skip


def replicas_needed(requests: RequestEvidence, rps: float, least: int) -> float:
    """Whole replicas that the rate of each bin needs, and `least` at the least, in the mean over the bins."""
    edges = np.append(np.arange(0.0, requests.span_s, BIN_S), requests.span_s)
    widths = np.diff(edges)
    counts = np.histogram(requests.trace.arrival_s, edges)[0]
    needs = np.maximum(np.ceil(counts / widths / rps - 1e-9), least)
    return float((needs * widths).sum() / widths.sum())


def _findings(seen: WorkloadEvidence, figures: list[Figure], rates: Mapping[str, Rated]) -> list[str]:
    failing = [name for name, rated in rates.items() if not rated.rate.rps]
    said = [f"On {', '.join(failing)} the promise cannot be kept, however slowly requests come."] if failing else []
    months = sorted((f for f in figures if f.key == "month_usd"), key=lambda f: f.value)
    if len(months) == 1:
        (only,) = months
        said.append(f"{only.about}: the traffic that came costs {usd(only.value)} a month, if every replica is full.")
    elif months:
        said += _ranked(seen, figures, months)
    return [*said, *filter(None, [parity.finding(figures, seen.runs_on)])]


def _ranked(seen: WorkloadEvidence, figures: list[Figure], months: list[Figure]) -> Iterator[str]:
    """Yield the cheapest and the next, and whether that is sure; `months` rise in cost."""
    best, second, *_ = months
    yield (
        f"Cheapest for this traffic is {best.about}, {usd(best.value)} a month with full replicas; {second.about} costs"
        f" {usd(second.value)}."
    )
    if (best.high or best.value) >= (second.low or second.value):
        yield "The two lie within what the service models may be off by: measure both before you move."
    each = min((f for f in figures if f.key == "request_usd"), key=lambda f: f.value)
    if each.about != best.about:
        least = seen.recorded.spec.min_replicas
        yield (
            f"By the request alone {each.about} is cheaper, {usd(each.value)} for 1,000: whole replicas, and {least} at"
            " least, make the difference."
        )
    now = next((f for f in months[2:] if f.about == seen.runs_on), None)
    if now is not None:
        yield f"It runs on {now.about} now, {usd(now.value)} a month on the same terms."
