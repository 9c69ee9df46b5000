"""Signal handlers of the daemon: before and after the event loop, and while it runs."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

Handler: TypeAlias = Callable[[int, types.FrameType | None], None]
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
STOP_MESSAGE: Final = b"forescale: stopped by a signal; no tick was running\n"


@contextmanager
def startup_signals() -> Iterator[None]:
    """Handle signals outside the event loop.

    SIGHUP is ignored. SIGINT and SIGTERM exit with code 0.

    SIGHUP, whose default action ends the process, requests a reload: a start reads the files anyway.
    """
    with _handlers({**dict.fromkeys(STOP_SIGNALS, _end), signal.SIGHUP: _ignore}):
        yield


@contextmanager
def loop_signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Have the running event loop call `stop` on SIGINT and SIGTERM, and `reload` on SIGHUP."""
    import asyncio  # noqa: PLC0415 - `main` needs this module first, and asyncio takes 50 ms to import

    loop = asyncio.get_running_loop()
    callbacks = {**dict.fromkeys(STOP_SIGNALS, stop), signal.SIGHUP: reload}

    def schedule_callback(number: int, _frame: types.FrameType | None) -> None:
        loop.call_soon_threadsafe(callbacks[signal.Signals(number)])

    with _handlers(dict.fromkeys(callbacks, schedule_callback)):
        yield


@contextmanager
def _handlers(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install handlers, and restore the previous ones at the end."""
    previous = {sig: signal.signal(sig, handler) for sig, handler in handlers.items()}
    try:
        yield
    finally:
        for sig, handler in previous.items():
            signal.signal(sig, handler)


def _end(_number: int, _frame: types.FrameType | None) -> None:
    os.write(2, STOP_MESSAGE)  # no buffered write: this may interrupt one
    raise SystemExit(0)


def _ignore(_number: int, _frame: types.FrameType | None) -> None:
    """Ignore the signal: a start reads the files anyway."""
