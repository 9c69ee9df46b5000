"""Functions shared by the readers of JSON traffic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from simulators.world.traffic.cleaning import Cleaner, Rows
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.trace import MAX_ARRIVAL_S, Floats

FIELDS: Final = ("arrival_s", "prompt_tokens", "output_tokens")


def cleaned(
    path: Path,
    names: Mapping[str, str],
    columns: Mapping[str, Sequence[Any]],
    places: Sequence[str],
    options: ReadOptions,
) -> Cleaner:
    """Return a cleaner with the rows of `columns`: for each field one value per request.

    `names` has the JSON keys.
    """
    cleaner = Cleaner(str(path), names, skip_bad=options.skip_bad)
    numbers = {field: numeric(values) for field, values in columns.items()}
    arrival = numbers.pop("arrival_s")
    first = next((float(t) for t in arrival if np.isfinite(t)), 0.0)
    cleaner.time_of_day = first > MAX_ARRIVAL_S
    since = arrival - first if cleaner.time_of_day else arrival
    cleaner.add(Rows(since, numbers, None, columns, lambda i: places[i]))
    return cleaner


def numeric(values: Sequence[Any]) -> Floats:
    """Return numbers as floats.

    The result is NaN for other values (also true and false), and infinity above the range of a float.
    """
    return np.array([_float(v) for v in values], np.float64)


def _float(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return np.nan
    try:
        return float(value)
    except OverflowError:
        return np.inf
