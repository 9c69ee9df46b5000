"""Limits the rate of log lines.

A fault that repeats a thousand times a second is logged ten times a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from scaler.clock import stopwatch_s

Event: TypeAlias = tuple[str, str, str]
MAX_LINES: Final = 10
"""Maximum number of lines of one event and workload within `WINDOW_S`."""
WINDOW_S: Final = 60.0
MAX_EVENTS: Final = 2000
"""Maximum number of events with their own count; further events share one."""
UNLIMITED: Final = frozenset({"tick", "log limited"})
"""Events without a limit: operators read every tick, and the interval bounds their rate."""


@dataclass(slots=True)
class LogWindow:
    """The lines of one event since `began_s`."""

    began_s: float
    logged: int = 0
    omitted: int = 0


class RateLimit(logging.Filter):
    """Filter that passes the first lines of each event in a window.

    It then reports the number of omitted lines.
    """

    def __init__(self, report: Callable[..., None]) -> None:
        """`report` logs an event with its fields."""
        super().__init__()
        self._report = report
        self._windows: dict[Event, LogWindow] = {}
        self._window_began_s = stopwatch_s()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the line is logged."""
        event = event_of(record)
        if event[0] in UNLIMITED:
            return True
        now_s = stopwatch_s()
        if now_s - self._window_began_s >= WINDOW_S:
            self.report_omitted(now_s)
        if event not in self._windows and len(self._windows) >= MAX_EVENTS:
            event = ("other", "", record.levelname)
        window = self._windows.setdefault(event, LogWindow(now_s))
        passes = window.logged < MAX_LINES
        window.logged += passes
        window.omitted += not passes
        return passes

    def report_omitted(self, now_s: float) -> None:
        """Start new windows, and log the number of lines that the previous ones omitted."""
        windows, self._windows, self._window_began_s = self._windows, {}, now_s
        for (event, of, level), window in windows.items():
            if window.omitted:
                left = {"left_out": window.omitted, "within_s": round(now_s - window.began_s)}
                self._report("log limited", line=event, of=of, severity=level.lower(), **left)


def event_of(record: logging.LogRecord) -> Event:
    """Return the key by which lines are counted: event, workload or task, and level.

    Lines of libraries are counted by logger, file and line.
    """
    if isinstance(record.msg, dict):
        fields = record.msg
        return str(fields.get("event")), str(fields.get("workload") or fields.get("task") or ""), record.levelname
    return f"{record.name} {record.filename}:{record.lineno}", "", record.levelname
