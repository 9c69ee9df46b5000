"""Jobs on a Dask cluster that is there already: ``dask scheduler``, and ``dask worker --nthreads 1`` on each machine.

The bundle is sent once a worker, under the digest of what it holds; a job is its words. Dask runs a job again whose
worker died; what a scheduler took with it when it died is submitted anew to the one that comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from scaler.clock import stopwatch_s
from simulators.tune.executor import Done, EngineFailed
from simulators.tune.study_inputs import Bundle
from simulators.tune.trial import Job, TrialOutcome, play

PATIENCE_S: Final = 300.0
"""A scheduler that is started again, and a worker that is scheduled anew, are there within minutes, or not at all."""
CONNECT_S: Final = 5.0
AHEAD: Final = 4
"""One job in so many waits at the workers, so that none idles while the client draws the next."""
COUNT_S: Final = 5.0
"""Workers come and go: they are counted so often."""
GONE: Final = ("cancelled", "lost")


class Dask:
    """A Dask scheduler's workers. `stop` is asked while nothing can be done but wait."""

    def __init__(self, bundle: Bundle, address: str, stop: Callable[[], bool] = lambda: False) -> None:
        import distributed  # noqa: PLC0415 - an extra, and slow to import

        logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what goes wrong is told by this engine
        self._dask = distributed
        self._bundle = bundle
        self._address = address
        self._stop = stop
        self._running: dict[Any, Job] = {}
        self._ended = threading.Event()
        self._threads = 1
        self._counted_s = -1e18
        self._sent = 0
        self._client: Any = None
        self._ready()

    def room(self) -> int:
        """As many as workers have threads, and some in hand; one where there is one, for the sake of its chance."""
        now_s = stopwatch_s()
        if now_s - self._counted_s > COUNT_S and self._client.status == "running":
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            self._threads = max(1, sum(int(w["nthreads"]) for w in workers))
            self._counted_s = now_s
        return self._threads if self._threads == 1 else self._threads + max(1, self._threads // AHEAD)

    def submit(self, job: Job) -> None:
        if self._client is None or self._client.status != "running":
            self._again()
        if self._client.status != "running":
            raise EngineFailed(f"{self._address} cannot be reached, and nobody wants to wait for it: nothing was lost")
        self._sent += 1
        key = f"tune-{self._bundle.digest[:12]}-{job.task}-{job.number}-{self._sent}"
        future = self._client.submit(play, self._data, job, key=key, pure=False, priority=-job.number)
        future.add_done_callback(lambda _: self._ended.set())
        self._running[future] = job

    def wait(self, timeout_s: float) -> list[Done]:
        self._ended.wait(timeout_s)
        self._ended.clear()
        found: list[Done] = []
        for future, job in list(self._running.items()):
            if future.status == "finished":
                if (outcome := self._fetched(future)) is None:
                    continue
                del self._running[future]
                found.append((job, outcome))
            elif future.status == "error":
                del self._running[future]
                self._raise(future.exception())
        if self._client.status != "running" or any(f.status in GONE for f in self._running):
            self._again()
        return sorted(found, key=lambda done: done[0].number)

    def close(self) -> None:
        self._running.clear()
        self._leave()

    def _leave(self) -> None:
        if self._client is not None:
            with contextlib.suppress(OSError, TimeoutError):  # a scheduler that is gone
                self._client.close(timeout=CONNECT_S)

    def _fetched(self, future: Any) -> TrialOutcome | None:
        """Return a result; None if it went with its worker or the scheduler, and is to come again."""
        try:
            outcome: TrialOutcome = future.result(timeout=CONNECT_S)
        except (asyncio.CancelledError, self._dask.CancelledError, TimeoutError, OSError):
            return None
        return outcome

    def _raise(self, error: Exception) -> None:
        if isinstance(error, self._dask.scheduler.KilledWorker):
            raise EngineFailed(
                f"workers die of the same job, most likely for want of memory: {error}; give them more, the same"
                " command goes on where this one ended"
            ) from error
        raise error

    def _ready(self) -> None:
        """Return a client with workers that have the bundle. Raises `EngineFailed`."""
        began_s = stopwatch_s()
        while not self._stop():
            try:
                self._client = self._dask.Client(self._address, timeout=CONNECT_S, set_as_default=False)
                self._client.wait_for_workers(1, timeout=CONNECT_S)
                self._data = self._client.scatter(self._bundle, broadcast=True, hash=True)
            except (OSError, TimeoutError, ValueError) as e:
                self._leave()
                if isinstance(e, ValueError):
                    raise EngineFailed(f"{self._address} is no address of a scheduler: {e}") from e
                if stopwatch_s() - began_s > PATIENCE_S:
                    raise EngineFailed(
                        f"no scheduler with workers at {self._address} for {PATIENCE_S:g} s ({e}): start them, and give"
                        " the same command again: it goes on where this one ended"
                    ) from e
                self._ended.wait(1.0)
            else:
                self._counted_s = -1e18
                return

    def _again(self) -> None:
        """Submit anew the jobs that had not ended when the scheduler, or all workers with the bundle, went."""
        jobs = list(self._running.values())
        self._running.clear()
        self._leave()
        self._ready()
        for job in jobs:
            if not self._stop():
                self.submit(job)
