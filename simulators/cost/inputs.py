"""The user's file of offers: prices, managed APIs and the SLO."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Slo
from scaler.config.document import Document
from scaler.config.document import read as read_yaml
from scaler.config.problems import ConfigError, Problem
from simulators.experiments import spec_loader
from simulators.world.infrastructure.market import MAX_PRICE

YEAR_H: Final = 8760.0
Price = Annotated[
    float | None, FieldMetadata("Price of a replica. Default: null, not offered. USD per hour.", gt=0, le=MAX_PRICE)
]


@dataclass(frozen=True, kw_only=True)
class ListedPrice:
    """A row of the price list named in `prices`. The replicas of an instance share its price."""

    instance_type: Annotated[str, FieldMetadata("instance_type of the row.", example="p5.48xlarge")]
    region: Annotated[str, FieldMetadata("region of the row.", example="us-east-1")]
    cloud: Annotated[
        str | None, FieldMetadata("cloud of the row. Default: null, any; set it if two clouds share names.")
    ] = None
    replicas: Annotated[int, FieldMetadata("Replicas per instance. Replicas.", ge=1, le=1024, example=8)] = 1


@dataclass(frozen=True, kw_only=True)
class ConfiguredOffer:
    """One kind of replica that can be bought.

    It has a service model, and an hourly price in each market.
    """

    model: Annotated[
        str | None,
        FieldMetadata(
            "Service model of the replica: a catalogue name or a file. Default: null, its capacity is unknown.",
            example="llama-3.1-8b-h100-vllm",
        ),
    ] = None
    on_demand_usd_per_hour: Price = None
    reserved_usd_per_hour: Price = None
    reserved_term_h: Annotated[
        float, FieldMetadata("Term of a reservation. Default: one year. Hours.", gt=0, le=10 * YEAR_H)
    ] = YEAR_H
    spot_usd_per_hour: Price = None
    spot_losses_per_node_hour: Annotated[
        float | None,
        FieldMetadata("Interruption rate of spot nodes. Default: null, as measured. Per node and hour.", ge=0, le=3600),
    ] = None
    spot_available_share: Annotated[
        float | None,
        FieldMetadata("Share of time with spot capacity. Default: null, as measured. Share.", gt=0, le=1),
    ] = None
    lead_time_s: Annotated[
        float | None,
        FieldMetadata("Lead time from decision to serving. Default: null, as measured. Seconds.", gt=0, le=86400),
    ] = None
    listed: Annotated[
        ListedPrice | None,
        FieldMetadata("Row of the price list for prices that are not set here. Default: null, no row."),
    ] = None
    source: Annotated[str, FieldMetadata("Origin and date of the prices, shown in the report.")] = ""


@dataclass(frozen=True, kw_only=True)
class ManagedApi:
    """A managed API's prices."""

    input_usd_per_million: Annotated[float, FieldMetadata("Price of prompt tokens. USD per million.", ge=0, le=1e5)]
    output_usd_per_million: Annotated[float, FieldMetadata("Price of output tokens. USD per million.", ge=0, le=1e5)]
    cached_input_usd_per_million: Annotated[
        float | None,
        FieldMetadata(
            "Price of cached prompt tokens. Default: null, the price of other prompt tokens. USD per million.",
            ge=0,
            le=1e5,
        ),
    ] = None
    source: Annotated[str, FieldMetadata("Origin and date of the prices, shown in the report.")] = ""


@dataclass(frozen=True, kw_only=True)
class OffersFile:
    """The file of ``forescale advise --offers``."""

    prices: Annotated[
        str | None,
        FieldMetadata(
            "CSV price list, relative to this file (docs/how-to/advise.md). Default: null, none.", example="prices.csv"
        ),
    ] = None
    offers: Annotated[Mapping[str, ConfiguredOffer], FieldMetadata("Replicas that can be bought, by name.")] = field(
        default_factory=dict
    )
    runs_on: Annotated[
        str | None, FieldMetadata("Offer that the workload runs on now. Default: null, the offer of its pools.")
    ] = None
    api: Annotated[
        ManagedApi | None, FieldMetadata("Prices of a managed API for the same model. Default: null, no comparison.")
    ] = None
    spot_max_share: Annotated[
        float,
        FieldMetadata(
            "Maximum share of spot replicas at any moment. Lower it for fewer SLO violations. Share.", ge=0, le=1
        ),
    ] = 0.5
    slo: Annotated[
        Slo | None, FieldMetadata("SLO of the requests. Default: null, that of the scenario or workload.")
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.runs_on is not None and self.runs_on not in self.offers:
            yield "runs_on", f"{self.runs_on} is not in offers; the offers are {', '.join(self.offers) or 'empty'}"
        for name, offer in self.offers.items():
            if offer.listed is not None and self.prices is None:
                yield "prices", f"is required: offer {name} has a listed price"


@dataclass(frozen=True, slots=True)
class LoadedOffers:
    """The content of the file, and its location for citations."""

    content: OffersFile
    source: Document
    folder: Path

    def where(self, *place: str | int) -> str:
        """Return a key's location in the file as text."""
        return location(self.source, place)


NO_OFFERS: Final = LoadedOffers(OffersFile(), Document("", {}, {}), Path())


def load(path: Path | None) -> LoadedOffers:
    """Return the loaded file; `NO_OFFERS` without a path.

    Raises `ConfigError` with every problem found.
    """
    if path is None:
        return NO_OFFERS
    documents, problems = read_yaml(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must contain one document, not {len(documents)}")]
    if problems:
        raise ConfigError(problems)
    content: OffersFile = spec_loader.read(OffersFile, documents[0].data, documents[0])
    models = {n: _with_model_path(o, path.parent) for n, o in content.offers.items()}
    return LoadedOffers(dataclasses.replace(content, offers=models), documents[0], path.parent)


def _with_model_path(offer: ConfiguredOffer, folder: Path) -> ConfiguredOffer:
    """Return the offer with a model file resolved relative to the offers file."""
    if offer.model is None or not offer.model.endswith((".yaml", ".yml", ".json")):
        return offer
    return dataclasses.replace(offer, model=str(folder / offer.model))


def location(source: Document, place: tuple[str | int, ...]) -> str:
    """Return ``file:line key`` of a place in a document."""
    problem = source.problem(place, "")
    return f"{problem.file}:{problem.line} {problem.path}"
