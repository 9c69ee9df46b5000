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
Price = Annotated[float | None, FieldMetadata("USD per hour of a replica; null: not offered.", gt=0, le=MAX_PRICE)]


@dataclass(frozen=True, kw_only=True)
class ListedPrice:
    """A row of the price list named in `prices`. The replicas of an instance share its price."""

    instance_type: Annotated[str, FieldMetadata("The row's instance_type.", example="p5.48xlarge")]
    region: Annotated[str, FieldMetadata("The row's region.", example="us-east-1")]
    cloud: Annotated[str | None, FieldMetadata("The row's cloud, where two have the same names.")] = None
    replicas: Annotated[int, FieldMetadata("Replicas that an instance holds.", ge=1, le=1024, example=8)] = 1


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One kind of replica that can be bought: its service model, and its hourly price in each market."""

    model: Annotated[
        str | None,
        FieldMetadata(
            "Its service model: a name of the catalogue, or a file; null: what it carries is not known.",
            example="llama-3.1-8b-h100-vllm",
        ),
    ] = None
    on_demand_usd_per_hour: Price = None
    reserved_usd_per_hour: Price = None
    reserved_term_h: Annotated[
        float, FieldMetadata("For how long a reservation binds. Hours.", gt=0, le=10 * YEAR_H)
    ] = YEAR_H
    spot_usd_per_hour: Price = None
    spot_losses_per_node_hour: Annotated[
        float | None,
        FieldMetadata("How often the cloud takes a spot node; null: as measured. Per node and hour.", ge=0, le=3600),
    ] = None
    spot_available_share: Annotated[
        float | None, FieldMetadata("Share of the time in which spot nodes can be had; null: as measured.", gt=0, le=1)
    ] = None
    lead_time_s: Annotated[
        float | None, FieldMetadata("From decision to serving; null: as measured. Seconds.", gt=0, le=86400)
    ] = None
    listed: Annotated[
        ListedPrice | None, FieldMetadata("Prices from the price list, where they are not given here.")
    ] = None
    source: Annotated[str, FieldMetadata("Where the prices come from, and of which day.")] = ""


@dataclass(frozen=True, kw_only=True)
class ManagedApi:
    """A managed API's prices."""

    input_usd_per_million: Annotated[float, FieldMetadata("Prompt tokens. USD per million.", ge=0, le=1e5)]
    output_usd_per_million: Annotated[float, FieldMetadata("Output tokens. USD per million.", ge=0, le=1e5)]
    cached_input_usd_per_million: Annotated[
        float | None,
        FieldMetadata("Prompt tokens that its cache holds; null: as the others. USD per million.", ge=0, le=1e5),
    ] = None
    source: Annotated[str, FieldMetadata("Where the prices come from, and of which day.")] = ""


@dataclass(frozen=True, kw_only=True)
class OffersFile:
    """The file of ``forescale advise --offers``."""

    prices: Annotated[
        str | None, FieldMetadata("A price list, CSV, relative to this file; see docs/advise.md.", example="prices.csv")
    ] = None
    offers: Annotated[Mapping[str, Offer], FieldMetadata("What could be bought, by name.")] = field(
        default_factory=dict
    )
    runs_on: Annotated[
        str | None, FieldMetadata("The offer that the workload runs on now; null: told by its pools. A name of offers.")
    ] = None
    api: Annotated[
        ManagedApi | None, FieldMetadata("What a managed API of the same model costs; null: not compared.")
    ] = None
    spot_max_share: Annotated[
        float, FieldMetadata("Never more than this share of the replicas on spot, at any moment.", ge=0, le=1)
    ] = 0.5
    slo: Annotated[
        Slo | None, FieldMetadata("What users are promised; null: as the scenario or the workload has it.")
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.runs_on is not None and self.runs_on not in self.offers:
            yield "runs_on", f"{self.runs_on} is none of the offers: {', '.join(self.offers) or 'there are none'}"
        for name, offer in self.offers.items():
            if offer.listed is not None and self.prices is None:
                yield "prices", f"is needed: offer {name} is listed"


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
    """Return the loaded file; `NO_OFFERS` without a path. Raises `ConfigError` with every problem found."""
    if path is None:
        return NO_OFFERS
    documents, problems = read_yaml(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must hold one document, not {len(documents)}")]
    if problems:
        raise ConfigError(problems)
    content: OffersFile = spec_loader.read(OffersFile, documents[0].data, documents[0])
    models = {n: _with_model_path(o, path.parent) for n, o in content.offers.items()}
    return LoadedOffers(dataclasses.replace(content, offers=models), documents[0], path.parent)


def _with_model_path(offer: Offer, folder: Path) -> Offer:
    """Return the offer with a model file resolved relative to the offers file."""
    if offer.model is None or not offer.model.endswith((".yaml", ".yml", ".json")):
        return offer
    return dataclasses.replace(offer, model=str(folder / offer.model))


def location(source: Document, place: tuple[str | int, ...]) -> str:
    """Return ``file:line key`` of a place in a document."""
    problem = source.problem(place, "")
    return f"{problem.file}:{problem.line} {problem.path}"
