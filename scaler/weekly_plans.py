"""Makes plans of provisioned throughput each week, from the daemon's journal.

A plan is made by `forescale plan`, which needs the simulator's packages and reads weeks of the journal. So it
is a process of its own, and delays no tick.
Each plan of a week is three files, such as ``plans/chat-2026-W49.txt``, ``.json`` and ``.html``. The text is written
last: while it is missing, the plan of that week is due, also after a restart.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from scaler.config.daemon import DaemonSpec
from scaler.config.weekly_plans import WeeklyPlan
from scaler.ports import Clock
from scaler.supervised_tasks import Tasks
from scaler.telemetry.log import log

TASK: Final = "weekly plans"
RETRY_S: Final = 86_400.0
"""Time after which a plan that failed is tried again, as while the journal has less than a week. Seconds."""
SIGNALS: Final = ("input", "output", "cached", "utilization")


class WeeklyPlans:
    """The weekly plans of one daemon."""

    def __init__(self, plans: Mapping[str, WeeklyPlan], journal: Path, clock: Clock) -> None:
        self._plans = plans
        self._journal = journal
        self._clock = clock

    def start(self, tasks: Tasks) -> asyncio.Task[None]:
        """Begin to make plans.

        Those of this week that are missing are made at once, the next ones on Mondays (UTC).
        """
        return tasks.start(TASK, self.run)

    async def run(self) -> None:
        """Make each plan when it is due, without end."""
        while True:
            is_complete = all([await self._make_due(name, plan) for name, plan in self._plans.items()])
            now = self._clock.now()
            monday = next_monday(now)
            await self._clock.sleep_until(monday if is_complete else min(monday, now + RETRY_S))

    async def _make_due(self, name: str, plan: WeeklyPlan) -> bool:
        """Make this week's plan where it is missing. Return whether it exists now."""
        week = week_of(self._clock.now())
        report = Path(plan.directory) / f"{name}-{week}.txt"
        if report.exists():
            return True
        report.parent.mkdir(parents=True, exist_ok=True)
        code, output, error = await _plan_in_process(_arguments(self._journal, plan, report))
        if code:
            log.warning("plan failed", plan=name, week=week, error=error, remedy=f"retried in {RETRY_S / 3600:g} h")
            return False
        await asyncio.to_thread(report.write_text, output, encoding="utf-8")
        findings = " ".join(line.strip() for line in output.partition("\n\n")[0].splitlines())
        log.info("plan", plan=name, week=week, result=findings, report=str(report))
        return True


def weekly_plans(spec: DaemonSpec, clock: Clock) -> WeeklyPlans | None:
    """Return the weekly plans of a daemon; None where it has none, or no journal."""
    directory = spec.journal.directory
    return WeeklyPlans(spec.plans, Path(directory), clock) if spec.plans and directory is not None else None


def week_of(at: float) -> str:
    """Return the ISO week of a Unix time, such as 2026-W49."""
    year, week, _ = datetime.fromtimestamp(at, UTC).isocalendar()
    return f"{year}-W{week:02d}"


def next_monday(at: float) -> float:
    """Return the start of the next ISO week, in UTC, as a Unix time."""
    day = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (day + timedelta(days=7 - day.weekday())).timestamp()


def _arguments(journal: Path, plan: WeeklyPlan, report: Path) -> list[str]:
    options = {
        "workload": plan.workload,
        "offers": plan.offers,
        "offer": plan.offer,
        "json": str(report.with_suffix(".json")),
        "html": str(report.with_suffix(".html")),
        **{name: getattr(plan, name) for name in SIGNALS},
    }
    named = [text for name, value in options.items() if value is not None for text in (f"--{name}", value)]
    return [str(journal), *named, *(["--allow-short"] if plan.allow_short else [])]


async def _plan_in_process(arguments: list[str]) -> tuple[int, str, str]:
    """Run `forescale plan`. Return its exit code, its output, and its errors on one line."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scaler.cli",
        "plan",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
    )
    try:
        output, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(), " ".join(error.decode().split())
