"""Snapshots between daemons: equal decisions, the newest valid one, and stores that hang or are gone."""

from __future__ import annotations

import copy
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from yarl import URL

from policies.model import Tick, WorkloadName
from scaler.config.daemon import DaemonSpec
from scaler.config.postgresql_server import PostgreSqlServer
from scaler.config.snapshots import SnapshotSettings
from scaler.ports import PortError
from scaler.shared_resources import AdapterContext, Resources
from scaler.snapshots.codec import MAX_CHARS, encode, part_of
from scaler.snapshots.directory import SnapshotDirectory
from scaler.snapshots.opening import open_snapshots
from scaler.snapshots.service import Snapshots
from scaler.snapshots.store import Stored
from scaler.telemetry.health import Health
from tests.fakes import ManualClock
from tests.scaler.scripted_daemon import World
from tests.scaler.snapshots.places import PLACES
from tests.scaler.snapshots.test_codec import LLM, RECORDED
from tests.servers.postgresql import INITDB, USER, postgres

pytestmark = pytest.mark.slow
OTHER = WorkloadName("ns.other")


async def test_decisions_are_those_after_a_restart_with_the_journal(tmp_path: Path) -> None:
    """The second daemon has a snapshot and no journal, the third one the journal of the first and no snapshot."""
    settings = SnapshotSettings(directory=str(tmp_path / "shared"))
    daemon: dict[str, Any] = {"history_backfill_s": 0.0}
    first = World(tmp_path / "a", daemon={**daemon, "snapshots": settings})
    async with first.started() as app:
        await first.run_ticks(app, 60)
    results: list[list[Tick]] = []
    for name, more in (("b", {"snapshots": settings}), ("a", {}), ("c", {})):
        clock, engines = ManualClock(first.clock.now()), copy.deepcopy(first.engines)
        other = World(tmp_path / name, clock, engines, {**daemon, **more}, tick_count=60)
        async with other.started() as app:
            results.append(await other.run_ticks(app, 20))
    by_snapshot, by_journal, cold = results
    assert [t.decision for t in by_snapshot] == [t.decision for t in by_journal]
    assert [t.observation.error_budget for t in by_snapshot] == [t.observation.error_budget for t in by_journal]
    assert by_snapshot[0].history_len == 60
    assert [t.decision for t in cold] != [t.decision for t in by_journal]


