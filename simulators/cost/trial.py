"""Trials of engines on the workload's requests and SLO."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policies.model.spec import Slo
from simulators.backtest.engines import scaled_times
from simulators.cost.evidence import RequestEvidence, WorkloadEvidence
from simulators.cost.figures import Basis, Citation, SourcedNumber, sources
from simulators.cost.goodput import REQUESTS, Goodput, goodput, sample, with_hit_share
from simulators.cost.offers import OfferedEngine
from simulators.engine.models.service import ServiceModel
from simulators.world.traffic.trace import RequestTrace

TIME_FACTORS: Final = (1.09, 1.34)
"""Real engines took 9 to 34 % longer than the GPU's time alone (the catalogue's own check of its engine times)."""
TYPICAL_FACTOR: Final = math.sqrt(TIME_FACTORS[0] * TIME_FACTORS[1])
"""Factor assumed for an engine: the geometric mean of the two, sqrt(1.09 * 1.34) = 1.21."""


@dataclass(frozen=True, slots=True)
class RatedEngine:
    """Goodput of a replica by its model, with bounds if the model's error is known.

    `time_factor` is the factor by which the model's times were multiplied.
    """

    rate: Goodput
    model: ServiceModel
    min_rps: float | None = None
    max_rps: float | None = None
    time_factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """The workload's requests, a sample drawn from them, and the SLO."""

    requests: RequestEvidence
    slo: Slo
    slo_citation: Citation
    drawn: RequestTrace
    seed: int

    def rate(self, model: ServiceModel) -> Goodput:
        """Return the goodput of one replica."""
        return goodput(model, self.drawn, self.slo, self.seed)

    def rate_with_hits(self, model: ServiceModel, share: float) -> Goodput:
        """Return the goodput of one replica with this share of each prompt in a prefix cache."""
        return goodput(
            model, sample(with_hit_share(self.requests.trace, share), self.seed, len(self.drawn)), self.slo, self.seed
        )

    def rated(self, engine: OfferedEngine) -> RatedEngine:
        """Return the goodput of an engine, with bounds if its model has GPU times only."""
        if not engine.gpu_alone:
            return RatedEngine(self.rate(engine.model), engine.model)
        low, high = TIME_FACTORS
        likely = scaled_times(engine.model, TYPICAL_FACTOR)
        lower, upper = (self.rate(scaled_times(engine.model, factor)).rps for factor in (high, low))
        return RatedEngine(self.rate(likely), likely, lower, upper, TYPICAL_FACTOR)

    def citations(self, engine: OfferedEngine) -> tuple[Citation, ...]:
        """Return the sources of a rate."""
        drawn = f"engines on {len(self.drawn):,} requests sampled from the traffic, with Poisson arrivals"
        return sources(Citation(Basis.SIMULATED, drawn), engine.source, *self.requests.sources, self.slo_citation)


@dataclass(frozen=True, slots=True)
class RatedOffer:
    """An offer with all inputs of its cost: engine, price and goodput."""

    name: str
    engine: OfferedEngine
    price: SourcedNumber
    rated: RatedEngine

    @property
    def rate(self) -> Goodput:
        return self.rated.rate


def make_trial(evidence: WorkloadEvidence, seed: int, count: int = REQUESTS) -> Trial | None:
    """Return a trial on `count` requests; None without requests or an SLO."""
    if evidence.requests is None or evidence.slo is None or evidence.slo_citation is None:
        return None
    return Trial(
        evidence.requests, evidence.slo, evidence.slo_citation, sample(evidence.requests.trace, seed, count), seed
    )


def rates(evidence: WorkloadEvidence, trial: Trial | None) -> Mapping[str, RatedEngine]:
    """Return the goodput of a replica of each offer with a known model."""
    known = {name: offer.engine for name, offer in evidence.offers.items() if offer.engine is not None}
    return {} if trial is None else {name: trial.rated(engine) for name, engine in known.items()}


def rated_offers(evidence: WorkloadEvidence, rates: Mapping[str, RatedEngine]) -> Mapping[str, RatedOffer]:
    """Return the offers with a known model and price that can meet the SLO."""
    offers = {}
    for name, offer in evidence.offers.items():
        price, rated = offer.price, rates.get(name)
        if offer.engine is not None and price is not None and rated is not None and rated.rate.rps:
            offers[name] = RatedOffer(name, offer.engine, price, rated)
    return offers
