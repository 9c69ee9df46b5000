"""``forescale run``: runs the daemon, and prints a summary when it ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from policies.model import Result, Tick, WorkloadName
from scaler.app import RunOptions
from scaler.daemon import run
from scaler.journal.explain import paragraphs, shadow_paragraphs
from scaler.shadow.counterfactual import ShadowTick, ShadowTotals
from scaler.telemetry.log import configure


@dataclass(slots=True)
class RunSummary:
    """Summary of a run by workload."""

    workloads: dict[WorkloadName, WorkloadSummary] = field(default_factory=dict)
    shadows: dict[WorkloadName, ShadowTotals] = field(default_factory=dict)

    def add(self, tick: Tick) -> None:
        self.workloads.setdefault(tick.workload, WorkloadSummary()).add(tick)

    def as_dict(self) -> dict[str, object]:
        shadows = {name: {"shadow": totals.as_dict()} for name, totals in self.shadows.items()}
        return {
            name: {**summary.as_dict(), **shadows.get(name, {})} for name, summary in sorted(self.workloads.items())
        }

    def text(self) -> str:
        columns = ("ticks", *list(WorkloadSummary().as_dict())[1:])
        rows = [f"{'workload':<24}" + "".join(f"{column:>10}" for column in columns)]
        for name, summary in sorted(self.workloads.items()):
            cells = ("-" if value is None else value for value in summary.as_dict().values())
            rows.append(f"{name:<24}" + "".join(f"{cell:>10}" for cell in cells))
        rows += [f"shadow of {name}: {totals.text()}" for name, totals in sorted(self.shadows.items())]
        return "\n".join(rows)


@dataclass(slots=True)
class WorkloadSummary:
    """Running totals of one workload: a daemon runs for months."""

    ticks: int = 0
    blind: int = 0
    results: Counter[Result] = field(default_factory=Counter)
    sized: int = 0
    total: int = 0
    smallest: int | None = None
    largest: int | None = None
    current: int | None = None

    def add(self, tick: Tick) -> None:
        self.ticks += 1
        self.blind += not tick.decision.may_scale_in
        self.results.update(o.result for o in tick.outcomes)
        size = tick.decision.target
        if size is not None:
            self.sized += 1
            self.total += size
            self.smallest = size if self.smallest is None else min(self.smallest, size)
            self.largest = size if self.largest is None else max(self.largest, size)
            self.current = size

    def as_dict(self) -> dict[str, int | float | None]:
        return {
            "ticks": self.ticks,
            "resized": self.results[Result.ACCEPTED],
            "refused": sum(n for result, n in self.results.items() if result.refused),
            "blind": self.blind,
            "smallest": self.smallest,
            "largest": self.largest,
            "mean": round(self.total / self.sized, 1) if self.sized else None,
            "now": self.current,
        }


def command(args: argparse.Namespace) -> int:
    summary = RunSummary()

    def on_tick(tick: Tick) -> None:
        summary.add(tick)
        if args.once and not args.json:
            print("\n".join(paragraphs(tick)), end="\n\n")

    def on_shadow(shadow_tick: ShadowTick, totals: ShadowTotals) -> None:
        summary.shadows[shadow_tick.tick.workload] = totals
        if args.once and not args.json:
            print("\n".join(shadow_paragraphs(shadow_tick)), end="\n\n")

    def on_start(address: str) -> None:
        print(f"Forescale is running, dashboard at {address} (Ctrl-C stops it)", file=sys.stderr, flush=True)

    options = RunOptions(
        paths=[Path(p) for p in args.config],
        dry_run=args.dry_run,
        once=args.once,
        for_s=args.for_s,
        shadows=[Path(p) for p in args.shadow],
        on_tick=on_tick,
        on_shadow=on_shadow,
        on_start=on_start,
    )
    configure("json" if args.json else "auto")
    asyncio.run(run(options))
    if args.json:
        print(json.dumps(summary.as_dict()))
    elif not args.once:
        print(f"\n{summary.text()}")
    return 0
