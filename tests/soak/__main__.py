"""Daemons under random faults: ``python -m tests.soak [--minutes 20 --seed N]``. Exit code 1 if one leaks."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.soak.daemons import embedded, live
from tests.soak.drive import Report, soak

MINUTES: Final = 20.0
TARGETS: Final = {"embedded": embedded, "live": live}


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if memory, descriptors, threads and tasks stayed flat and no tick was lost; else 1."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the faults (default: %(default)s)")
    parser.add_argument("--only", choices=[*TARGETS], help="one of the daemons only")
    args = parser.parse_args(argv)
    if not args.minutes > 0:
        parser.error("--minutes must be above 0")
    names = [args.only] if args.only else [*TARGETS]
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # clients of our servers disconnect on purpose
    try:
        reports = asyncio.run(_soak_all(names, args.minutes * 60.0, args.seed))
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


def _log(line: str) -> None:
    sys.stderr.write(f"soak: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
