"""The requests and the promise that engines are tried on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.model.spec import Slo
from simulators.backtest.engines import scaled_times
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import Basis, Citation, SourcedNumber, sources
from simulators.cost.goodput import REQUESTS, Goodput, goodput, hitting, sample
from simulators.cost.offers import OfferedEngine
from simulators.engine.models.service import ServiceModel
from simulators.world.traffic.trace import RequestTrace

LONGER: Final = (1.09, 1.34)
"""Real engines took 9 to 34 % longer than the GPU's time alone (the catalogue's own check of its engine times)."""
TYPICAL: Final = math.sqrt(LONGER[0] * LONGER[1])
"""By how much longer they are taken to be: the geometric mean of the two."""


@dataclass(frozen=True, slots=True)
class Rated:
    """The goodput of a replica by a model, with bounds where the model's error is known.

    `longer` is the factor by which its times were multiplied.
    """

    rate: Goodput
    model: ServiceModel
    least_rps: float | None = None
    most_rps: float | None = None
    longer: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Requests as they came, some drawn from them, and what was promised."""

    requests: RequestEvidence
    slo: Slo
    promise: Citation
    drawn: RequestTrace
    seed: int

    def rate(self, model: ServiceModel) -> Goodput:
        """Return the goodput of one replica."""
        return goodput(model, self.drawn, self.slo, self.seed)

    def rate_with_hits(self, model: ServiceModel, share: float) -> Goodput:
        """Return the same with this share of each prompt in a prefix cache."""
        return goodput(
            model, sample(hitting(self.requests.trace, share), self.seed, len(self.drawn)), self.slo, self.seed
        )

    def rated(self, engine: OfferedEngine) -> Rated:
        """Return the same of an engine, with what is known of how far its model is off."""
        if not engine.gpu_alone:
            return Rated(self.rate(engine.model), engine.model)
        low, high = LONGER
        likely = scaled_times(engine.model, TYPICAL)
        least, most = (self.rate(scaled_times(engine.model, factor)).rps for factor in (high, low))
        return Rated(self.rate(likely), likely, least, most, TYPICAL)

    def rests(self, engine: OfferedEngine) -> tuple[Citation, ...]:
        """Return the sources of a rate."""
        drawn = f"engines alone, on {len(self.drawn):,} requests drawn from those that came, as a Poisson stream"
        return sources(Citation(Basis.SIMULATED, drawn), engine.source, *self.requests.sources, self.promise)


@dataclass(frozen=True, slots=True)
class Ready:
    """An offer of which all is known that its cost depends on: model, price, and what it carries."""

    name: str
    engine: OfferedEngine
    price: SourcedNumber
    rated: Rated

    @property
    def rate(self) -> Goodput:
        return self.rated.rate


def trial(seen: WorkloadEvidence, seed: int, count: int = REQUESTS) -> Trial | None:
    """Return the trial on so many requests; None where requests are not known or nothing is promised."""
    if seen.requests is None or seen.slo is None or seen.promise is None:
        return None
    return Trial(seen.requests, seen.slo, seen.promise, sample(seen.requests.trace, seed, count), seed)


def rates(seen: WorkloadEvidence, tried: Trial | None) -> Mapping[str, Rated]:
    """Return the goodput of a replica of each offer whose model is known."""
    known = {name: offer.engine for name, offer in seen.offers.items() if offer.engine is not None}
    return {} if tried is None else {name: tried.rated(engine) for name, engine in known.items()}


def ready(seen: WorkloadEvidence, found: Mapping[str, Rated]) -> Mapping[str, Ready]:
    """Return the offers of which all is known, and on which the promise can be kept."""
    made = {}
    for name, offer in seen.offers.items():
        price, rated = offer.price, found.get(name)
        if offer.engine is not None and price is not None and rated is not None and rated.rate.rps:
            made[name] = Ready(name, offer.engine, price, rated)
    return made
