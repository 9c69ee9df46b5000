"""Backtest of the journal of a running daemon."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from scaler.cli import main
from tests.servers.daemon import daemon, until
from tests.test_architecture import ROOT

pytestmark = pytest.mark.slow
TICKS = 160
"""Ticks of both workloads: about 20 minutes of the simulated cloud each."""


async def test_report_of_a_running_daemon_excludes_shadow_ticks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config"
    config.mkdir()
    for file in (ROOT / "config/quickstart").glob("*.yaml"):
        text = file.read_text().replace("speed: 60", "speed: 120")
        (config / file.name).write_text(text)
    journal = tmp_path / "journal"
    shadow = str(config / "chat.yaml")
    args = (str(config), "--shadow", shadow, "--listen", "127.0.0.1:0")
    async with daemon(*args, journal=journal, cwd=tmp_path) as d:
        await until(lambda: len(d.ticks()) > TICKS, d)
        await d.stop()
        tick_count = len([t for t in d.ticks() if t.workload == "chat"])
    await asyncio.to_thread(main, ["report", str(journal), "--json", "-"])
    workloads = json.loads(capsys.readouterr().out)["workloads"]
    assert set(workloads) == {"chat", "summaries"}
    chat = workloads["chat"]
    assert chat["ticks"] == tick_count, "a shadow's ticks are not the workload's"
    assert chat["recorded"]["usd"] > 0
    assert set(chat["others"]["policies"]) == {"same sizes", "present", "hpa", "keda"}
    same = chat["others"]["error"]["same_sizes"]["usd"]
    assert same["simulated"] == pytest.approx(same["recorded"], rel=0.1)
    assert set(workloads["summaries"]["others"]["policies"]) == {
        "same sizes",
        "present",
        "hpa:min_replicas=1",
        "keda-queue",
    }
