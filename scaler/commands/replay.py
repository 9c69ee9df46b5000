"""``forescale replay``: the same decisions from the same observations, or what another configuration would do."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final

from policies.model import WorkloadName
from scaler.config.load import load
from scaler.journal.explain import timestamp
from scaler.journal.reader import Journal, JournalError
from scaler.journal.replay import ReplayedTick, replay

SHOWN: Final = 10
"""Differences printed: the first ones tell the cause, the rest follow from them."""


def command(args: argparse.Namespace) -> int:
    journal = Journal(Path(args.journal))
    other = load(Path(p) for p in args.config).workloads if args.config else None
    records = (r for r in journal.records() if args.workload in {None, r.workload})
    counts: Counter[str] = Counter()
    sizes: dict[WorkloadName, list[tuple[int, int]]] = {}
    differing: list[ReplayedTick] = []
    for compared in replay(records, journal.specs, other):
        equal = compared.equal if other is None else compared.same_size
        kind = "past not recorded" if not compared.comparable else "equal" if equal else "different"
        counts[kind] += 1
        if kind == "different" and len(differing) < SHOWN:
            differing.append(compared)
        recorded, anew = compared.tick.decision.target, compared.decision.target
        if recorded is not None and anew is not None:
            sizes.setdefault(compared.tick.workload, []).append((recorded, anew))
    if not counts:
        raise JournalError(f"{args.journal}: no turn to replay (of these workloads, with a specification)")
    if args.json:
        print(json.dumps(_as_dict(counts, sizes, differing, journal)))
    else:
        _print(counts, sizes, differing, journal, other is not None)
    return 1 if other is None and counts["different"] else 0


def _print(
    counts: Counter[str],
    sizes: dict[WorkloadName, list[tuple[int, int]]],
    differing: list[ReplayedTick],
    journal: Journal,
    changed: bool,
) -> None:
    print(f"{counts.total()} turns decided again: " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()))
    if changed:
        for name, pairs in sorted(sizes.items()):
            before, after = (sum(p[i] for p in pairs) / len(pairs) for i in (0, 1))
            print(f"  {name}: mean target {before:.2f} recorded, {after:.2f} with the new configuration")
    for compared in differing:
        tick, anew = compared.tick, compared.decision
        print(f"  {tick.workload} at {timestamp(tick.at)}: target {tick.decision.target} recorded, {anew.target} anew")
        if tick.decision.target == anew.target:
            for field, was, now in compared.differences():
                print(f"    {field}: {was!r} recorded, {now!r} anew")
        else:
            print(f"    recorded because {tick.decision.reason}")
            print(f"    anew because {anew.reason}")
    if counts["different"] > len(differing):
        print(f"  ... and {counts['different'] - len(differing)} more")
    if journal.damaged:
        print(f"{len(journal.damaged)} damaged lines passed over, the first at {journal.damaged[0]}", file=sys.stderr)


def _as_dict(
    counts: Counter[str],
    sizes: dict[WorkloadName, list[tuple[int, int]]],
    differing: list[ReplayedTick],
    journal: Journal,
) -> dict[str, Any]:
    return {
        "turns": counts.total(),
        "equal": counts["equal"],
        "different": counts["different"],
        "past_not_recorded": counts["past not recorded"],
        "damaged_lines": len(journal.damaged),
        "mean_target": {
            name: {"recorded": sum(p[0] for p in pairs) / len(pairs), "anew": sum(p[1] for p in pairs) / len(pairs)}
            for name, pairs in sorted(sizes.items())
        },
        "first_differences": [
            {
                "workload": c.tick.workload,
                "at": c.tick.at,
                "recorded": {"target": c.tick.decision.target, "reason": c.tick.decision.reason},
                "anew": {"target": c.decision.target, "reason": c.decision.reason},
            }
            for c in differing
        ],
    }
