"""What runs jobs: processes on this machine. Elsewhere: `engine_dask`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Final, Protocol

from simulators.tune.study_inputs import Bundle
from simulators.tune.trial import Job, TrialOutcome, play

DEATHS: Final = 3
"""A job whose process has died so often is not tried again: it takes more memory than there is."""
Done = tuple[Job, TrialOutcome]


class EngineFailed(Exception):
    """The simulations cannot go on: why, and what to do."""


class Executor(Protocol):
    """Runs jobs, somewhere. A job whose runner dies is run again, and is told of once."""

    def room(self) -> int:
        """How many jobs it makes sense to have submitted."""

    def submit(self, job: Job) -> None:
        """Have a job run."""

    def wait(self, timeout_s: float) -> list[Done]:
        """Return the jobs that ended, once one has or time is up. Raises `EngineFailed`, and the error of a job."""

    def close(self) -> None:
        """Forget what still runs."""


OpenEngine = Callable[[Bundle], Executor]
"""Makes an engine that has the bundle."""


class Local:
    """Processes on this machine. Each gets the bundle once, as it starts."""

    def __init__(self, bundle: Bundle, jobs: int) -> None:
        self._bundle = bundle
        self._jobs = jobs
        self._running: dict[Future[TrialOutcome], Job] = {}
        self._deaths: dict[Job, int] = {}
        self._pool = self._begun()

    def room(self) -> int:
        """One job more than processes, so that none waits for the client; with one process there is none to spare."""
        return self._jobs + 1 if self._jobs > 1 else 1

    def submit(self, job: Job) -> None:
        with _undisturbed():
            try:
                future = self._pool.submit(_do, job)
            except BrokenProcessPool:
                self._again()
                future = self._pool.submit(_do, job)
        self._running[future] = job

    def wait(self, timeout_s: float) -> list[Done]:
        ended, _ = wait(self._running, timeout_s, FIRST_COMPLETED)
        lost = [f for f in ended if isinstance(f.exception(), BrokenProcessPool)]
        found = [(self._running.pop(f), f.result()) for f in ended if f not in lost]
        if lost:
            self._again()
        return sorted(found, key=lambda done: done[0].number)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 - a pool waits for what runs
            process.terminate()

    def _begun(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_begin, initargs=(self._bundle,))

    def _again(self) -> None:
        """Run again the jobs of a pool of which a process died, in a new pool."""
        jobs = list(self._running.values())
        for job in jobs:
            self._deaths[job] = self._deaths.get(job, 0) + 1
            if self._deaths[job] > DEATHS:
                raise EngineFailed(
                    f"processes end early, {self._deaths[job]} times by now, most likely for want of memory: give fewer"
                    " --jobs; the same command goes on where this one ended"
                )
        self._running.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._begun()
        for job in jobs:
            self.submit(job)


_mine: list[Bundle] = []
"""A worker process's bundle."""


def _begin(bundle: Bundle) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's
    _mine[:] = [bundle]
    threading.Thread(target=_end_with_client, daemon=True).start()


def _end_with_client() -> None:
    """End this process with its client: one that is killed cannot end its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _do(job: Job) -> TrialOutcome:
    return play(_mine[0], job)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No Ctrl-C meanwhile, nor for processes that begin in it: they would end with a traceback each."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
