"""Limits of memory and processor time for one step, as a guard against runaway behaviour only."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

MEMORY: Final = 512 * 2**20
"""Bytes that one step may add. An ordinary decision adds less than 1 MiB."""
CPU_S: Final = 20.0
"""Processor time that one step may take. An ordinary decision takes some milliseconds."""
STATM: Final = Path("/proc/self/statm")


class Runaway(BaseException):
    """A step that does not end: no `except Exception` may catch it."""


@contextmanager
def bounded(memory: int = MEMORY, cpu_s: float = CPU_S) -> Iterator[None]:
    """Raise `MemoryError` or `Runaway` if the step exceeds a limit. Main thread only; memory on Linux only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGVTALRM, _raise_runaway)
    try:
        if STATM.exists():
            used = int(STATM.read_text().split()[0]) * resource.getpagesize()
            maximum = used + memory if hard == resource.RLIM_INFINITY else min(used + memory, hard)
            resource.setrlimit(resource.RLIMIT_AS, (maximum, hard))
        signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGVTALRM, handler)


def _raise_runaway(_: int, __: FrameType | None) -> None:
    raise Runaway("took more processor time than any step may")
