"""The state of an object, deep and comparable: to prove that a read changes nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

DERIVED: Final = {"_latest", "_leaders", "_earlier_days", "_indices", "_requests", "_prepared"}
"""Attributes with values derived from others, which are computed again where they are empty."""


def frozen(value: Any) -> Any:
    """Return all that an object holds, by attribute, as a copy that can be compared."""
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return repr(value)
        case np.ndarray():
            return (value.shape, value.dtype.str, value.tobytes())
        case Mapping():
            return {key: frozen(item) for key, item in value.items()}
        case list() | tuple() | deque():
            return [frozen(item) for item in value]
    names = [*getattr(value, "__dict__", ()), *(n for c in type(value).__mro__ for n in getattr(c, "__slots__", ()))]
    return {n: frozen(getattr(value, n)) for n in names if n not in DERIVED and hasattr(value, n)} or repr(value)
