"""Executor on an existing Dask cluster.

The cluster runs ``dask scheduler``, and ``dask worker --nthreads 1`` on each machine. The study's inputs are sent once
to each worker; a job is a short text. Dask runs a job again if its worker dies. Jobs lost with a scheduler are
submitted again to the scheduler that replaces it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from scaler.clock import stopwatch_s
from simulators.tune.executor import Done, ExecutorFailed
from simulators.tune.study_inputs import StudyInputs
from simulators.tune.trial import TrialJob, TrialOutcome, run_job

PATIENCE_S: Final = 300.0
"""The maximum wait for a scheduler with workers: a restart takes minutes. Seconds."""
CONNECT_S: Final = 5.0
QUEUE_RATIO: Final = 4
"""One extra job for this many threads waits at the workers: 8 threads have 10 jobs."""
RECOUNT_S: Final = 5.0
"""The time between two counts of the workers. Seconds."""
LOST_STATES: Final = ("cancelled", "lost")


class DaskExecutor:
    """The workers of a Dask scheduler. `stop` ends the wait for a scheduler."""

    def __init__(self, inputs: StudyInputs, address: str, stop: Callable[[], bool] = lambda: False) -> None:
        import distributed  # noqa: PLC0415 - an extra, and slow to import

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # this class reports the errors
        self._dask = distributed
        self._inputs = inputs
        self._address = address
        self._stop = stop
        self._running: dict[Any, TrialJob] = {}
        self._finished = threading.Event()
        self._threads = 1
        self._counted_at_s = -1e18
        self._sent = 0
        self._client: Any = None
        self._connect()

    def capacity(self) -> int:
        """Return the workers' threads and one job more per `QUEUE_RATIO` threads.

        There is at least one additional job. With one thread the result is 1, so that the search is reproducible.
        """
        now_s = stopwatch_s()
        if now_s - self._counted_at_s > RECOUNT_S and self._client.status == "running":
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._threads = max(1, sum(int(w["nthreads"]) for w in workers))
            self._counted_at_s = now_s
        return self._threads if self._threads == 1 else self._threads + max(1, self._threads // QUEUE_RATIO)

    def submit(self, job: TrialJob) -> None:
        if self._client is None or self._client.status != "running":
            self._resubmit()
        if self._client.status != "running":
            raise ExecutorFailed(
                f"scheduler {self._address} cannot be reached; finished trials are saved: repeat the command"
            )
        self._sent += 1
        key = f"tune-{self._inputs.digest[:12]}-{job.task}-{job.number}-{self._sent}"
        future = self._client.submit(run_job, self._data, job, key=key, pure=False, priority=-job.number)
        future.add_done_callback(lambda _: self._finished.set())
        self._running[future] = job

    def wait(self, timeout_s: float) -> list[Done]:
        self._finished.wait(timeout_s)
        self._finished.clear()
        outcomes: list[Done] = []
        for future, job in list(self._running.items()):
            if future.status == "finished":
                if (outcome := self._result_of(future)) is None:
                    continue
                del self._running[future]
                outcomes.append((job, outcome))
            elif future.status == "error":
                del self._running[future]
                self._raise(future.exception())
        if self._client.status != "running" or any(f.status in LOST_STATES for f in self._running):
            self._resubmit()
        return sorted(outcomes, key=lambda done: done[0].number)

    def close(self) -> None:
        self._running.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError, TimeoutError):  # the scheduler has ended
                self._client.close(timeout=CONNECT_S)

    def _result_of(self, future: Any) -> TrialOutcome | None:
        """Return a job's outcome, or None if it is lost.

        A lost job, whose worker or scheduler ended, must run again.
        """
        try:
            outcome: TrialOutcome = future.result(timeout=CONNECT_S)
        except (asyncio.CancelledError, self._dask.CancelledError, TimeoutError, OSError):
            return None
        return outcome

    def _raise(self, error: Exception) -> None:
        if isinstance(error, self._dask.scheduler.KilledWorker):
            raise ExecutorFailed(
                f"workers were killed by the same job, most likely for lack of memory: {error}. Give the workers more"
                " memory and repeat the command to continue"
            ) from error
        raise error

    def _connect(self) -> None:
        """Connect to the scheduler and send the inputs to its workers. Raises `ExecutorFailed`."""
        began_s = stopwatch_s()
        while not self._stop():
            try:
                self._client = self._dask.Client(self._address, timeout=CONNECT_S, set_as_default=False)
                self._client.wait_for_workers(1, timeout=CONNECT_S)
                self._data = self._client.scatter(self._inputs, broadcast=True, hash=True)
            except (OSError, TimeoutError, ValueError) as e:
                self._disconnect()
                if isinstance(e, ValueError):
                    raise ExecutorFailed(f"{self._address} is not the address of a scheduler: {e}") from e
                if stopwatch_s() - began_s > PATIENCE_S:
                    raise ExecutorFailed(
                        f"no scheduler with workers at {self._address} for {PATIENCE_S:g} s ({e}): start them, and"
                        " repeat the command to continue"
                    ) from e
                self._finished.wait(1.0)
            else:
                self._counted_at_s = -1e18
                return

    def _resubmit(self) -> None:
        """Reconnect and submit the unfinished jobs again.

        This is needed after the scheduler, or all workers with the inputs, ended.
        """
        jobs = list(self._running.values())
        self._running.clear()
        self._disconnect()
        self._connect()
        for job in jobs:
            if not self._stop():
                self.submit(job)
