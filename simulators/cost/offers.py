"""Offers of replicas: from the workload's own pools and from the user's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from scaler.config.problems import ConfigError
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.inputs import YEAR_H, ConfiguredOffer, LoadedOffers
from simulators.cost.prices import listed_prices
from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel

MARKETS: Final = ("on_demand", "reserved", "spot")
YEAR: Final = SourcedNumber(YEAR_H, (Citation(Basis.PRIOR, "one year, the shortest term that clouds offer"),))


@dataclass(frozen=True, slots=True)
class OfferedEngine:
    """A service model and its source."""

    model: ServiceModel
    source: Citation

    @property
    def gpu_alone(self) -> bool:
        """True if the model has GPU times only, without the engine's host side."""
        return not any(getattr(self.model, name) for name in catalogue.HOST)


@dataclass(frozen=True, slots=True)
class ReplicaOffer:
    """One kind of replica: its engine, its prices, and the state of its spot market.

    Prices are USD per hour of a replica, losses a rate per node and hour, `available` a share of the time.
    """

    name: str
    engine: OfferedEngine | None = None
    on_demand: SourcedNumber | None = None
    reserved: SourcedNumber | None = None
    spot: SourcedNumber | None = None
    term_h: SourcedNumber = YEAR
    losses: SourcedNumber | None = None
    available: SourcedNumber | None = None
    lead_time_s: SourcedNumber | None = None

    @property
    def price(self) -> SourcedNumber | None:
        """Its on-demand price, or else the highest other one."""
        alternatives = [p for p in (self.reserved, self.spot) if p is not None]
        return self.on_demand or max(alternatives, key=lambda p: p.value, default=None)


def engine(name: str, where: str = "") -> OfferedEngine:
    """Return the engine of a model name or file. Raises `ConfigError`."""
    model = catalogue.load(name)
    if name.endswith(catalogue.SUFFIXES):
        file = name
    elif (row := _row(name)) is not None:
        file = f"{catalogue.ENGINE_TIMES.name}:{row} {name}"
    else:
        file = f"{name}.yaml of the catalogue"
    basis = Basis.CALIBRATED if model.calibrated else Basis.PRIOR
    return OfferedEngine(model, Citation(basis, f"service model {file}{where}"))


def _row(name: str) -> int | None:
    """Return a model's line in the table of engine times."""
    lines = catalogue.ENGINE_TIMES.read_text(encoding="utf-8").splitlines()
    return next((i for i, line in enumerate(lines, start=1) if line.startswith(f"{name},")), None)


def merge_offers(
    pools: Mapping[str, ReplicaOffer], held: Mapping[str, float], file: LoadedOffers
) -> tuple[dict[str, ReplicaOffer], str]:
    """Return the offers of the workload's pools and of the user's file.

    Also return the name of the offer that the workload runs on now. Values of the file override those of the pools. An
    offer of the file describes a pool's offer if it is the one that the workload runs on, or has the same name or
    model. Raises `ConfigError`.
    """
    runs_on = max(pools, key=lambda name: held.get(name, 0.0))
    offers = dict(pools)
    for name, offer in file.content.offers.items():
        own = runs_on if name == file.content.runs_on else _matching_offer(offers, name, offer)
        merged = _offer_from_file(name, offer, file, offers.pop(own) if own else ReplicaOffer(name))
        offers[name] = merged
        runs_on = name if own == runs_on else runs_on
    return offers, runs_on


def _matching_offer(offers: Mapping[str, ReplicaOffer], name: str, offer: ConfiguredOffer) -> str | None:
    if name in offers:
        return name
    same = (n for n, o in offers.items() if o.engine is not None and o.engine.model.name == offer.model)
    return next(same, None) if offer.model is not None else None


def _offer_from_file(name: str, offer: ConfiguredOffer, file: LoadedOffers, base: ReplicaOffer) -> ReplicaOffer:
    """Return an offer of the file. `base` has the values that the file leaves out."""
    note = f" ({offer.source})" if offer.source else ""

    def known(key: str) -> SourcedNumber | None:
        value = getattr(offer, key)
        where = file.where("offers", name, key) + note
        return None if value is None else SourcedNumber(value, (Citation(Basis.GIVEN, where),))

    prices = listed_prices(file, name, offer.listed) if offer.listed is not None else {}
    values = {market: known(f"{market}_usd_per_hour") or prices.get(market) for market in MARKETS}
    values |= {"losses": known("spot_losses_per_node_hour"), "available": known("spot_available_share")}
    values |= {"lead_time_s": known("lead_time_s")}
    known_values = {key: value for key, value in values.items() if value is not None}
    served = base.engine
    if offer.model is not None:
        try:
            served = engine(offer.model, f", {file.where('offers', name, 'model')}")
        except ConfigError as e:
            place = ("offers", name, "model")
            raise ConfigError([file.source.problem(place, p.rule, p.hint, offer.model) for p in e.problems]) from e
    term = known("reserved_term_h") if offer.reserved_term_h != YEAR_H else None
    return dataclasses.replace(base, name=name, engine=served, term_h=term or base.term_h, **known_values)
