"""What batching and a prefix cache are worth, on the GPU that it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import MONTH_H, Figure, Gap, Section, sources, usd
from simulators.cost.goodput import batched, saturated_rps
from simulators.cost.trial import Ready, Trial

TITLE: Final = "Batching and the prefix cache"
BATCHES: Final = (1, 4, 16, 64, 256, 1024)
SHARES: Final = (0.0, 0.25, 0.5, 0.75)
NONE, HALF = "0%", "50%"
STEPS: Final = 5
"""Tenths in a half."""


def section(seen: WorkloadEvidence, tried: Trial | None, one: Ready | None) -> Section:
    """Cost by how many requests run at once, saturated; and within the promise by the share of prompts in the cache."""
    if tried is None or one is None:
        why = seen.unknown or "of what it runs on the service model, the price or the promise is not known, or not kept"
        return Section("effects", TITLE, (), (), (Gap("what batching and caching are worth", why, _remedy(seen)),))
    model = one.rated.model
    sizes = [n for n in BATCHES if n < model.max_seqs] + [model.max_seqs]
    batches = {f"{n}": saturated_rps(batched(model, n), tried.drawn) for n in sizes}
    shares = {f"{share:.0%}": tried.rate_with_hits(model, share).rps for share in SHARES}
    cached, prompts = tried.requests.trace.cached_tokens, tried.requests.trace.prompt_tokens
    if cached is not None:
        shares[f"{float(cached.sum() / prompts.sum()):.0%} as it is"] = one.rate.rps
    figures = [
        *_costs(tried, one, batches, "batch_usd", "1,000 requests, saturated, with so many at once"),
        *_costs(tried, one, shares, "cache_usd", "1,000 requests with so much of each prompt cached"),
        *_per_tenth(tried, one, shares),
    ]
    return Section("effects", TITLE, tuple(_findings(figures, batches, shares)), tuple(figures))


def _remedy(seen: WorkloadEvidence) -> str:
    return f"give model, price and slo of offer {seen.runs_on} with --offers FILE, or see docs/advise.md"


def _costs(tried: Trial, one: Ready, rates: Mapping[str, float], key: str, title: str) -> list[Figure]:
    rests, price = sources(one.price, *tried.rests(one.engine)), one.price.value
    made = []
    for about, rps in rates.items():
        if rps:
            formula = f"{price:g} USD/h / ({rps:.4g} requests/s x 3.6)"
            made.append(Figure(key, title, price / rps / 3.6, "USD/1,000 requests", formula, rests, about))
    return made


def _per_tenth(tried: Trial, one: Ready, shares: Mapping[str, float]) -> list[Figure]:
    """Return the saving of a tenth of the prompts' tokens in the cache: the mean from none to half."""
    none, half = shares[NONE], shares[HALF]
    if not none or not half:
        return []
    rate, price = tried.requests.rate_rps, one.price.value
    saved = rate * price * (1 / none - 1 / half) / STEPS * MONTH_H
    formula = (
        f"{MONTH_H:g} h x {rate:.4g} requests/s x {price:g} USD/h x (1 / {none:.4g} - 1 / {half:.4g}) s / {STEPS},"
        " on full replicas"
    )
    title = "saved by ten more percent of each prompt in the cache"
    rests = sources(one.price, *tried.rests(one.engine))
    return [Figure("cache_tenth_usd", title, saved, "USD/month", formula, rests)]


def _findings(figures: list[Figure], batches: Mapping[str, float], shares: Mapping[str, float]) -> list[str]:
    said = []
    served = {n: rps for n, rps in batches.items() if rps}
    if len(served) > 1:
        least, most = next(iter(served)), max(served, key=lambda n: served[n])
        enough = next(n for n, rps in served.items() if rps >= 0.95 * served[most])
        said.append(
            f"Batching: with {most} requests at once a replica answers {served[most] / served[least]:.1f} times what it"
            f" answers with {least}; {enough} are enough for 95% of that. Saturated, whatever is promised."
        )
    tenth = next((f for f in figures if f.key == "cache_tenth_usd"), None)
    if tenth is not None:
        gain = shares[HALF] / shares[NONE]
        said.append(
            f"Prefix cache: with half of each prompt cached a replica serves {gain:.2f} times as much; ten more percent"
            f" are worth {usd(tenth.value)} a month at this volume."
        )
    return said