@pytest.fixture(params=["directory", "postgresql", *PLACES])
async def settings(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[SnapshotSettings]:
    if request.param in PLACES:
        async with PLACES[request.param](monkeypatch, tmp_path) as place:
            yield place
    elif request.param == "directory":
        yield SnapshotSettings(directory=str(tmp_path / "new" / "shared"))
    else:
        if INITDB is None:
            pytest.skip("no initdb on PATH (Debian: apt install postgresql)")
        with postgres() as url:
            port = URL(url).port or 0
            server = PostgreSqlServer(host="127.0.0.1", port=port, database="postgres", username=USER)
            yield SnapshotSettings(server=server)


async def opened(settings: SnapshotSettings, resources: Resources, clock: ManualClock) -> Snapshots:
    health = Health({}, clock)
    snapshots = await open_snapshots(DaemonSpec(snapshots=settings), AdapterContext(resources, clock, 60.0), health)
    assert snapshots is not None
    return snapshots


async def test_store_keeps_the_snapshot_of_each_writer(settings: SnapshotSettings) -> None:
    async with Resources() as resources:
        store = (await opened(settings, resources, ManualClock()))._store
        assert list(await store.read([LLM, OTHER])) == []
        await store.write(LLM, "a", "one 'quoted'")
        await store.write(LLM, "b", "two")
        await store.write(OTHER, "a", "three")
        await store.write(LLM, "a", "four")
        assert set(await store.read([LLM])) == {Stored(LLM, "a", "four"), Stored(LLM, "b", "two")}
        await store.write(OTHER, "a", "x" * (MAX_CHARS + 1))
        assert list(await store.read([OTHER])) == [Stored(OTHER, "a", None)]
        for _ in range(2):
            await store.delete(LLM, "a")
        assert list(await store.read([LLM])) == [Stored(LLM, "b", "two")]


async def test_newest_valid_snapshot_is_taken_and_the_others_are_reported(settings: SnapshotSettings) -> None:
    texts = {
        "old": encode(LLM, [part_of(RECORDED[:10])], None),
        "new": encode(LLM, [part_of(RECORDED[:20])], None),
        "torn": encode(LLM, [part_of(RECORDED[:25])], None)[:-9],
        "future": encode(LLM, [part_of(RECORDED)], None),
    }
    async with Resources() as resources:
        clock = ManualClock(RECORDED[21].at)
        snapshots = await opened(settings, resources, clock)
        for writer, text in texts.items():
            await snapshots._store.write(LLM, writer, text)
        with capture_logs() as logs:
            newer = await snapshots.newer({LLM: (), OTHER: ()})
        assert {name: list(s.ticks)[-1].at for name, s in newer.items()} == {LLM: RECORDED[19].at}
        refused = {line["writer"]: line["error"] for line in logs if line["log_level"] == "warning"}
        assert refused.keys() == {"torn", "future"}
        assert "checksum" in refused["torn"]
        assert "ahead of this clock" in refused["future"]
        assert await snapshots.newer({LLM: RECORDED[:20]}) == {}  # the journal is as new

        snapshots.begin(LLM, RECORDED[:20], 3600.0)
        snapshots.observe(RECORDED[20])
        await snapshots.end([LLM])
        writers = {stored.writer for stored in await snapshots._store.read([LLM])}
        assert writers == {"new", "torn", "future", snapshots._writer}
        await snapshots._store.delete(LLM, "future")
        assert (await snapshots.newer({LLM: ()}))[LLM].ticks[-1].at == RECORDED[20].at


async def test_daemon_without_the_lease_writes_no_snapshot(tmp_path: Path) -> None:
    async with Resources() as resources:
        snapshots = await opened(SnapshotSettings(directory=str(tmp_path)), resources, ManualClock())
        snapshots.holds = lambda _: False
        snapshots.begin(LLM, RECORDED, 3600.0)
        await snapshots._write([LLM])
        assert list(tmp_path.iterdir()) == []
        assert snapshots._recordings[LLM].new == []  # compressed: it may lack the lease for long


async def test_volume_that_hangs_delays_nothing_for_long(tmp_path: Path) -> None:
    """Opening a pipe without a writer hangs, as a file on a network volume whose server is gone."""
    pipe = tmp_path / f"{LLM}@other.snapshot"
    os.mkfifo(pipe)
    try:
        async with Resources() as resources:
            snapshots = await opened(SnapshotSettings(directory=str(tmp_path)), resources, ManualClock())
            with capture_logs() as logs:
                assert await snapshots.newer({LLM: ()}) == {}
            assert "no response within" in logs[0]["error"]
            snapshots.begin(LLM, RECORDED, 3600.0)
            await snapshots.end([LLM])  # at once
            with pytest.raises(PortError, match="an earlier call hangs"):
                await snapshots._store.read([LLM])
    finally:
        os.close(os.open(pipe, os.O_WRONLY))  # ends the thread that hangs


async def test_directory_that_cannot_be_written_is_a_problem_of_the_daemon(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clock = ManualClock()
    health = Health({}, clock)
    snapshots = Snapshots(SnapshotDirectory(tmp_path / "file"), "me", 60.0, clock, health)
    snapshots.begin(LLM, RECORDED, 3600.0)
    await snapshots.end([LLM])
    assert "Check the volume and its permissions" in health.problems()["snapshots"]


async def test_kept_ticks_are_those_of_the_history(tmp_path: Path) -> None:
    async with Resources() as resources:
        clock = ManualClock(RECORDED[-1].at)
        snapshots = await opened(SnapshotSettings(directory=str(tmp_path)), resources, clock)
        snapshots.begin(LLM, (), 100.0)
        for first in (0, 10, 20):
            for tick in RECORDED[first : first + 10]:
                snapshots.observe(tick)
            await snapshots._write([LLM])
        kept = (await snapshots.newer({LLM: ()}))[LLM].ticks
        assert [t.at for t in kept] == [t.at for t in RECORDED[20:]]
