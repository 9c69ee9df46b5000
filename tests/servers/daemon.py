"""The daemon as a separate process, observed through its log, journal and HTTP server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from policies.model import Tick
from scaler.journal.reader import Journal, JournalError
from scaler.journal.writer import files
from tests.patience import PATIENCE_S


class Daemon:
    """A running ``forescale run``; its log lines are in `lines`."""

    def __init__(self, process: Process, journal: Path) -> None:
        self.process = process
        self.journal = journal
        self.lines: list[str] = []
        self.address = ""
        self._journal_size = 0
        self._ticks: list[Tick] = []
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            text = line.decode().rstrip()
            self.lines.append(text)
            if "dashboard at " in text:
                self.address = text.split("dashboard at ")[1].split()[0]

    async def get(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as http,
            http.get(self.address + path, timeout=aiohttp.ClientTimeout(total=5)) as answer,
        ):
            return answer.status, await answer.text()

    def events(self) -> list[dict[str, Any]]:
        """Return the log lines that are JSON."""
        return [json.loads(line) for line in self.lines if line.startswith("{")]

    def ticks(self) -> list[Tick]:
        """Return the journal's present records. The journal is read again only when its size has changed."""
        size = sum(file.stat().st_size for file in files(self.journal)) if self.journal.is_dir() else 0
        if size != self._journal_size:
            try:
                self._ticks, self._journal_size = list(Journal(self.journal)), size
            except JournalError:
                return []
        return list(self._ticks)

    async def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(sig)
        code = await asyncio.wait_for(self.process.wait(), PATIENCE_S)
        await self._reading
        return code


UNDER_LIMITS: Final = """
import ast, resource, runpy, sys
for kind, maximum in ast.literal_eval(sys.argv.pop(1)).items():
    resource.setrlimit(kind, (maximum, maximum))
runpy.run_module("scaler.cli", run_name="__main__", alter_sys=True)
"""
"""A program that runs the command line under resource limits. A `preexec_fn` would run between fork and exec, where the
threads of gRPC in the test's process may hold locks for ever."""


@asynccontextmanager
async def daemon(
    *args: str,
    journal: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    limits: Mapping[int, int] | None = None,
    start_s: float = PATIENCE_S,
) -> AsyncIterator[Daemon]:
    """Start the daemon and wait for its address; kill it at the end. `limits` are its resource limits."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *(("-c", UNDER_LIMITS, repr(dict(limits))) if limits else ("-m", "scaler.cli")),
        *("run", "--json", *args),
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})},
        limit=1 << 24,
    )
    running = Daemon(process, journal)
    try:
        await until(lambda: bool(running.address) or process.returncode is not None, running, start_s)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(
    true: Callable[[], bool | Awaitable[bool]], about: Daemon | None = None, within_s: float = PATIENCE_S
) -> None:
    """Return when the condition is true; on a timeout, fail with the daemon's last log lines."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                answer = true()
                if answer if isinstance(answer, bool) else await answer:
                    return
                await asyncio.sleep(0.05)
    except TimeoutError:
        last = "\n".join(about.lines[-15:]) if about else ""
        raise AssertionError(f"not within {within_s:g} s\n{last}") from None
