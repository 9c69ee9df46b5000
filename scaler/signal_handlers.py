"""Signals of the daemon, handled from its first line: before the event loop runs, and by it from then on."""

from __future__ import annotations

import os
import signal
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, TypeAlias

Handler: TypeAlias = Callable[[int, types.FrameType | None], None]
STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
STOPPED: Final = b"forescale: stopped by a signal while no tick was being taken\n"


@contextmanager
def held() -> Iterator[None]:
    """Ignore SIGHUP, whose default ends a process, and end with exit code 0 at SIGINT and SIGTERM.

    For the time before and after the event loop. SIGHUP asks for the files to be read, which a start does anyway.
    """
    with _handlers({**dict.fromkeys(STOPPING, _end), signal.SIGHUP: _ignore}):
        yield


@contextmanager
def handled(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Have the running event loop call `stop` at SIGINT and SIGTERM, and `reload` at SIGHUP."""
    import asyncio  # noqa: PLC0415 - the first line of `main` needs this module, and asyncio takes 50 ms

    loop = asyncio.get_running_loop()
    calls = {**dict.fromkeys(STOPPING, stop), signal.SIGHUP: reload}

    def pass_on(number: int, _frame: types.FrameType | None) -> None:
        loop.call_soon_threadsafe(calls[signal.Signals(number)])

    with _handlers(dict.fromkeys(calls, pass_on)):
        yield


@contextmanager
def _handlers(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    """Install handlers, and the earlier ones again at the end."""
    before = {sig: signal.signal(sig, handler) for sig, handler in handlers.items()}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)


def _end(_number: int, _frame: types.FrameType | None) -> None:
    os.write(2, STOPPED)  # no buffered write: this may interrupt one
    raise SystemExit(0)


def _ignore(_number: int, _frame: types.FrameType | None) -> None:
    """Do nothing: the files are about to be read."""
