"""The user's file of units, terms and prices, and the shipped table of units."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.config.document import Document
from scaler.config.document import read as read_yaml
from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.cost.figures import Basis, Citation
from simulators.cost.inputs import ManagedApi, location
from simulators.experiments import spec_loader

UNITS: Final = Path(__file__).parent / "data" / "units.csv"
"""The shipped table: tokens per unit and sizes that can be bought, each with its source and the date of its check."""
PRICE_RATIO: Final = "price"
"""Entry of the table for an output token that counts as the ratio of the pay-as-you-go prices."""
MAX_TOKENS: Final = 1e12
MAX_UNITS: Final = 1_000_000
MAX_TERM_H: Final = 87_600.0
DATE: Final = Pattern(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "a date as YYYY-MM-DD")
System = Literal["azure_openai", "vertex", "bedrock", "bedrock_reserved", "other"]


@dataclass(frozen=True, kw_only=True)
class OfferedTerm:
    """A term for which units are bought, and its price."""

    term_h: Annotated[
        float,
        FieldMetadata(
            "Time for which a unit is paid at least: 1 by the hour, 730 for a month, 8760 for a year. Hours.",
            ge=1,
            le=MAX_TERM_H,
            example=8760.0,
        ),
    ]
    usd_per_unit: Annotated[float, FieldMetadata("Price of a unit for `per_h`. USD.", gt=0, le=1e7, example=2652.0)]
    per_h: Annotated[
        float | None,
        FieldMetadata(
            "Time that the price pays for; 1 if a month's commitment has a price per hour. Default: null, the whole"
            " term. Hours.",
            ge=1,
            le=MAX_TERM_H,
        ),
    ] = None

    @property
    def usd_per_unit_hour(self) -> float:
        return self.usd_per_unit / (self.per_h or self.term_h)


@dataclass(frozen=True, kw_only=True)
class ThroughputOffer:
    """Provisioned throughput of one model that can be bought, and its pay-as-you-go prices."""

    units: Annotated[
        str | None,
        FieldMetadata(
            "Row of the shipped table of units (forescale plan --units). Keys set here take precedence. Default: null,"
            " no row.",
            example="azure-gpt-4.1-global",
        ),
    ] = None
    system: Annotated[
        System | None, FieldMetadata("System that sells the units. Default: null, that of the row, else other.")
    ] = None
    unit: Annotated[str | None, FieldMetadata("Name of a unit. Default: null, that of the row, else unit.")] = None
    sku: Annotated[
        str | None, FieldMetadata("Azure's name of the deployment type. Default: null, that of the row.")
    ] = None
    input_tokens_per_minute: Annotated[
        float | None,
        FieldMetadata(
            "Prompt tokens per minute that one unit serves. Default: null, that of the row. Tokens per minute.",
            gt=0,
            le=MAX_TOKENS,
        ),
    ] = None
    output_tokens_per_minute: Annotated[
        float | None,
        FieldMetadata(
            "Output tokens per minute that one unit serves, where the provider limits them apart from prompt tokens."
            " Default: null, that of the row. Tokens per minute.",
            gt=0,
            le=MAX_TOKENS,
        ),
    ] = None
    output_weight: Annotated[
        float | None,
        FieldMetadata(
            "Prompt tokens that one output token counts as. Default: null, as the table says: a number, or the ratio of"
            " the pay-as-you-go prices. Tokens.",
            ge=0,
            le=1000,
        ),
    ] = None
    cached_weight: Annotated[
        float | None,
        FieldMetadata(
            "Prompt tokens that one cached prompt token counts as. Default: null, that of the row, else 1. Tokens.",
            ge=0,
            le=1,
        ),
    ] = None
    min_units: Annotated[
        int | None,
        FieldMetadata(
            "Fewest units that can be bought. Default: null, those of the row, else 1. Units.", ge=1, le=MAX_UNITS
        ),
    ] = None
    step_units: Annotated[
        int | None,
        FieldMetadata(
            "Step of the number of units. Default: null, that of the row, else 1. Units.", ge=1, le=MAX_UNITS
        ),
    ] = None
    max_units: Annotated[
        int | None,
        FieldMetadata("Most units to buy, such as the quota. Default: null, no limit. Units.", ge=1, le=MAX_UNITS),
    ] = None
    held_units: Annotated[
        float | None,
        FieldMetadata(
            "Units held while the tokens were observed, for the check of the table against the observed utilization."
            " Default: null, no check. Units.",
            gt=0,
            le=MAX_UNITS,
        ),
    ] = None
    terms: Annotated[Mapping[str, OfferedTerm], FieldMetadata("Terms in which units can be bought, by name.")]
    pay_as_you_go: Annotated[ManagedApi, FieldMetadata("Prices of tokens that spill over.")]
    source: Annotated[str, FieldMetadata("Origin of the prices, shown in the plan.")] = ""
    checked: Annotated[
        str | None, FieldMetadata("Date of the last check of the prices. Default: null, not given.", pattern=DATE)
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.terms:
            yield "terms", "must have at least one term"
        if self.units is not None and self.units not in unit_rows():
            hint = did_you_mean(self.units, list(unit_rows())) or "forescale plan --units lists the rows"
            yield "units", f"{self.units} is not in the table of units; {hint}"
        if self.checked is not None and not _is_date(self.checked):
            yield "checked", "must be a date as YYYY-MM-DD"


@dataclass(frozen=True, kw_only=True)
class ThroughputFile:
    """The file of ``forescale plan --offers``."""

    throughput: Annotated[Mapping[str, ThroughputOffer], FieldMetadata("Provisioned throughput, by name.")] = field(
        default_factory=dict
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.throughput:
            yield "throughput", "must have at least one offer (docs/how-to/provisioned-throughput.md)"


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A row of the shipped table. None, or an empty text: not in the table."""

    name: str
    line: int
    system: System
    unit: str
    sku: str
    input_tokens_per_minute: float | None
    output_tokens_per_minute: float | None
    output_weight: str
    cached_weight: float
    min_units: int
    step_units: int
    checked: str
    source: str

    @property
    def citation(self) -> Citation:
        return Citation(Basis.PRIOR, f"{UNITS.name}:{self.line} {self.name}: {self.source}, checked {self.checked}")


