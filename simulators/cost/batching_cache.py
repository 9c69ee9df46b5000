"""Value of batching and of a prefix cache, on the GPU that the workload runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Figure, Gap, Section, sources, usd
from simulators.cost.goodput import batched, saturated_rps
from simulators.cost.trial import RatedOffer, Trial

TITLE: Final = "Batching and the prefix cache"
BATCHES: Final = (1, 4, 16, 64, 256, 1024)
SHARES: Final = (0.0, 0.25, 0.5, 0.75)
NONE, HALF = "0%", "50%"
STEPS: Final = 5
"""Steps of 10 % between a hit share of 0 and of 50 %."""


def section(evidence: WorkloadEvidence, trial: Trial | None, current: RatedOffer | None) -> Section:
    """Return the cost by batch size, and by the share of cached prompt tokens.

    The cost by batch size is at saturation, the cost by cached share is within the SLO.
    """
    if trial is None or current is None:
        why = (
            evidence.missing_reason
            or f"the service model, price or SLO of {evidence.runs_on} is unknown, or it cannot meet the SLO"
        )
        return Section("effects", TITLE, (), (), (Gap("effect of batching and caching", why, _remedy(evidence)),))
    model = current.rated.model
    sizes = [n for n in BATCHES if n < model.max_seqs] + [model.max_seqs]
    batches = {f"{n}": saturated_rps(batched(model, n), trial.drawn) for n in sizes}
    shares = {f"{share:.0%}": trial.rate_with_hits(model, share).rps for share in SHARES}
    cached, prompts = trial.requests.trace.cached_tokens, trial.requests.trace.prompt_tokens
    if cached is not None:
        shares[f"{float(cached.sum() / prompts.sum()):.0%}, observed"] = current.rate.rps
    figures = [
        *_costs(trial, current, batches, "batch_usd", "1,000 requests at saturation, by batch size"),
        *_costs(trial, current, shares, "cache_usd", "1,000 requests, by cached share of the prompt"),
        *_per_tenth(trial, current, shares),
    ]
    return Section("effects", TITLE, tuple(_findings(figures, batches, shares)), tuple(figures))


def _remedy(evidence: WorkloadEvidence) -> str:
    return f"set the model and price of offer {evidence.runs_on} and slo in --offers FILE; see docs/how-to/advise.md"


def _costs(trial: Trial, current: RatedOffer, rates: Mapping[str, float], key: str, title: str) -> list[Figure]:
    citations, price = sources(current.price, *trial.citations(current.engine)), current.price.value
    figures = []
    for about, rps in rates.items():
        if rps:
            formula = f"{price:g} USD/h / ({rps:.4g} requests/s x 3.6)"
            figures.append(Figure(key, title, price / rps / 3.6, "USD/1,000 requests", formula, citations, about))
    return figures


def _per_tenth(trial: Trial, current: RatedOffer, shares: Mapping[str, float]) -> list[Figure]:
    """Return the saving from 10 % more cached prompt tokens.

    It is the mean of the steps from 0 to 50 %.
    """
    none, half = shares[NONE], shares[HALF]
    if not none or not half:
        return []
    rate, price = trial.requests.rate_rps, current.price.value
    saved = rate * price * (1 / none - 1 / half) / STEPS * MONTH_H
    formula = (
        f"{MONTH_H:g} h x {rate:.4g} requests/s x {price:g} USD/h x (1 / {none:.4g} - 1 / {half:.4g}) s / {STEPS},"
        " on full replicas"
    )
    title = "saved by caching 10 % more of each prompt"
    citations = sources(current.price, *trial.citations(current.engine))
    return [Figure("cache_tenth_usd", title, saved, "USD/month", formula, citations)]


def _findings(figures: list[Figure], batches: Mapping[str, float], shares: Mapping[str, float]) -> list[str]:
    sentences = []
    served = {n: rps for n, rps in batches.items() if rps}
    if len(served) > 1:
        smallest, best = next(iter(served)), max(served, key=lambda n: served[n])
        enough = next(n for n, rps in served.items() if rps >= 0.95 * served[best])
        sentences.append(
            f"Batching: at saturation, a replica serves {served[best] / served[smallest]:.1f} times as much with batch"
            f" size {best} as with {smallest}; batch size {enough} reaches 95% of that. The SLO is ignored here."
        )
    tenth = next((f for f in figures if f.key == "cache_tenth_usd"), None)
    if tenth is not None:
        gain = shares[HALF] / shares[NONE]
        sentences.append(
            f"Prefix cache: with half of each prompt cached, a replica serves {gain:.2f} times as much. Caching 10 %"
            f" more of each prompt saves {usd(tenth.value)} per month at this volume."
        )
    return sentences
