"""Executors of trial jobs: the interface, and processes on this machine.

`executor_dask` runs them on a cluster.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection
from typing import Final, Protocol

from simulators.tune.study_inputs import StudyInputs
from simulators.tune.trial import TrialJob, TrialOutcome, run_job

MAX_DEATHS: Final = 3
"""A job is not run again after this many dead processes: it most likely needs more memory than there is."""
Done = tuple[TrialJob, TrialOutcome]


class ExecutorFailed(Exception):
    """The simulations cannot continue. The message names the cause and the remedy."""


class Executor(Protocol):
    """Runner of jobs. A job whose process dies runs again; each job is reported once."""

    def capacity(self) -> int:
        """Return the number of jobs to keep submitted."""

    def submit(self, job: TrialJob) -> None:
        """Start a job."""

    def wait(self, timeout_s: float) -> list[Done]:
        """Return the jobs that ended, waiting up to `timeout_s`.

        Raises `ExecutorFailed`, or a job's own error.
        """

    def close(self) -> None:
        """Abandon the running jobs."""


class LocalExecutor:
    """Processes on this machine. Each gets the study's inputs once, at its start."""

    def __init__(self, inputs: StudyInputs, jobs: int) -> None:
        self._inputs = inputs
        self._jobs = jobs
        self._running: dict[Future[TrialOutcome], TrialJob] = {}
        self._deaths: dict[TrialJob, int] = {}
        self._pool = self._start_pool()

    def capacity(self) -> int:
        """Return one job more than there are processes, or 1 with one process.

        The additional job keeps each process from waiting for the client.
        """
        return self._jobs + 1 if self._jobs > 1 else 1

    def submit(self, job: TrialJob) -> None:
        with _sigint_blocked():
            try:
                future = self._pool.submit(_run, job)
            except BrokenProcessPool:
                self._restart()
                future = self._pool.submit(_run, job)
        self._running[future] = job

    def wait(self, timeout_s: float) -> list[Done]:
        done, _ = wait(self._running, timeout_s, FIRST_COMPLETED)
        broken = [f for f in done if isinstance(f.exception(), BrokenProcessPool)]
        outcomes = [(self._running.pop(f), f.result()) for f in done if f not in broken]
        if broken:
            self._restart()
        return sorted(outcomes, key=lambda done: done[0].number)

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in list((self._pool._processes or {}).values()):  # noqa: SLF001 - a pool waits for what runs
            process.terminate()

    def _start_pool(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._jobs, mp_context=context, initializer=_start_worker, initargs=(self._inputs,))

    def _restart(self) -> None:
        """Run all jobs again in a new pool, after a process of the pool died."""
        jobs = list(self._running.values())
        for job in jobs:
            self._deaths[job] = self._deaths.get(job, 0) + 1
            if self._deaths[job] > MAX_DEATHS:
                raise ExecutorFailed(
                    f"worker processes were killed {self._deaths[job]} times, most likely for lack of memory: lower"
                    " --jobs and repeat the command to continue"
                )
        self._running.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._start_pool()
        for job in jobs:
            self.submit(job)


_worker_inputs: list[StudyInputs] = []
"""The study's inputs in a worker process."""


def _start_worker(inputs: StudyInputs) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the client handles Ctrl-C
    _worker_inputs[:] = [inputs]
    threading.Thread(target=_end_with_client, daemon=True).start()


def _end_with_client() -> None:
    """End this process with its client: a killed client cannot end its processes."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _run(job: TrialJob) -> TrialOutcome:
    return run_job(_worker_inputs[0], job)


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block Ctrl-C, also for processes started here, which would end with a traceback."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous_mask)
