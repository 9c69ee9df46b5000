"""Takes over the log of a library that reports failures only there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from scaler.clouds.response_validation import one_line
from scaler.masking import mask
from scaler.printable import printable

MAX_REASONS: Final = 3
"""Warnings of one call that are kept: later ones repeat them."""


class WarningReasons(logging.Handler):
    """Keeps the first warnings that the present thread logs."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread and len(self._texts) < MAX_REASONS:
            self._texts.append(record.getMessage())

    def text(self) -> str:
        """Return the warnings on one printable line, without secrets."""
        return printable(one_line(mask("; ".join(self._texts))))


@contextmanager
def reasons_of(logger: logging.Logger) -> Iterator[WarningReasons]:
    """Keep the warnings of a library in this thread. Its lines no longer reach the daemon's log."""
    logger.propagate = False
    reasons = WarningReasons()
    logger.addHandler(reasons)
    try:
        yield reasons
    finally:
        logger.removeHandler(reasons)
