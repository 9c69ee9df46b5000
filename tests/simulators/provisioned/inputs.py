"""Observed weeks, offers and files for the tests of provisioned throughput."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from simulators.provisioned.offers import NamedOffer, load
from simulators.provisioned.samples import TokenSamples
from simulators.provisioned.spillover import UnitLoad

MONDAY = 1_790_553_600
"""Monday 2026-09-28, 00:00 UTC. Unix time."""
TERMS: dict[str, Any] = {
    "hour": {"term_h": 1, "usd_per_unit": 0.34},
    "month": {"term_h": 730, "usd_per_unit": 219.0},
    "year": {"term_h": 8760, "usd_per_unit": 2190.0},
}
"""Prices of 0.34, 0.30 and 0.25 USD per unit and hour."""
OFFER: dict[str, Any] = {
    "units": "azure-gpt-4.1-global",
    "terms": TERMS,
    "pay_as_you_go": {
        "input_usd_per_million": 2.0,
        "cached_input_usd_per_million": 0.5,
        "output_usd_per_million": 8.0,
    },
    "source": "agreement",
    "checked": "2026-11-02",
}
"""A unit in full use serves 3,000 input tokens per minute, which cost 0.36 USD per hour."""


def write_offers(folder: Path, **offer: Any) -> Path:
    """Write a file with the offer `chat`: `OFFER` with these keys replaced; None removes one."""
    content = {key: value for key, value in {**OFFER, **offer}.items() if value is not None}
    file = folder / "offers.yaml"
    file.write_text(yaml.safe_dump({"throughput": {"chat": content}}, sort_keys=False))
    return file


def named(folder: Path, **offer: Any) -> NamedOffer:
    """Return the loaded offer `chat`."""
    (loaded,) = load(write_offers(folder, **offer))
    return loaded


def samples(weeks: int = 2, prompt: Callable[[int], float] = lambda _hour: 150_000.0, **others: Any) -> TokenSamples:
    """Return hourly samples of whole weeks without output; `prompt` is the input of each hour since the start."""
    hours = np.arange(weeks * 168)
    rates = np.array([prompt(int(hour)) for hour in hours], np.float64)
    values: dict[str, Any] = {"cached": None, "utilization": None, "output": np.zeros(len(hours)), **others}
    at = np.asarray(MONDAY + 3600.0 * hours, np.float64)
    return TokenSamples(at, np.full(len(hours), 3600.0), rates, origin="test", **values)


def unit_loads(units: list[float], usd_per_unit_hour: float = 1.0) -> UnitLoad:
    """Return a load of equal spans, each with its units."""
    values = np.array(units)
    return UnitLoad(values, values * usd_per_unit_hour, values * 1000.0, np.full(len(units), 1.0 / len(units)))


def write_csv(folder: Path, weeks: float = 2.0, prompt: Callable[[int], float] = lambda _hour: 150_000.0) -> Path:
    """Write a CSV of hourly rows without output."""
    rows = [f"{MONDAY + 3600 * hour},{prompt(hour):.0f},0" for hour in range(int(weeks * 168))]
    file = folder / "tokens.csv"
    file.write_text("\n".join(["at,input_tokens_per_minute,output_tokens_per_minute", *rows]) + "\n")
    return file
