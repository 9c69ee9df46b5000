"""A Dask cluster as processes on free ports, which can be killed and restarted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.tcp_fault import free_port


class Cluster:
    """A scheduler and workers, each a process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.scheduler = self._scheduler()
        self.workers: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self._port}"

    def start_worker(self) -> None:
        arguments = ["dask", "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        self.workers.append(self._start(arguments, f"worker-{len(self.workers)}"))

    def start_scheduler(self) -> None:
        """Start another scheduler at the same address, after the first and its workers were killed."""
        self.scheduler = self._scheduler()

    def _scheduler(self) -> subprocess.Popen[bytes]:
        arguments = ["dask", "scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard"]
        return self._start(arguments, "scheduler")

    def _start(self, arguments: list[str], name: str) -> subprocess.Popen[bytes]:
        log = (self._folder / f"{name}.log").open("ab")
        program = [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]]
        with log:
            return subprocess.Popen(program, cwd=self._folder, stdout=log, stderr=log)

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            if process.poll() is None:
                process.kill()
            process.wait()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """Start a cluster with workers of one thread."""
    created = Cluster(folder)
    try:
        for _ in range(workers):
            created.start_worker()
        yield created
    finally:
        created.close()
