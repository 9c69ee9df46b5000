"""Reader of a CSV price list: one row per instance type and region."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaler.config.problems import ConfigError, Problem
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.inputs import ListedPrice, LoadedOffers

COLUMNS: Final = ("instance_type", "region", "on_demand_usd_h")
"""Required columns. ``cloud``, ``spot_usd_h`` and ``reserved_usd_h`` are optional."""
MARKETS: Final = {"on_demand": "on_demand_usd_h", "spot": "spot_usd_h", "reserved": "reserved_usd_h"}


@dataclass(frozen=True, slots=True)
class PriceRow:
    """A row and its line number."""

    line: int
    cells: dict[str, str]


def listed_prices(file: LoadedOffers, offer: str, listed: ListedPrice) -> dict[str, SourcedNumber]:
    """Return a replica's price in each market of its row. USD per hour. Raises `ConfigError`."""
    path = file.folder / str(file.content.prices)
    rows = [row for row in _rows(path) if _fits(row.cells, listed)]
    place = ("offers", offer, "listed")
    if len(rows) != 1:
        instance = f"{listed.instance_type} in {listed.region}" + (f" of {listed.cloud}" if listed.cloud else "")
        rule = f"the price list {path} must have one row for {instance}, not {len(rows)}"
        lines = ", ".join(str(row.line) for row in rows)
        hint = f"see lines {lines} of the price list" if lines else "set a listed instance_type and region"
        raise ConfigError([file.source.problem(place, rule, hint)])
    return {market: known for market, column in MARKETS.items() if (known := _price(path, rows[0], column, listed))}


def _fits(cells: dict[str, str], listed: ListedPrice) -> bool:
    same = cells.get("instance_type") == listed.instance_type and cells.get("region") == listed.region
    return same and listed.cloud in {None, cells.get("cloud")}


def _price(path: Path, row: PriceRow, column: str, listed: ListedPrice) -> SourcedNumber | None:
    text = (row.cells.get(column) or "").strip()
    if not text:
        return None
    try:
        price = float(text)
    except ValueError:
        price = -1.0
    if not 0 < price < float("inf"):
        raise ConfigError([Problem(str(path), row.line, column, text, "must be a price above 0, in USD per hour")])
    shared = f", {text} over {listed.replicas} replicas" if listed.replicas > 1 else ""
    return SourcedNumber(price / listed.replicas, (Citation(Basis.GIVEN, f"{path}:{row.line} {column}{shared}"),))


def _rows(path: Path) -> Iterator[PriceRow]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                rule = f"is not a price list: the columns {', '.join(missing)} are missing"
                raise ConfigError([Problem(str(path), 1, "", "", rule, f"it must have {', '.join(COLUMNS)}")])
            for cells in reader:
                yield PriceRow(reader.line_num, {k: v for k, v in cells.items() if isinstance(v, str)})
    except OSError as e:
        raise ConfigError([Problem(str(path), 1, "", "", f"cannot be read: {e.strerror}")]) from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise ConfigError([Problem(str(path), 1, "", "", f"is not a UTF-8 CSV file: {e}")]) from e
