"""Supervised background tasks: one that ends by an exception is logged, counted and started again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final

from scaler.clock import stopwatch_s
from scaler.telemetry.log import log

FIRST_S: Final = 1.0
"""Pause before the first restart; each further one is twice as long."""
LONGEST_S: Final = 30.0
"""Longest pause before a restart: what was mended meanwhile takes effect within half a minute."""
STEADY_S: Final = 60.0
"""A task that ran for this long after a restart counts as mended, and its next pause is the first one again."""


class Tasks:
    """The background tasks of one daemon.

    `restarts` counts the exceptions of each by its name. `failing` says why a task was restarted, until it has run for
    `STEADY_S` or `recovered` is called.
    """

    def __init__(self, first_s: float = FIRST_S) -> None:
        self.restarts: Counter[str] = Counter()
        self.failing: dict[str, str] = {}
        self._first_s = first_s
        self._logged: set[tuple[str, str]] = set()

    def start(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run a coroutine function as a task until it returns or is cancelled; after an exception, run it again."""
        return asyncio.create_task(self._supervise(name, run), name=name)

    def recovered(self, name: str) -> None:
        """Note that a restarted task does its work again."""
        self.failing.pop(name, None)

    def forget(self, name: str) -> None:
        """Drop what is known of a task that is no longer run."""
        self.failing.pop(name, None)
        self.restarts.pop(name, None)

    async def _supervise(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause_s, loop = self._first_s, asyncio.get_running_loop()
        while True:
            began_s = stopwatch_s()
            steady = loop.call_later(STEADY_S, self.recovered, name)
            try:
                return await run()
            except Exception as e:  # noqa: BLE001 - the supervising boundary of background tasks
                self._note(name, e)
            finally:
                steady.cancel()
            if stopwatch_s() - began_s >= STEADY_S:
                pause_s = self._first_s
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_S, 2 * pause_s)

    def _note(self, name: str, error: Exception) -> None:
        self.restarts[name] += 1
        self.failing[name] = why = summary(error)
        remedy = "it is started again; please report it with the trace, which is logged once"
        trace = {} if (name, why) in self._logged else {"exc_info": error}
        self._logged.add((name, why))
        log.error("task ended", task=name, error=why, restarts=self.restarts[name], remedy=remedy, **trace)


def summary(error: BaseException) -> str:
    """Return type and place of an exception. Its message is left out: it may quote a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    file = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{type(error).__name__} at {file}:{trace.tb_lineno}"
