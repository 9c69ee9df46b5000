"""Encodes error budgets and SLO histories to plain data and decodes them.

The round trip is exact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from policies.model import ErrorBudget, RequestCount, WorkloadName
from scaler.journal.fields import mapping, non_negative, number, optional, text, unix_time
from scaler.journal.schema import SCHEMA
from scaler.slo_record import SloHistory

TYPE: Final = "slo_history"
ROUNDING: Final = 1e-3
"""Difference of two sums of equal counts that is left to rounding. Requests."""


def encode_error_budget(budget: ErrorBudget) -> dict[str, Any]:
    return {
        "last": list(budget.last),
        "share": budget.share,
        "limits_s": dict(budget.limits_s),
        "since": budget.since,
        "windows": [[window_s, *count] for window_s, count in budget.windows.items()],
        **({"problem": budget.problem} if budget.problem else {}),
    }


def decode_error_budget(data: Mapping[str, Any]) -> ErrorBudget:
    """Return the error budget of a record. Raises one of `fields.DAMAGED`."""
    windows = {float(number(window_s)): _count(*count) for window_s, *count in data["windows"]}
    if not windows:
        raise ValueError("an error budget without a window")
    return ErrorBudget(
        number(data["share"]),
        mapping(number, data["limits_s"]),
        windows,
        optional(unix_time, data["since"]),
        _count(*data["last"]),
        text(data.get("problem", "")),
    )


def encode_slo_history(history: SloHistory) -> dict[str, Any]:
    minutes, hours = ([[start, *count] for start, count in counts] for counts in (history.minutes, history.hours))
    return {
        "v": SCHEMA,
        "type": TYPE,
        "workload": history.workload,
        "at": history.at,
        "limits_s": dict(history.limits_s),
        "since": history.since,
        "minutes": minutes,
        "hours": hours,
    }


def decode_slo_history(data: Mapping[str, Any]) -> SloHistory:
    """Return the history of a record.

    Raises one of `fields.DAMAGED` on anything that `encode_slo_history` could not have written.
    """
    minutes, hours = (
        tuple((unix_time(start), _count(*count)) for start, *count in data[key]) for key in ("minutes", "hours")
    )
    for field in range(len(RequestCount._fields)):
        by_minutes, by_hours = (math.fsum(count[field] for _, count in counts) for counts in (minutes, hours))
        if by_minutes > by_hours + ROUNDING:
            raise ValueError("more requests by minutes than by hours")
    return SloHistory(
        WorkloadName(text(data["workload"])),
        unix_time(data["at"]),
        mapping(number, data["limits_s"]),
        optional(unix_time, data["since"]),
        minutes,
        hours,
    )


def _count(measured_s: object, requests: object, late: object) -> RequestCount:
    return RequestCount(non_negative(measured_s), non_negative(requests), non_negative(late))
