"""Faults of a soak. Each function injects one fault for a few seconds and then removes it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from tests.fuzz.kinds import config, exposition, kube_watch, prometheus
from tests.soak.daemons import QUICKSTART, SoakTarget

FAULT_S: Final = 2.5
"""Duration of a fault: longer than two polls of the configuration. Seconds."""
CONNECTIONS: Final = 200
SPARSE: Final = 3 * 2**30
"""Size of a sparse file in bytes."""
Fault = Callable[[SoakTarget], Awaitable[None]]


async def edit(target: SoakTarget) -> None:
    """Change the maximum of one workload."""
    path = target.rng.choice(sorted(p for p in target.config.glob("*.yaml") if p.name != "daemon.yaml"))
    document = yaml.safe_load(path.read_text())
    document["max_replicas"] = target.rng.randint(5, 20)
    path.write_text(yaml.safe_dump(document))
    await asyncio.sleep(FAULT_S)


async def pause(target: SoakTarget) -> None:
    """Pause and resume a workload by its file."""
    path = target.rng.choice(sorted(p for p in target.config.glob("*.yaml") if p.name != "daemon.yaml"))
    text = path.read_text()
    path.write_text(text + "\npaused: true\n")
    await asyncio.sleep(FAULT_S)
    path.write_text(text)


async def strange_file(target: SoakTarget) -> None:
    """Add a mutated configuration file."""
    path = target.config / "strange.yaml"
    await _with_file(path, config.mutated(target.rng))


async def bomb(target: SoakTarget) -> None:
    """Add a file that exhausts a parser's stack, memory or time."""
    await _with_file(target.config / "bomb.yaml", target.rng.choice(config.bombs()))


async def _with_file(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    await asyncio.sleep(FAULT_S)
    path.unlink(missing_ok=True)


async def truncated(target: SoakTarget) -> None:
    """Truncate a configuration file for a moment, as during a write."""
    path = target.rng.choice(sorted(p for p in target.config.glob("*.yaml") if p.name != "daemon.yaml"))
    text = path.read_text()
    path.write_text("")
    await asyncio.sleep(1.1)
    path.write_text(text)


async def fifo(target: SoakTarget) -> None:
    """Add a FIFO without a writer to the configuration folder."""
    path = target.config / "pipe.yaml"
    os.mkfifo(path)
    await asyncio.sleep(FAULT_S)
    path.unlink()


async def sparse(target: SoakTarget) -> None:
    """Add a sparse configuration file of 3 GB."""
    path = target.config / "huge.yaml"
    path.touch()
    os.truncate(path, SPARSE)
    await asyncio.sleep(FAULT_S)
    path.unlink()


async def folder_gone(target: SoakTarget) -> None:
    """Move the configuration folder away for a moment."""
    moved_to = target.folder / "away"
    target.config.rename(moved_to)
    await asyncio.sleep(FAULT_S)
    moved_to.rename(target.config)


async def workload_comes_and_goes(target: SoakTarget) -> None:
    """Add a workload, and remove it again."""
    document = yaml.safe_load((QUICKSTART / "summaries.yaml").read_text())
    if target.name == "live":
        document = yaml.safe_load((target.config / "prom.yaml").read_text())
        document["pools"]["pool"]["name"] = "guest"
    document["workload"] = "guest"
    await _with_file(target.config / "guest.yaml", yaml.safe_dump(document).encode())


async def hangups(target: SoakTarget) -> None:
    """Send SIGHUP 20 times."""
    for _ in range(20):
        with contextlib.suppress(ProcessLookupError):
            target.daemon.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.01)


async def idle_connections(target: SoakTarget) -> None:
    """Open connections and leave them idle."""
    parts = urlsplit(target.daemon.address)
    writers = []
    for k in range(CONNECTIONS):
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port), 1.0)
            writer.write(b"" if k % 2 else b"GET /healthz HTTP/1.1\r\nHost: ")
            writers.append(writer)
    await asyncio.sleep(FAULT_S)
    for writer in writers:
        writer.close()


async def strange_requests(target: SoakTarget) -> None:
    """Send requests that are malformed, too long, or for unknown paths."""
    parts = urlsplit(target.daemon.address)
    lines = (
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\nabc",
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: b\r\n" * 5000 + b"\r\n",
    )
    for line in lines * 5:
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port), 1.0)
            writer.write(line)
            await asyncio.wait_for(reader.read(4096), 1.0)
            writer.close()


async def move_journal(target: SoakTarget) -> None:
    """Move the journal folder away while the daemon writes to it."""
    moved_to = target.folder / f"journal-{len(target.moved_journals)}"
    with contextlib.suppress(OSError):
        target.journal.rename(moved_to)
        target.moved_journals.append(moved_to)
    await asyncio.sleep(FAULT_S)


async def malformed_responses(target: SoakTarget) -> None:
    """Return malformed responses from every server."""
    if target.hostile is None or target.kube is None:
        return
    target.hostile.body = target.rng.choice((prometheus, exposition)).mutated(target.rng)
    target.kube.garbage = target.rng.choice((None, kube_watch.mutated(target.rng), b"[" * 50_000))
    await asyncio.sleep(FAULT_S)
    target.kube.garbage = None
    target.hostile.clear()


async def failed_responses(target: SoakTarget) -> None:
    """Let the servers hang, reset connections, return errors or throttle."""
    if target.hostile is None or target.kube is None:
        return
    match target.rng.randint(0, 3):
        case 0:
            target.hostile.hangs = True
        case 1:
            target.hostile.resets = True
        case 2:
            target.hostile.status, target.kube.broken = 503, 503
        case _:
            target.hostile.body, target.kube.throttled = b"a 1\n" * 2_000_000, True
    await asyncio.sleep(FAULT_S)
    target.hostile.clear()
    target.kube.broken, target.kube.throttled = None, False
    await target.kube.drop_watches()


FAULTS: Final[tuple[Fault, ...]] = (
    edit,
    pause,
    strange_file,
    bomb,
    truncated,
    fifo,
    sparse,
    folder_gone,
    workload_comes_and_goes,
    hangups,
    idle_connections,
    strange_requests,
    move_journal,
    malformed_responses,
    failed_responses,
)
