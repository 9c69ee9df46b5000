"""``forescale run``: the daemon, and what it says when it ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from policies.model import Result, Tick, WorkloadName
from scaler.app import Options, run
from scaler.explain import paragraphs
from scaler.telemetry.log import configure


@dataclass(slots=True)
class Summary:
    """What came of a run, workload by workload."""

    workloads: dict[WorkloadName, Seen] = field(default_factory=dict)

    def note(self, tick: Tick) -> None:
        self.workloads.setdefault(tick.workload, Seen()).note(tick)

    def as_dict(self) -> dict[str, object]:
        return {name: seen.as_dict() for name, seen in sorted(self.workloads.items())}

    def text(self) -> str:
        rows = [f"{'workload':<24}" + "".join(f"{column:>10}" for column in Seen().as_dict())]
        for name, seen in sorted(self.workloads.items()):
            cells = ("-" if value is None else value for value in seen.as_dict().values())
            rows.append(f"{name:<24}" + "".join(f"{cell:>10}" for cell in cells))
        return "\n".join(rows)


@dataclass(slots=True)
class Seen:
    """One workload's run."""

    turns: int = 0
    blind: int = 0
    results: Counter[Result] = field(default_factory=Counter)
    sizes: list[int] = field(default_factory=list)

    def note(self, tick: Tick) -> None:
        self.turns += 1
        self.blind += not tick.decision.may_lower
        self.results.update(o.result for o in tick.outcomes)
        if tick.decision.target is not None:
            self.sizes.append(tick.decision.target)

    def as_dict(self) -> dict[str, int | float | None]:
        return {
            "turns": self.turns,
            "resized": self.results[Result.ACCEPTED],
            "refused": sum(n for result, n in self.results.items() if result.refused),
            "blind": self.blind,
            "smallest": min(self.sizes, default=None),
            "largest": max(self.sizes, default=None),
            "mean": round(sum(self.sizes) / len(self.sizes), 1) if self.sizes else None,
            "now": self.sizes[-1] if self.sizes else None,
        }


def command(args: argparse.Namespace) -> int:
    summary = Summary()

    def on_tick(tick: Tick) -> None:
        summary.note(tick)
        if args.once and not args.json:
            print("\n".join(paragraphs(tick)), end="\n\n")

    def on_start(address: str) -> None:
        print(f"Forescale runs; dashboard at {address} (Ctrl-C ends it)", file=sys.stderr, flush=True)

    options = Options(
        paths=[Path(p) for p in args.config],
        dry_run=args.dry_run,
        once=args.once,
        for_s=args.for_s,
        on_tick=on_tick,
        on_start=on_start,
    )
    configure("json" if args.json else "auto")
    asyncio.run(run(options))
    if args.json:
        print(json.dumps(summary.as_dict()))
    elif not args.once:
        print(f"\n{summary.text()}")
    return 0