NO_ROW: Final = UnitRow("", 0, "other", "unit", "", None, None, "", 1.0, 1, 1, "", "")
"""The defaults of an offer that names no row of the table."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit of provisioned throughput, resolved from an offer and its row, with its sources.

    Its load is the larger of input / `input_tokens_per_minute` and output / `output_tokens_per_minute` if the latter is
    known, else (input + `output_weight` x output) / `input_tokens_per_minute`. Cached prompt tokens count as
    `cached_weight`.
    """

    system: System
    unit: str
    sku: str
    input_tokens_per_minute: float | None
    output_tokens_per_minute: float | None
    output_weight: float
    cached_weight: float
    min_units: int
    step_units: int
    max_units: int | None
    sources: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class NamedOffer:
    """An offer of the file, its name, its resolved unit, and the sources of its prices."""

    name: str
    offer: ThroughputOffer
    unit: Unit
    sources: tuple[Citation, ...]
    document: Document

    def problem(self, key: str, rule: str, hint: str, value: object) -> Problem:
        """Return a problem of a key of the offer."""
        return self.document.problem(("throughput", self.name, key), rule, hint, value)


def load(path: Path, only: str | None = None) -> list[NamedOffer]:
    """Return the offers of a file, or the one named.

    Raises `ConfigError` with every problem found.
    """
    documents, problems = read_yaml(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must contain one document, not {len(documents)}")]
    if problems:
        raise ConfigError(problems)
    content: ThroughputFile = spec_loader.read(ThroughputFile, documents[0].data, documents[0])
    names = list(content.throughput)
    if only is not None and only not in names:
        hint = did_you_mean(only, names) or f"the offers are {', '.join(names)}"
        rule = "is not in the file of --offers"
        raise ConfigError([Problem(spec_loader.COMMAND_LINE, 1, "--offer", only, rule, hint)])
    chosen = names if only is None else [only]
    unresolved = [p for name in chosen for p in _missing(content.throughput[name], documents[0], name)]
    if unresolved:
        raise ConfigError(unresolved)
    return [_named(content.throughput[name], documents[0], name) for name in chosen]


@cache
def unit_rows() -> Mapping[str, UnitRow]:
    """Return the rows of the shipped table by name."""
    with UNITS.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return {row["name"]: _row(row, reader.line_num) for row in reader}


def _row(cells: Mapping[str, str], line: int) -> UnitRow:
    system: System = cells["system"]  # type: ignore[assignment] # a file of this package
    return UnitRow(
        name=cells["name"],
        line=line,
        system=system,
        unit=cells["unit"],
        sku=cells["sku"],
        input_tokens_per_minute=_optional(cells["input_tokens_per_minute"]),
        output_tokens_per_minute=_optional(cells["output_tokens_per_minute"]),
        output_weight=cells["output_weight"],
        cached_weight=float(cells["cached_weight"]),
        min_units=int(cells["min_units"]),
        step_units=int(cells["step_units"]),
        checked=cells["checked"],
        source=cells["source"],
    )


def _optional(text: str) -> float | None:
    return float(text) if text else None


def _is_date(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False


def _row_of(offer: ThroughputOffer) -> UnitRow:
    """Return the row that the offer names, or the defaults of an offer without one."""
    return unit_rows().get(offer.units or "", NO_ROW)


def _rates(offer: ThroughputOffer) -> tuple[float | None, float | None]:
    """Return the input and output tokens per minute of a unit, of the offer or else of its row."""
    row = _row_of(offer)
    return (
        offer.input_tokens_per_minute or row.input_tokens_per_minute,
        offer.output_tokens_per_minute or row.output_tokens_per_minute,
    )


def _weight(offer: ThroughputOffer) -> float | None:
    """Return the weight of an output token; None if it is not known."""
    listed, prices = _row_of(offer).output_weight, offer.pay_as_you_go
    if offer.output_weight is not None:
        return offer.output_weight
    if listed == PRICE_RATIO:
        return prices.output_usd_per_million / prices.input_usd_per_million if prices.input_usd_per_million else None
    return float(listed) if listed else None


def _missing(offer: ThroughputOffer, document: Document, name: str) -> Iterator[Problem]:
    """Yield a problem for each key that neither the offer nor its row has."""
    row, rates, place = _row_of(offer), _rates(offer), ("throughput", name)
    if row is NO_ROW:
        rule, remedy = "is required: the offer names no row of the table", "set it, or name a row with units"
    else:
        rule, remedy = f"is required: the table has none for {row.name}", f"set it from {row.source}"
    if rates == (None, None):
        yield document.problem((*place, "input_tokens_per_minute"), rule, remedy)
    elif rates[1] is None and _weight(offer) is None:
        yield document.problem((*place, "output_weight"), rule, remedy)
    minimum = offer.min_units or row.min_units
    if offer.max_units is not None and offer.max_units < minimum:
        rule = f"must be at least min_units, {minimum}"
        yield document.problem((*place, "max_units"), rule, "raise it, or remove the offer", offer.max_units)


def _named(offer: ThroughputOffer, document: Document, name: str) -> NamedOffer:
    row, rates = _row_of(offer), _rates(offer)
    where = location(document, ("throughput", name))
    dated = ", ".join(part for part in (offer.source, offer.checked and f"checked {offer.checked}") if part)
    prices = Citation(Basis.GIVEN, f"{where}: {dated or 'prices without source and date'}")
    unit = Unit(
        system=offer.system or row.system,
        unit=offer.unit or row.unit,
        sku=offer.sku or row.sku,
        input_tokens_per_minute=rates[0],
        output_tokens_per_minute=rates[1],
        output_weight=_weight(offer) or 0.0,
        cached_weight=row.cached_weight if offer.cached_weight is None else offer.cached_weight,
        min_units=offer.min_units or row.min_units,
        step_units=offer.step_units or row.step_units,
        max_units=offer.max_units,
        sources=(Citation(Basis.GIVEN, where),) if row is NO_ROW else (row.citation,),
    )
    return NamedOffer(name, offer, unit, (prices,), document)
