"""Recent turns as compact columns: a few dozen bytes a turn, whatever a full record of it weighs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from policies.history.tick_values import NAN, decision_values, fresh_value
from policies.model import SignalName, Tick
from policies.signals.plausibility import SHARES

FIXED: Final = ("demand", "target", "ready", "blind")
MAX_SIGNALS: Final = 32
"""Signals kept per workload: more than any source offers, few enough that a scrape gone wild costs no memory."""
FIRST_ROWS: Final = 32
DIGITS: Final = 4
"""Decimals sent: a share to a hundredth of a percent."""
QUEUE: Final = frozenset({"visible", "in_flight", "delayed", "groups_in_flight", "lag"})


class Columns:
    """A ring of turns, oldest first when read. What was stale, absent or unknown is NaN: missing is not zero."""

    __slots__ = ("_at", "_end", "_rows", "shifts", "signals")

    def __init__(self) -> None:
        self.signals: dict[SignalName, int] = {}
        self.shifts = 0
        """How often the past was moved: times asked for before a move mean nothing after it."""
        self._at: NDArray[np.float64] = np.empty(FIRST_ROWS)
        self._rows: NDArray[np.float32] = np.empty((FIRST_ROWS, len(FIXED)), np.float32)
        self._end = 0

    def __len__(self) -> int:
        return min(self._end, len(self._at))

    def append(self, tick: Tick, limit: int) -> None:
        """Add a turn, in place of the oldest once `limit` are held. Time does not run backwards here."""
        if tick.clock_step_s:
            self._at += tick.clock_step_s
            self.shifts += 1
        if self._end and tick.at <= self._at[(self._end - 1) % len(self._at)]:
            return
        if self._end == len(self._at) < limit:
            self._grow(min(2 * self._end, limit))
        readings = tick.observation.readings
        if not readings.keys() <= self.signals.keys():
            self._widen(readings)
        d = tick.decision
        found = decision_values(d)
        blind = 0.0 if d.may_scale_in and d.target is not None else 1.0
        values = [found.demand, found.target, found.ready, blind]
        values += [fresh_value(readings.get(signal)) for signal in self.signals]
        row = self._end % len(self._at)
        self._at[row] = tick.at
        self._rows[row] = values
        self._end += 1

    def read(self, since: float | None) -> dict[str, Any]:
        """Return every column after `since` (all of it without), as JSON values: null where nothing is known."""
        order = self._order(len(self))
        if since is not None:
            order = order[self._at[order] > since]
        rows = self._rows[order]
        return {
            "at": self._at[order].tolist(),
            **{name: listed(rows[:, i]) for i, name in enumerate(FIXED)},
            "signals": {
                signal: {"unit": unit(signal), "values": listed(rows[:, i])} for signal, i in self.signals.items()
            },
        }

    def sparks(self, turns: int) -> dict[str, list[float | None]]:
        """Return the last `turns` values of demand, target and ready."""
        rows = self._rows[self._order(turns), :3].T.astype(np.float64).round(2).tolist()
        return {
            name: [v if math.isfinite(v) else None for v in values]
            for name, values in zip(FIXED[:3], rows, strict=True)
        }

    def _order(self, turns: int) -> NDArray[np.int_]:
        return np.arange(self._end - min(turns, len(self)), self._end) % len(self._at)

    def _grow(self, rows: int) -> None:
        """Make room: before the ring first closes, its rows lie in order."""
        self._at = np.concatenate((self._at, np.empty(rows - len(self._at))))
        more = np.empty((rows - len(self._rows), self._rows.shape[1]), np.float32)
        self._rows = np.concatenate((self._rows, more))

    def _widen(self, readings: Mapping[SignalName, object]) -> None:
        """Columns for signals not met before, unknown in the past."""
        new = [s for s in readings if s not in self.signals][: MAX_SIGNALS - len(self.signals)]
        for signal in new:
            self.signals[signal] = len(FIXED) + len(self.signals)
        unknown = np.full((len(self._rows), len(new)), NAN, np.float32)
        self._rows = np.concatenate((self._rows, unknown), axis=1)


def listed(column: NDArray[np.float32]) -> list[float | None]:
    """Return a column as strict JSON has it."""
    values = column.astype(np.float64)
    return [
        value if known else None
        for value, known in zip(values.round(DIGITS).tolist(), np.isfinite(values), strict=True)
    ]


def unit(signal: SignalName) -> str:
    """Return what a signal counts, told from its name: quantities end with their unit, shares are listed."""
    quantity = signal.rpartition(".")[2]
    if quantity in SHARES or quantity.endswith(("_share", "_usage", "utilization")):
        return "share"
    if quantity in QUEUE:
        return "messages"
    if quantity.endswith("_per_s"):
        return "per second"
    return "seconds" if quantity.endswith("_s") else "count"
