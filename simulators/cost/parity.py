"""What a replica on other GPUs of the catalogue may cost to be as cheap as the one that it runs on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from simulators.backtest.engines import scaled_times
from simulators.cost.evidence import WorkloadEvidence
from simulators.cost.figures import Figure, sources, usd
from simulators.cost.offers import engine
from simulators.cost.trial import TYPICAL, Ready, Trial
from simulators.engine.models import catalogue

NAME: Final = re.compile(
    r"^(?P<base>[a-z0-9.-]+?-[0-9]+b)-(?P<gpu>[a-z0-9-]+?)(?P<engine>-(sglang|trtllm|vllm.*|llm.*))?$"
)
"""How the catalogue calls a model: the weights, the GPUs of a replica, the engine where it is not the usual one."""


def others(name: str, taken: set[str]) -> list[str]:
    """Return the catalogue's models of the same weights with the usual engine, on GPUs that none of `taken` has."""
    parts = NAME.match(name)
    if parts is None:
        return []
    known = {found["gpu"] for one in taken if (found := NAME.match(one)) and found["base"] == parts["base"]}
    rows = [found for one in catalogue.names() if (found := NAME.match(one)) and found["base"] == parts["base"]]
    return [found[0] for found in rows if not found["engine"] and found["gpu"] not in known]


def figures(seen: WorkloadEvidence, tried: Trial, now: Ready) -> Iterator[Figure]:
    """Yield the price at which 1,000 requests cost the same on each of the others."""
    taken = {o.engine.model.name for o in seen.offers.values() if o.engine is not None}
    for name in others(now.engine.model.name, taken):
        other = engine(name)
        rps = tried.rate(scaled_times(other.model, TYPICAL) if other.gpu_alone else other.model).rps
        price = now.price.value * rps / now.rate.rps
        formula = (
            f"{now.price.value:g} USD/h x {rps:.4g} / {now.rate.rps:.4g} requests/s within the promise, the model's"
            f" times x {TYPICAL:.2f}, as engines took longer than the GPU's time alone"
        )
        if not rps:
            formula = "at no price: the promise cannot be kept there, however slowly requests come"
        rests = sources(now.price, *tried.rests(now.engine), other.source)
        yield Figure("parity_usd", "a replica may cost, to be as cheap", price, "USD/h", formula, rests, name)


def finding(found: list[Figure], now: str) -> str:
    """Return the prices in one sentence; empty where there are none."""
    said = [f"{f.about} at {usd(f.value)}" for f in found if f.key == "parity_usd" and f.value]
    return f"As cheap as {now} by the request would be, an hour of a replica: {', '.join(said)}." if said else ""
