"""Supervised background tasks.

An exception of a task is logged and counted, and the task is restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from scaler.clock import stopwatch_s
from scaler.telemetry.log import log

T = TypeVar("T")
FIRST_PAUSE_S: Final = 1.0
"""Pause before the first restart; each further one is twice as long: 1, 2, 4, 8, 16, 30, 30 s."""
MAX_PAUSE_S: Final = 30.0
"""Maximum pause before a restart: a fix takes effect within half a minute."""
STEADY_S: Final = 60.0
"""A task that ran for this long counts as recovered, and its next pause is the first one again. Seconds."""


class Tasks:
    """The background tasks of one daemon.

    `restarts` counts each task's exceptions by its name. `failing` holds the reason of a task's restart until the task
    has run for `STEADY_S` or `recovered` is called.
    """

    def __init__(self, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self.restarts: Counter[str] = Counter()
        self.failing: dict[str, str] = {}
        self._first_pause_s = first_pause_s
        self._logged: set[tuple[str, str]] = set()

    def start(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run a coroutine function in a task until it returns or is cancelled.

        After an exception, it runs again.
        """
        return asyncio.create_task(self._supervise(name, run), name=name)

    def recovered(self, name: str) -> None:
        """Mark a restarted task as working again."""
        self.failing.pop(name, None)

    def forget(self, name: str) -> None:
        """Drop the counts of a task that no longer runs."""
        self.failing.pop(name, None)
        self.restarts.pop(name, None)

    async def _supervise(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        pause_s, loop = self._first_pause_s, asyncio.get_running_loop()
        while True:
            began_s = stopwatch_s()
            steady = loop.call_later(STEADY_S, self.recovered, name)
            try:
                return await run()
            except Exception as e:  # noqa: BLE001 - the supervising boundary of background tasks
                self._record_failure(name, e)
            finally:
                steady.cancel()
            if stopwatch_s() - began_s >= STEADY_S:
                pause_s = self._first_pause_s
            await asyncio.sleep(pause_s)
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)

    def _record_failure(self, name: str, error: Exception) -> None:
        self.restarts[name] += 1
        self.failing[name] = reason = summary(error)
        remedy = "the task restarts; report this bug with its traceback, which is logged once"
        trace = {} if (name, reason) in self._logged else {"exc_info": error}
        self._logged.add((name, reason))
        log.error("task ended", task=name, error=reason, restarts=self.restarts[name], remedy=remedy, **trace)


def in_daemon_thread(name: str, call: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking call in a thread that does not keep the process alive.

    A call that hangs costs one thread. The default executor's threads would delay the end of the process.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[T] = loop.create_future()

    def finish(result: T | None, error: Exception | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type]  # without an error there is a result

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except Exception as e:  # noqa: BLE001 - passed on to the task that waits
            error = e
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return ended


def summary(error: BaseException) -> str:
    """Return the type and place of an exception, without its message, which may quote a secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return type(error).__name__
    file = trace.tb_frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{type(error).__name__} at {file}:{trace.tb_lineno}"
