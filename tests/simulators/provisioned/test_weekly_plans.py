"""The daemon's weekly plans: once a week, in a process of its own, again after a failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from scaler.config.daemon import DaemonSpec, JournalSpec
from scaler.config.load import Config
from scaler.config.weekly_plans import WeeklyPlan
from scaler.extras import missing_packages
from scaler.weekly_plans import RETRY_S, WeeklyPlans, next_monday, week_of, weekly_plans
from tests.fakes import ManualClock
from tests.patience import patience
from tests.simulators.cost.inputs import journal, write_scenario
from tests.simulators.provisioned.inputs import MONDAY, write_offers

FRIDAY_S = MONDAY + 4 * 86_400.0


class SleepingClock(ManualClock):
    """A clock that passes on demand, and tells until when it is to sleep."""

    def __init__(self) -> None:
        super().__init__(FRIDAY_S)
        self.sleeping = asyncio.Event()
        self.woken = asyncio.Event()
        self.until = 0.0

    async def sleep_until(self, t: float) -> None:
        self.until = t
        self.sleeping.set()
        await self.woken.wait()
        self.woken.clear()
        self._now = t

    async def rest(self) -> float:
        """Wait until all due plans were tried; return the time of the next one."""
        async with patience(60.0):
            await self.sleeping.wait()
        return self.until

    async def wake(self) -> float:
        self.sleeping.clear()
        self.woken.set()
        return await self.rest()


@asynccontextmanager
async def running(plans: dict[str, WeeklyPlan], recorded: Path) -> AsyncIterator[SleepingClock]:
    clock = SleepingClock()
    task = asyncio.create_task(WeeklyPlans(plans, recorded, clock).run())
    try:
        yield clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return journal(write_scenario(tmp_path_factory.mktemp("journal")))


@pytest.mark.slow
async def test_report_of_a_week_is_made_once_and_the_next_one_on_monday(recorded: Path, tmp_path: Path) -> None:
    reports, offers = tmp_path / "plans", write_offers(tmp_path)
    plan: dict[str, Any] = {"offers": str(offers), "directory": str(reports), "allow_short": True}
    with capture_logs() as log:
        async with running({"chat": WeeklyPlan(workload="chat", **plan)}, recorded) as clock:
            assert await clock.rest() == MONDAY + 7 * 86_400.0
            assert sorted(file.name for file in reports.iterdir()) == [
                f"chat-2026-W40.{e}" for e in ("html", "json", "txt")
            ]
            report = reports / "chat-2026-W40.txt"
            (as_json,) = json.loads(report.with_suffix(".json").read_text())["plans"]
            assert f"chat: plan {as_json['plan_id']}" in report.read_text()
            (entry,) = log
            assert (entry["event"], entry["week"], as_json["plan_id"] in entry["result"]) == ("plan", "2026-W40", True)
            log.clear()
            await clock.wake()
            assert (reports / "chat-2026-W41.txt").exists()
    report.write_text("read by a person")
    async with running({"chat": WeeklyPlan(workload="chat", **plan)}, recorded) as clock:
        await clock.rest()
    assert report.read_text() == "read by a person", "a restart does not repeat the report of a week"


@pytest.mark.slow
async def test_plan_that_fails_is_retried_after_a_day_with_its_reason_in_the_log(
    recorded: Path, tmp_path: Path
) -> None:
    plan = WeeklyPlan(workload="chat", offers=str(write_offers(tmp_path)), directory=str(tmp_path / "plans"))
    with capture_logs() as log:
        async with running({"chat": plan}, recorded) as clock:
            assert await clock.rest() == FRIDAY_S + RETRY_S
    (entry,) = log
    assert entry["event"] == "plan failed"
    assert "a plan needs 7 days" in entry["error"]


def test_weeks_begin_on_monday_in_utc() -> None:
    assert week_of(datetime(2026, 12, 31, tzinfo=UTC).timestamp()) == "2026-W53"
    assert week_of(MONDAY - 1.0) == "2026-W39"
    assert next_monday(MONDAY) == next_monday(MONDAY + 1.0) == MONDAY + 7 * 86_400.0


def test_plans_need_a_journal_and_names() -> None:
    plan = WeeklyPlan(workload="chat", offers="offers.yaml")
    spec = DaemonSpec(plans={"a/b": plan}, journal=JournalSpec(directory=None))
    assert [key for key, _ in spec.problems()] == ["plans", "plans"]
    assert weekly_plans(spec, ManualClock()) is None
    assert missing_packages(Config(DaemonSpec(plans={"chat": plan}), {})) == {"sim": []}
