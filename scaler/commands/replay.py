"""``forescale replay``: decides again from recorded observations.

It uses the recorded configuration, or another one.
"""

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

MAX_SHOWN: Final = 10
"""Maximum number of differences printed: the first ones show the cause, and later ones follow from them."""


def command(args: argparse.Namespace) -> int:
    journal = Journal(Path(args.journal))
    override = load(map(Path, args.config), check_members=False).workloads if args.config else None
    records = (r for r in journal.records() if args.workload in {None, r.workload})
    counts: Counter[str] = Counter()
    sizes: dict[WorkloadName, list[tuple[int, int]]] = {}
    differing: list[ReplayedTick] = []
    for replayed in replay(records, journal.specs, override):
        equal = replayed.equal if override is None else replayed.same_size
        kind = "history not recorded" if not replayed.comparable else "equal" if equal else "different"
        counts[kind] += 1
        if kind == "different" and len(differing) < MAX_SHOWN:
            differing.append(replayed)
        recorded_size, replayed_size = replayed.tick.decision.target, replayed.decision.target
        if recorded_size is not None and replayed_size is not None:
            sizes.setdefault(replayed.tick.workload, []).append((recorded_size, replayed_size))
    if not counts:
        raise JournalError(f"{args.journal}: no tick to replay: check --workload, and the workload names in --config")
    if args.json:
        print(json.dumps(_as_dict(counts, sizes, differing, journal)))
    else:
        _print(counts, sizes, differing, journal, override is not None)
    return 1 if override is None and counts["different"] else 0


def _print(
    counts: Counter[str],
    sizes: dict[WorkloadName, list[tuple[int, int]]],
    differing: list[ReplayedTick],
    journal: Journal,
    changed: bool,
) -> None:
    print(f"{counts.total()} ticks replayed: " + ", ".join(f"{n} {kind}" for kind, n in counts.most_common()))
    if changed:
        for name, pairs in sorted(sizes.items()):
            recorded, new = (sum(p[i] for p in pairs) / len(pairs) for i in (0, 1))
            print(f"  {name}: mean target {recorded:.2f} recorded, {new:.2f} with the new configuration")
    for replayed in differing:
        tick, decision = replayed.tick, replayed.decision
        sizes_text = f"target {tick.decision.target} recorded, {decision.target} replayed"
        print(f"  {tick.workload} at {timestamp(tick.at)}: {sizes_text}")
        if tick.decision.target == decision.target:
            for field, recorded_value, value in replayed.differences():
                print(f"    {field}: {recorded_value!r} recorded, {value!r} replayed")
        else:
            print(f"    recorded: {tick.decision.reason}")
            print(f"    replayed: {decision.reason}")
    if counts["different"] > len(differing):
        print(f"  ... and {counts['different'] - len(differing)} more")
    if journal.damaged:
        print(f"skipped {len(journal.damaged)} damaged lines, the first at {journal.damaged[0]}", file=sys.stderr)


def _as_dict(
    counts: Counter[str],
    sizes: dict[WorkloadName, list[tuple[int, int]]],
    differing: list[ReplayedTick],
    journal: Journal,
) -> dict[str, Any]:
    return {
        "ticks": counts.total(),
        "equal": counts["equal"],
        "different": counts["different"],
        "history_not_recorded": counts["history not recorded"],
        "damaged_lines": len(journal.damaged),
        "mean_target": {
            name: {"recorded": sum(p[0] for p in pairs) / len(pairs), "replayed": sum(p[1] for p in pairs) / len(pairs)}
            for name, pairs in sorted(sizes.items())
        },
        "first_differences": [
            {
                "workload": c.tick.workload,
                "at": c.tick.at,
                "recorded": {"target": c.tick.decision.target, "reason": c.tick.decision.reason},
                "replayed": {"target": c.decision.target, "reason": c.decision.reason},
            }
            for c in differing
        ],
    }
