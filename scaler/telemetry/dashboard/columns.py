"""Stores recent ticks as compact columns of a few dozen bytes per tick."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.history.tick_values import NAN, decision_values, fresh_value
from policies.model import SignalName, Tick
from policies.signals.plausibility import SHARES

FIXED: Final = ("demand", "target", "ready", "blind", "usd_per_hour")
MAX_SIGNALS: Final = 32
"""Maximum number of signals stored per workload: more than a source has, and a bound for a faulty one."""
INITIAL_ROWS: Final = 8
DIGITS: Final = 4
"""Decimal places in a response: a share has a hundredth of a percent."""
QUEUE: Final = frozenset({"visible", "in_flight", "delayed", "groups_in_flight", "lag"})


class Columns:
    """A ring buffer of ticks, read oldest first.

    A stale, absent or unknown value is NaN: missing is not zero.
    """

    __slots__ = ("_at", "_end", "_rows", "shifts", "signals")

    def __init__(self) -> None:
        self.signals: dict[SignalName, int] = {}
        self.shifts = 0
        """Number of clock jumps that moved the stored times. A client's earlier times are invalid after one."""
        self._at: NDArray[np.float64] = np.empty(INITIAL_ROWS)
        self._rows: NDArray[np.float32] = np.empty((INITIAL_ROWS, len(FIXED)), np.float32)
        self._end = 0

    def __len__(self) -> int:
        return min(self._end, len(self._at))

    def append(self, tick: Tick, limit: int) -> None:
        """Append a tick, and replace the oldest one once `limit` are stored.

        A tick out of order is ignored.
        """
        if tick.clock_step_s:
            self._at += tick.clock_step_s
            self.shifts += 1
        if self._end and tick.at <= self._at[(self._end - 1) % len(self._at)]:
            return
        if self._end == len(self._at) < limit:
            self._grow(min(self._end + self._end // 4 + INITIAL_ROWS, limit))
        readings = tick.observation.readings
        if not readings.keys() <= self.signals.keys():
            self._widen(readings)
        d = tick.decision
        decision = decision_values(d)
        blind = 0.0 if d.may_scale_in and d.target is not None else 1.0
        cost = NAN if d.cost_usd_per_hour is None else d.cost_usd_per_hour
        values = [decision.demand, decision.target, decision.ready, blind, cost]
        values += [fresh_value(readings.get(signal)) for signal in self.signals]
        row = self._end % len(self._at)
        self._at[row] = tick.at
        self._rows[row] = values
        self._end += 1

    def read(self, since: float | None) -> dict[str, Any]:
        """Return all columns after `since`, or whole if it is None.

        The values are JSON values with null for unknown.
        """
        order = self._order(len(self))
        if since is not None:
            order = order[self._at[order] > since]
        rows = self._rows[order]
        return {
            "at": self._at[order].tolist(),
            **{name: json_values(rows[:, i]) for i, name in enumerate(FIXED)},
            "signals": {
                signal: {"unit": unit(signal), "values": json_values(rows[:, i])} for signal, i in self.signals.items()
            },
        }

    def sparks(self, ticks: int) -> dict[str, Any]:
        """Return the last `ticks` values of demand, target and ready.

        `from` and `until` are the times of the first and the last one.
        """
        order = self._order(ticks)
        rows = self._rows[order, :3].T.astype(np.float64).round(2).tolist()
        values = {name: [number(v) for v in row] for name, row in zip(FIXED[:3], rows, strict=True)}
        return {"from": float(self._at[order[0]]), "until": float(self._at[order[-1]]), **values}

    def _order(self, ticks: int) -> NDArray[np.int_]:
        """Return the indices of the last `ticks` rows, oldest first.

        Example: in a ring of 32 rows after 34 ticks, the last 4 are the rows 30, 31, 0 and 1.
        """
        return np.arange(self._end - min(ticks, len(self)), self._end) % len(self._at)

    def _grow(self, rows: int) -> None:
        """Extend the ring to `rows`. It has not wrapped around yet, so that its rows are in order."""
        self._at = np.concatenate((self._at, np.empty(rows - len(self._at))))
        added = np.empty((rows - len(self._rows), self._rows.shape[1]), np.float32)
        self._rows = np.concatenate((self._rows, added))

    def _widen(self, readings: Mapping[SignalName, object]) -> None:
        """Add columns for new signals, unknown in the earlier rows."""
        new = [s for s in readings if s not in self.signals][: MAX_SIGNALS - len(self.signals)]
        for signal in new:
            self.signals[signal] = len(FIXED) + len(self.signals)
        unknown = np.full((len(self._rows), len(new)), NAN, np.float32)
        self._rows = np.concatenate((self._rows, unknown), axis=1)


def json_values(column: NDArray[np.float32]) -> list[float | None]:
    """Return a column as values of strict JSON, with None for values that are not finite."""
    values = column.astype(np.float64)
    return [
        value if known else None
        for value, known in zip(values.round(DIGITS).tolist(), np.isfinite(values), strict=True)
    ]


def number(value: float | None, digits: int = DIGITS) -> float | None:
    """Return a rounded value for strict JSON, and None if it is not finite."""
    return round(value, digits) if value is not None and math.isfinite(value) else None


def unit(signal: SignalName) -> str:
    """Return a signal's unit by its name, which ends with the unit or is in a list of shares."""
    quantity = signal.rpartition(".")[2]
    if quantity in SHARES or quantity.endswith(("_share", "_usage", "utilization")):
        return "share"
    if quantity in QUEUE:
        return "messages"
    if quantity.endswith("_per_s"):
        return "per second"
    return "seconds" if quantity.endswith("_s") else "count"
