"""Values of a tick as floats: NaN for a value that is absent or not fresh, never zero."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from policies.model import Fresh

if TYPE_CHECKING:
    from policies.model import Decision, Reading

NAN: Final = math.nan


class DecisionValues(NamedTuple):
    """The sizes of a decision, in replicas."""

    demand: float
    capped_need: float
    current: float
    target: float
    ready: float


def decision_values(decision: Decision) -> DecisionValues:
    """Return the sizes of a decision, with NaN for None."""
    d = decision
    return DecisionValues(
        NAN if d.demand is None else d.demand,
        NAN if d.capped_need is None else d.capped_need,
        NAN if d.current is None else d.current,
        NAN if d.target is None else d.target,
        NAN if d.ready is None else d.ready,
    )


def fresh_value(reading: Reading[float] | None) -> float:
    """Return the value of a fresh reading, a lower bound included."""
    return reading.value if isinstance(reading, Fresh) else NAN


def whole_value(reading: Reading[float] | None) -> float:
    """Return the value of a fresh reading to which every part reported; NaN for a lower bound."""
    return reading.value if isinstance(reading, Fresh) and not reading.missing else NAN
