"""Shows the workloads on a terminal while the daemon runs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from typing import Final, TextIO

from rich.console import Console
from rich.live import Live

from policies.model import Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.supervised_tasks import Tasks
from scaler.telemetry.dashboard.workload_facts import WorkloadInfo
from scaler.telemetry.terminal.frame import MAX_MESSAGES, Frame, WorkloadRow, draw, next_row
from scaler.telemetry.terminal.messages import Messages

TASK: Final = "live view"
REFRESH_S: Final = 0.5
"""Time between two drawings. A resized terminal is drawn anew within it. Seconds."""


class LiveView:
    """A view of all workloads on the terminal's alternate screen, drawn from the recorded ticks.

    The terminal's previous content returns when the view ends, followed by the log lines that the view covered.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._console = Console(file=stream, force_terminal=True, highlight=False, markup=False, emoji=False)
        self._rows: dict[WorkloadName, WorkloadRow] = {}
        self._ticks = 0
        self._drawn: object = None

    def observe(self, tick: Tick, spec: WorkloadSpec) -> None:
        self._ticks += 1
        self._rows[tick.workload] = next_row(self._rows.get(tick.workload), tick, spec)

    @contextmanager
    def shown(self, address: str, note: str, info: WorkloadInfo, tasks: Tasks) -> Iterator[None]:
        """Show the view until the context ends. Then restore the terminal and print the log lines.

        `note` is a remark on the run, such as the speed of its clock.
        """
        messages = Messages()
        live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )

        async def follow() -> None:
            with suppress(OSError):  # the terminal is gone
                while True:
                    names, stalled, size = list(info.names()), info.stalled(), self._console.size
                    content = (self._ticks, messages.kept, names, stalled, size)
                    if content != self._drawn:
                        self._drawn = content
                        self._rows = {name: row for name, row in self._rows.items() if name in info.names()}
                        last = messages.last(MAX_MESSAGES)
                        frame = Frame(address, version("forescale"), note, names, self._rows, stalled, last)
                        view = draw(frame, size.width, size.height)
                        await asyncio.to_thread(live.update, view, refresh=True)  # a stopped terminal blocks a write
                    await asyncio.sleep(REFRESH_S)

        with _diverted(messages), self._on_screen(live):
            drawing = tasks.start(TASK, follow)
            try:
                yield
            finally:
                drawing.cancel()
        with suppress(OSError):
            for line in messages.lines():
                print(line, file=self._stream, flush=True)

    @contextmanager
    def _on_screen(self, live: Live) -> Iterator[None]:
        """Use the alternate screen, except while Ctrl-Z stops this process.

        A terminal that is gone is ignored.
        """
        loop = asyncio.get_running_loop()

        def start() -> None:
            self._drawn = None
            with suppress(OSError):
                live.start()

        def stop() -> None:
            with suppress(OSError):
                live.stop()

        def suspend() -> None:
            stop()
            os.kill(os.getpid(), signal.SIGSTOP)
            start()

        start()
        loop.add_signal_handler(signal.SIGTSTP, suspend)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTSTP)
            stop()


@contextmanager
def _diverted(handler: logging.Handler) -> Iterator[None]:
    """Send log lines to another handler, with the filters of the present one."""
    root = logging.getLogger()
    previous = root.handlers[:]
    handler.filters = [f for h in previous for f in h.filters]
    root.handlers[:] = [handler]
    try:
        yield
    finally:
        root.handlers[:] = previous
