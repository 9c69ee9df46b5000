"""Keeps log lines while the live view covers the terminal."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from scaler.printable import printable
from scaler.telemetry.log import formatter, formatter_of
from scaler.telemetry.log_limits import Event, event_of

MAX_LINES: Final = 500
"""Maximum number of lines that are printed when the view ends."""
MAX_MESSAGES: Final = 50
"""Maximum number of messages that the view may show."""
CAUSES: Final = ("outcomes", "errors", "error", "remedy")
"""Fields that explain a line, in the order of a message."""


@dataclass(slots=True)
class LogMessage:
    """The last log line of one event and workload, and the number of such lines."""

    level: int
    text: str
    count: int = 1


class Messages(logging.Handler):
    """Log handler that keeps the last line of each event for the view, and all for its end."""

    def __init__(self) -> None:
        super().__init__()
        self._whole = formatter_of("live")
        self._brief = formatter(_brief)
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self._messages: dict[Event, LogMessage] = {}
        self.kept = 0
        """Number of lines so far."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._keep(record)
        except Exception:  # noqa: BLE001 - as in the handlers of logging: a bad format string must not stop its caller
            self.handleError(record)

    def _keep(self, record: logging.LogRecord) -> None:
        self.kept += 1
        self._lines.append(self._whole.format(record))
        event = event_of(record)
        before = self._messages.pop(event, None)
        count = 1 if before is None else before.count + 1
        self._messages[event] = LogMessage(record.levelno, self._brief.format(record), count)
        if len(self._messages) > MAX_MESSAGES:
            del self._messages[next(iter(self._messages))]

    def last(self, limit: int) -> list[LogMessage]:
        """Return the last messages, the newest last."""
        self.acquire()
        try:
            return list(self._messages.values())[-limit:] if limit > 0 else []
        finally:
            self.release()

    def lines(self) -> list[str]:
        """Return all lines that are kept, and the number of those that are not."""
        omitted = self.kept - len(self._lines)
        return [*([f"({omitted} earlier lines are not shown)"] if omitted else []), *self._lines]


def _brief(_logger: object, _name: str, event: MutableMapping[str, Any]) -> str:
    """Return a line without the fields that the view shows elsewhere."""
    subject = event.get("workload") or event.get("task") or ""
    causes = [_text(event[key]) for key in CAUSES if event.get(key)]
    rest = [f"{k}={_text(v)}" for k, v in event.items() if k not in {"time", "level", "logger", "event", "workload"}]
    head = " ".join(filter(None, (str(event["time"]), str(event["level"]), str(event.get("event")), str(subject))))
    return printable(f"{head}: {'; '.join(causes or rest)}")


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {text}" for key, text in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)
