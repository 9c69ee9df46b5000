"""Daemons under random faults, and a simulated day: ``python -m tests.soak [--minutes 20 --faults 200 --seed N]``.

Exit code 1 if one leaks, or if a fleet of daemons violates a law.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scaler.telemetry.log import configure
from tests.servers.control_plane import why_not
from tests.soak.daemons import embedded, live
from tests.soak.day import DayReport, soak_day
from tests.soak.drive import Report, soak
from tests.soak.fleet import FleetReport, fleet, soak_fleet
from tests.soak.fleet_faults import FAULTS as FAULTS_OF_FLEET

MINUTES: Final = 20.0
FAULTS: Final = 200
FLEET: Final = "fleet"
DAY: Final = "day"
TARGETS: Final = {"embedded": embedded, "live": live}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if memory, descriptors, threads and tasks stayed flat, no tick was lost and all laws hold; else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults (default: %(default)s)")
    parser.add_argument("--only", choices=[*TARGETS, DAY, FLEET], help="one of them only")
    parser.add_argument("--faults", type=int, default=FAULTS, metavar="N", help="of the fleet (default: %(default)s)")
    args = parser.parse_args(argv)
    if not args.minutes > 0:
        parser.error("--minutes must be above 0")
    names = [args.only] if args.only else [*TARGETS, DAY, FLEET]
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # clients of our servers disconnect on purpose
    try:
        reports: list[Report | DayReport | FleetReport] = []
        if single := [name for name in names if name in TARGETS]:
            reports += asyncio.run(_soak_all(single, args.minutes * 60.0, args.seed))
        if DAY in names:
            reports.append(_soak_day())
        if FLEET in names and why_not():
            _log(f"without the fleet: {why_not()}")
        elif FLEET in names:
            reports.append(asyncio.run(_soak_fleet(args.seed, args.faults)))
    except KeyboardInterrupt:
        _log("interrupted")
        return 130
    for report in reports:
        sys.stdout.write(f"{report}\n")
    return int(any(report.problems for report in reports))


async def _soak_all(names: Sequence[str], seconds: float, seed: int) -> list[Report]:
    return list(await asyncio.gather(*(_soak_target(name, seconds, seed) for name in names)))


async def _soak_target(name: str, seconds: float, seed: int) -> Report:
    with tempfile.TemporaryDirectory(prefix=f"soak-{name}-") as folder:
        async with TARGETS[name](Path(folder), seed) as target:
            return await soak(target, seconds, _log)


async def _soak_fleet(seed: int, faults: int) -> FleetReport:
    with tempfile.TemporaryDirectory(prefix="soak-fleet-") as folder:
        async with fleet(Path(folder), seed) as target:
            return await soak_fleet(target, FAULTS_OF_FLEET, faults, _log)


def _soak_day() -> DayReport:
    """Run the day with its log lines written to nowhere."""
    _log("a simulated day")
    with Path(os.devnull).open("w") as quiet, contextlib.redirect_stderr(quiet):
        configure("json")
        with tempfile.TemporaryDirectory(prefix="soak-day-") as folder:
            return asyncio.run(soak_day(Path(folder)))


def _log(line: str) -> None:
    sys.stderr.write(f"soak: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
