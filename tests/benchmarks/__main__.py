"""Runs benchmarks by name."""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.benchmarks.figure import Figure, machine, table

BENCHMARKS: Final = (
    "decide",
    "scale",
    "scale_daemons",
    "failover",
    "footprint",
    "adapters",
    "simulate",
    "kernel",
    "faults",
    "forecast",
    "spot",
    "queue_deadline",
    "cost_at_slo",
    "out_of_the_box",
    "cost_with_market",
    "managed",
    "ablation",
    "tune",
    "overflow",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*BENCHMARKS, "all"], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of traffic data")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the figures as a table too")
    args = parser.parse_args()
    names = [name for name in BENCHMARKS if name in args.names or "all" in args.names]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    provenance = f"{datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, {machine()}"
    figures: list[Figure] = []
    for number, name in enumerate(names, 1):
        for figure in importlib.import_module(f"tests.benchmarks.{name}").run(args.data):
            print(figure.line(), flush=True)
            figures.append(figure)
        if args.table:  # after each benchmark, since all of them take hours
            done = names[:number]
            command = "make bench" if done == [*BENCHMARKS] else f"python -m tests.benchmarks {' '.join(done)}"
            args.table.write_text(f"# Figures\n\nMeasured by `{command}`: {provenance}.\n\n{table(figures)}\n")
    return 0 if all(f.met is not False for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
