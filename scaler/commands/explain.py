"""``forescale explain``: explains a recorded decision as text."""

from __future__ import annotations

import argparse
import json
import math
from datetime import UTC, datetime
from pathlib import Path

from policies.model import Tick, WorkloadName
from scaler.journal.codec import encode_tick
from scaler.journal.explain import paragraphs, shadow_paragraphs, timestamp
from scaler.journal.reader import Journal, JournalError
from scaler.journal.shadows import encode_shadow
from scaler.registry import did_you_mean
from scaler.shadow.counterfactual import ShadowTick


def command(args: argparse.Namespace) -> int:
    at = parse_time(args.at) if args.at else math.inf
    journal = Journal(Path(args.journal))
    chosen: dict[WorkloadName, Tick | ShadowTick] = {}
    first: dict[WorkloadName, Tick] = {}
    for record in journal.shadows() if args.shadow else journal:
        tick = record.tick if isinstance(record, ShadowTick) else record
        first.setdefault(tick.workload, tick)
        if tick.at <= at and (args.workload is None or tick.workload == args.workload):
            chosen[tick.workload] = record
    if not chosen:
        raise JournalError(_no_tick_reason(args, at, first))
    if args.json:
        records = [encode_shadow(t) if isinstance(t, ShadowTick) else encode_tick(t) for t in chosen.values()]
        print(json.dumps(records, indent=2))
        return 0
    for record in chosen.values():
        text = shadow_paragraphs(record) if isinstance(record, ShadowTick) else paragraphs(record)
        print("\n".join(text), end="\n\n")
    if journal.damaged:
        print(f"(skipped {len(journal.damaged)} damaged lines, the first at {journal.damaged[0]})")
    return 0


def parse_time(text: str, option: str = "--at") -> float:
    """Return the Unix time of ISO 8601 (UTC without an offset) or of Unix seconds.

    Raises `JournalError`.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as e:
        raise JournalError(f"{option} {text!r}: must be ISO 8601 (2026-06-01T08:45:00Z) or Unix seconds") from e
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _no_tick_reason(args: argparse.Namespace, at: float, first: dict[WorkloadName, Tick]) -> str:
    """Return the reason why there is no tick to explain."""
    if not first:
        return f"{args.journal}: no {'shadow tick' if args.shadow else 'tick'} is recorded yet"
    if args.workload is not None and args.workload not in first:
        hint = did_you_mean(args.workload, list(first)) or f"it has {', '.join(sorted(first))}"
        return f"--workload {args.workload!r}: no such workload in the journal; {hint}"
    earliest = min(t.at for n, t in first.items() if args.workload in {None, n})
    return f"--at {timestamp(at)}: before the first recorded tick, at {timestamp(earliest)}"
