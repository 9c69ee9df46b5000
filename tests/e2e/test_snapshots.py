"""A daemon measures lead times and is killed; another one without its journal continues with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scaler.snapshots.codec import SnapshotError, decode
from tests.scaler.live_daemon import Live, live
from tests.scaler.scripted_daemon import NAME
from tests.scaler.snapshots.test_codec import history_of
from tests.servers.daemon import Daemon, until

pytestmark = pytest.mark.slow


async def facts(d: Daemon) -> dict[str, Any]:
    """Return what a daemon knows of the workload."""
    _, text = await d.get(f"api/workloads/{NAME}")
    known: dict[str, Any] = json.loads(text)["facts"]
    return known


def stored_lead_times(directory: Path) -> int:
    """Return the number of lead times in the only snapshot."""
    files = list(directory.glob("*.snapshot"))
    try:
        return len(history_of(decode(files[0].read_text(), NAME).ticks).lead_times) if files else 0
    except SnapshotError:
        return 0


async def scale_out(servers: Live, replicas: int) -> None:
    """Raise the load, and let the requested replicas serve some ticks later."""
    servers.engines.engines["one"].set(num_requests_running=4.0 * replicas)
    await until(lambda: servers.kube.get("deployments", NAME)["spec"]["replicas"] >= replicas)
    status = {"replicas": replicas, "readyReplicas": replicas}
    await servers.kube.put("deployments", NAME, {"status": status})


async def test_lead_times_are_known_to_the_next_daemon(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    async with live(tmp_path) as servers:
        servers.daemon_settings(snapshots={"directory": str(shared), "interval_s": 1})
        async with servers.run() as first:
            await scale_out(servers, 6)
            await until(lambda: stored_lead_times(shared) >= 4, first)
            first.process.kill()
            await first.process.wait()
        learned = stored_lead_times(shared)
        other = Live(tmp_path, servers.kube, servers.engines)
        journal = tmp_path / "other-journal"
        other.daemon_settings(
            journal={"directory": str(journal)}, snapshots={"directory": str(shared), "interval_s": 60}
        )
        async with other.run() as second:
            second.journal = journal
            await until(lambda: bool(second.ticks()), second)
            known = await facts(second)
            assert known["lead_times"] == learned
            assert known["lead_p50_s"] > 0
            assert second.ticks()[0].history_len > 0
            (taken,) = [event for event in second.events() if event["event"] == "snapshot restored"]
            assert taken["workload"] == NAME
