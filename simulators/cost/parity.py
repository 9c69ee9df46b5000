"""Price parity: the price at which a replica on another GPU is as cheap as today's.

Today's replica is the one that the workload runs on.
"""

from __future__ import annotations

from collections.abc import Iterator

from simulators.backtest.engines import scaled_times
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import Figure, Gap, sources, usd
from simulators.cost.offers import engine
from simulators.cost.trial import TYPICAL_FACTOR, RatedOffer, Trial
from simulators.engine.models import catalogue


def comparable_models(name: str, excluded: set[str]) -> list[str]:
    """Return the catalogue's models of the same weights on other GPUs.

    They have the usual engine, and their GPU is that of none of `excluded`.
    """
    parts = catalogue.NAME.match(name)
    if parts is None:
        return []
    known = {
        match["gpu"] for other in excluded if (match := catalogue.NAME.match(other)) and match["base"] == parts["base"]
    }
    same_weights = [
        m for other in catalogue.names() if (m := catalogue.NAME.match(other)) and m["base"] == parts["base"]
    ]
    return [match[0] for match in same_weights if not match["engine"] and match["gpu"] not in known]


def figures(evidence: WorkloadEvidence, trial: Trial, now: RatedOffer) -> Iterator[Figure | Gap]:
    """Yield the price at which 1,000 requests cost the same, for each comparable model.

    A model that cannot meet the SLO has no such price, which is not a price of 0.
    """
    excluded = {o.engine.model.name for o in evidence.offers.values() if o.engine is not None}
    for name in comparable_models(now.engine.model.name, excluded):
        other = engine(name)
        rps = trial.rate(scaled_times(other.model, TYPICAL_FACTOR) if other.gpu_alone else other.model).rps
        if not rps:
            why = "a replica cannot meet the SLO at any request rate"
            yield Gap(f"break-even price of {name}", why, "set a higher slo in --offers FILE to compare it")
            continue
        price = now.price.value * rps / now.rate.rps
        formula = (
            f"{now.price.value:g} USD/h x {rps:.4g} / {now.rate.rps:.4g} requests/s within the SLO; the model's times"
            f" are multiplied by {TYPICAL_FACTOR:.2f}, since real engines are slower than the GPU time alone"
        )
        citations = sources(now.price, *trial.citations(now.engine), other.source)
        yield Figure("parity_usd", "break-even price of a replica", price, "USD/h", formula, citations, name)


def finding(figures: list[Figure], now: str) -> str:
    """Return the prices in one sentence; empty if there are none."""
    sentences = [f"{f.about} at {usd(f.value)}" for f in figures if f.key == "parity_usd"]
    return (
        f"Hourly prices of a replica with the same cost per request as {now}: {', '.join(sentences)}."
        if sentences
        else ""
    )
