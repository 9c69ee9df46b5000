"""Bounds the number of log lines: a fault that repeats a thousand times a second is logged ten times a minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from scaler.clock import stopwatch_s

Event: TypeAlias = tuple[str, str, str]
MOST: Final = 10
"""Lines of one event and workload that are logged within `WINDOW_S`."""
WINDOW_S: Final = 60.0
MAX_EVENTS: Final = 2000
"""Different events that are counted at a time; those beyond share one count."""
UNLIMITED: Final = frozenset({"tick", "log limited"})
"""One line a tick is what an operator reads, and ticks are bounded by their interval."""


@dataclass(slots=True)
class LogWindow:
    """The lines of one event since `began_s`."""

    began_s: float
    logged: int = 0
    left_out: int = 0


class RateLimit(logging.Filter):
    """Lets the first lines of each event pass, and says afterwards how many it left out."""

    def __init__(self, report: Callable[..., None]) -> None:
        """`report` logs an event with its fields."""
        super().__init__()
        self._report = report
        self._windows: dict[Event, LogWindow] = {}
        self._summed_s = stopwatch_s()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        event = event_of(record)
        if event[0] in UNLIMITED:
            return True
        now_s = stopwatch_s()
        if now_s - self._summed_s >= WINDOW_S:
            self.sum_up(now_s)
        if event not in self._windows and len(self._windows) >= MAX_EVENTS:
            event = ("other", "", record.levelname)
        window = self._windows.setdefault(event, LogWindow(now_s))
        passes = window.logged < MOST
        window.logged += passes
        window.left_out += not passes
        return passes

    def sum_up(self, now_s: float) -> None:
        """Begin new windows, and log what the past ones left out."""
        past, self._windows, self._summed_s = self._windows, {}, now_s
        for (event, of, level), window in past.items():
            if window.left_out:
                left = {"left_out": window.left_out, "within_s": round(now_s - window.began_s)}
                self._report("log limited", line=event, of=of, severity=level.lower(), **left)


def event_of(record: logging.LogRecord) -> Event:
    """Return what lines are counted by.

    Event, workload or task, and level; those of libraries by the place that logs.
    """
    if isinstance(record.msg, dict):
        fields = record.msg
        return str(fields.get("event")), str(fields.get("workload") or fields.get("task") or ""), record.levelname
    return f"{record.name} {record.filename}:{record.lineno}", "", record.levelname
