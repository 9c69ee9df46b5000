"""Faults that a daemon meets in a soak. Each begins, lasts a little, and is taken back: a table of small functions."""

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
from tests.soak.daemons import QUICKSTART, House

LASTS_S: Final = 2.5
"""How long a fault lasts: longer than two looks at the configuration."""
CONNECTIONS: Final = 200
SPARSE: Final = 3 * 2**30
"""Bytes of a file that takes no room on disk."""
Fault = Callable[[House], Awaitable[None]]


async def edit(house: House) -> None:
    """Another maximum for one workload."""
    path = house.rng.choice(sorted(p for p in house.config.glob("*.yaml") if p.name != "daemon.yaml"))
    document = yaml.safe_load(path.read_text())
    document["max_replicas"] = house.rng.randint(5, 20)
    path.write_text(yaml.safe_dump(document))
    await asyncio.sleep(LASTS_S)


async def pause(house: House) -> None:
    """A workload paused and resumed by its file."""
    path = house.rng.choice(sorted(p for p in house.config.glob("*.yaml") if p.name != "daemon.yaml"))
    text = path.read_text()
    path.write_text(text + "\npaused: true\n")
    await asyncio.sleep(LASTS_S)
    path.write_text(text)


async def strange_file(house: House) -> None:
    """A file beside the others that is mutated, or a bomb."""
    path = house.config / "strange.yaml"
    await _for_a_while(path, config.mutated(house.rng))


async def bomb(house: House) -> None:
    """A file that takes a parser's stack, memory or time."""
    await _for_a_while(house.config / "bomb.yaml", house.rng.choice(config._bombs()))


async def _for_a_while(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    await asyncio.sleep(LASTS_S)
    path.unlink(missing_ok=True)


async def truncated(house: House) -> None:
    """A file that is empty while it is written."""
    path = house.rng.choice(sorted(p for p in house.config.glob("*.yaml") if p.name != "daemon.yaml"))
    text = path.read_text()
    path.write_text("")
    await asyncio.sleep(1.1)
    path.write_text(text)


async def fifo(house: House) -> None:
    """A pipe in the configuration's folder, which no one writes to."""
    path = house.config / "pipe.yaml"
    os.mkfifo(path)
    await asyncio.sleep(LASTS_S)
    path.unlink()


async def sparse(house: House) -> None:
    """A file of 3 GB."""
    path = house.config / "huge.yaml"
    path.touch()
    os.truncate(path, SPARSE)
    await asyncio.sleep(LASTS_S)
    path.unlink()


async def folder_gone(house: House) -> None:
    """The configuration's folder is away for a moment."""
    away = house.folder / "away"
    house.config.rename(away)
    await asyncio.sleep(LASTS_S)
    away.rename(house.config)


async def workload_comes_and_goes(house: House) -> None:
    """One workload more for a while."""
    document = yaml.safe_load((QUICKSTART / "summaries.yaml").read_text())
    if house.name == "live":
        document = yaml.safe_load((house.config / "prom.yaml").read_text())
        document["pools"]["pool"]["name"] = "guest"
    document["workload"] = "guest"
    await _for_a_while(house.config / "guest.yaml", yaml.safe_dump(document).encode())


async def hangups(house: House) -> None:
    """SIGHUP, many times."""
    for _ in range(20):
        with contextlib.suppress(ProcessLookupError):
            house.daemon.process.send_signal(signal.SIGHUP)
        await asyncio.sleep(0.01)


async def idle_connections(house: House) -> None:
    """Connections that are opened and left."""
    parts = urlsplit(house.daemon.address)
    writers = []
    for k in range(CONNECTIONS):
        with contextlib.suppress(OSError, TimeoutError):
            _, writer = await asyncio.wait_for(asyncio.open_connection(parts.hostname, parts.port), 1.0)
            writer.write(b"" if k % 2 else b"GET /healthz HTTP/1.1\r\nHost: ")
            writers.append(writer)
    await asyncio.sleep(LASTS_S)
    for writer in writers:
        writer.close()


async def strange_requests(house: House) -> None:
    """Requests that are no HTTP, too long, or for what is not there."""
    parts = urlsplit(house.daemon.address)
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


async def journal_moved(house: House) -> None:
    """The journal's folder is moved away while it is written to."""
    away = house.folder / f"journal-{len(house.moved)}"
    with contextlib.suppress(OSError):
        house.journal.rename(away)
        house.moved.append(away)
    await asyncio.sleep(LASTS_S)


async def bad_answers(house: House) -> None:
    """Answers of another shape from every server that is read."""
    if house.hostile is None or house.kube is None:
        return
    house.hostile.body = house.rng.choice((prometheus, exposition)).mutated(house.rng)
    house.kube.garbage = house.rng.choice((None, kube_watch.mutated(house.rng), b"[" * 50_000))
    await asyncio.sleep(LASTS_S)
    house.kube.garbage = None
    house.hostile.clear()


async def no_answers(house: House) -> None:
    """Servers that hang, reset, refuse or are overloaded."""
    if house.hostile is None or house.kube is None:
        return
    match house.rng.randint(0, 3):
        case 0:
            house.hostile.hangs = True
        case 1:
            house.hostile.resets = True
        case 2:
            house.hostile.status, house.kube.broken = 503, 503
        case _:
            house.hostile.body, house.kube.throttled = b"a 1\n" * 2_000_000, True
    await asyncio.sleep(LASTS_S)
    house.hostile.clear()
    house.kube.broken, house.kube.throttled = None, False
    await house.kube.drop_watches()


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
    journal_moved,
    bad_answers,
    no_answers,
)
