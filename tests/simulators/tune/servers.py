"""A private PostgreSQL and a Dask cluster as processes on free ports, which can be killed and restarted."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.servers.tcp_fault import free_port
from tests.simulators.tune.small import wait_until

INITDB: Final = shutil.which("initdb")
needs_postgres = pytest.mark.skipif(INITDB is None, reason="no initdb on PATH (Debian: apt install postgresql)")


@contextmanager
def postgres() -> Iterator[str]:
    """Start a database and yield its URL. PostgreSQL refuses to run as root; it then runs as nobody."""
    port = free_port()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        data = Path(folder) / "data"
        created = ["initdb", "-D", str(data), "-U", "tune", "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(created, check=True, user=user.pw_uid, capture_output=True, cwd=folder)
        server = subprocess.Popen(
            ["postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"],
            user=user.pw_uid, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            probe = ["pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"]
            wait_until(lambda: subprocess.run(probe, check=False).returncode == 0, "the database answers")
            yield f"postgresql://tune@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


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
