"""What could be bought: of the workload's own pools, and of the user's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from scaler.config.problems import ConfigError
from simulators.cost.figures import Basis, Citation, Known
from simulators.cost.inputs import YEAR_H, GivenFile, Offer
from simulators.cost.prices import listed
from simulators.engine.models import catalogue
from simulators.engine.models.service import ServiceModel

MARKETS: Final = ("on_demand", "reserved", "spot")
CALIBRATED: Final = "Calibrated from"
"""How the provenance of a model begins that `calibrate` fitted to runs."""
YEAR: Final = Known(YEAR_H, (Citation(Basis.PRIOR, "a year, as clouds reserve at the least"),))


@dataclass(frozen=True, slots=True)
class OfferedEngine:
    """A service model, and where it is from."""

    model: ServiceModel
    source: Citation

    @property
    def gpu_alone(self) -> bool:
        """Whether it tells the GPU's time without the engine's host side."""
        return not any(getattr(self.model, name) for name in catalogue.HOST)


@dataclass(frozen=True, slots=True)
class Buyable:
    """One kind of replica: what serves on it, and what is known of its prices and its spot market.

    Prices are USD per hour of a replica, losses a rate per node and hour, `available` a share of the time.
    """

    name: str
    engine: OfferedEngine | None = None
    on_demand: Known | None = None
    reserved: Known | None = None
    spot: Known | None = None
    term_h: Known = YEAR
    losses: Known | None = None
    available: Known | None = None
    lead_time_s: Known | None = None

    @property
    def price(self) -> Known | None:
        """Its on-demand price, or the dearest other one where it has none."""
        others = [p for p in (self.reserved, self.spot) if p is not None]
        return self.on_demand or max(others, key=lambda p: p.value, default=None)


def engine(name: str, where: str = "") -> OfferedEngine:
    """Return a model by its name or file. Raises `ConfigError`."""
    model = catalogue.load(name)
    if name.endswith(catalogue.SUFFIXES):
        file = name
    elif (row := _row(name)) is not None:
        file = f"{catalogue.ENGINE_TIMES.name}:{row} {name}"
    else:
        file = f"{name}.yaml of the catalogue"
    calibrated = model.provenance.startswith(CALIBRATED)
    basis = Basis.CALIBRATED if calibrated else Basis.PRIOR
    return OfferedEngine(model, Citation(basis, f"service model {file}{where}"))


def _row(name: str) -> int | None:
    """Return a model's line in the table of engine times."""
    lines = catalogue.ENGINE_TIMES.read_text(encoding="utf-8").splitlines()
    return next((i for i, line in enumerate(lines, start=1) if line.startswith(f"{name},")), None)


def merged(pools: Mapping[str, Buyable], held: Mapping[str, float], file: GivenFile) -> tuple[dict[str, Buyable], str]:
    """Return the offers of the workload's pools and of the user's file, and the one that it runs on now.

    What the file gives stands above what pools tell. An offer of the file is a pool's if it is the one that the
    workload runs on, or has its name or its model. Raises `ConfigError`.
    """
    runs_on = max(pools, key=lambda name: held.get(name, 0.0))
    offers = dict(pools)
    for name, offer in file.given.offers.items():
        own = runs_on if name == file.given.runs_on else _same(offers, name, offer)
        made = _given(name, offer, file, offers.pop(own) if own else Buyable(name))
        offers[name] = made
        runs_on = name if own == runs_on else runs_on
    return offers, runs_on


def _same(offers: Mapping[str, Buyable], name: str, offer: Offer) -> str | None:
    if name in offers:
        return name
    same = (n for n, o in offers.items() if o.engine is not None and o.engine.model.name == offer.model)
    return next(same, None) if offer.model is not None else None


def _given(name: str, offer: Offer, file: GivenFile, below: Buyable) -> Buyable:
    """Return an offer of the file, over what is known already."""
    said = f" ({offer.source})" if offer.source else ""

    def known(key: str) -> Known | None:
        value = getattr(offer, key)
        where = file.where("offers", name, key) + said
        return None if value is None else Known(value, (Citation(Basis.GIVEN, where),))

    prices = listed(file, name, offer.listed) if offer.listed is not None else {}
    found = {market: known(f"{market}_usd_per_hour") or prices.get(market) for market in MARKETS}
    found |= {"losses": known("spot_losses_per_node_hour"), "available": known("spot_available_share")}
    found |= {"lead_time_s": known("lead_time_s")}
    told = {key: value for key, value in found.items() if value is not None}
    served = below.engine
    if offer.model is not None:
        try:
            served = engine(offer.model, f", {file.where('offers', name, 'model')}")
        except ConfigError as e:
            place = ("offers", name, "model")
            raise ConfigError([file.source.problem(place, p.rule, p.hint, offer.model) for p in e.problems]) from e
    term = known("reserved_term_h") if offer.reserved_term_h != YEAR_H else None
    return dataclasses.replace(below, name=name, engine=served, term_h=term or below.term_h, **told)


def priced(offers: Mapping[str, Buyable]) -> Sequence[Buyable]:
    """Those that have a price at all."""
    return [offer for offer in offers.values() if offer.price is not None]
