"""``forescale explain``: explains a recorded decision as text."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from policies.model import Tick, WorkloadName
from scaler.journal.codec import encode_tick
from scaler.journal.explain import paragraphs, shadow_paragraphs, timestamp
from scaler.journal.reader import Journal, JournalError
from scaler.journal.shadows import encode_shadow
from scaler.registry import did_you_mean
from scaler.shadow.counterfactual import ShadowTick

CLOCK: Final = re.compile(r"\d\d:\d\d")
"""The beginning of a time of day."""
AFTER_END_S: Final = 3600.0
"""A time of day that is at most this much later than the last tick is not one of the day before. Seconds."""
ZONE: Final = re.compile(r"(?<=\d)\s*(Z|UTC|[+-]\d\d:?\d\d)$")
"""An offset from UTC at the end of a time."""
UTC_NAME: Final = re.compile(r"\s*UTC$")
FRACTION: Final = re.compile(r"\.(\d+)$")


def command(args: argparse.Namespace) -> int:
    end = end_of(args.at, Journal(Path(args.journal))) if args.at else math.inf
    journal = Journal(Path(args.journal))
    chosen: dict[WorkloadName, Tick | ShadowTick] = {}
    first: dict[WorkloadName, Tick] = {}
    for record in journal.shadows() if args.shadow else journal:
        tick = record.tick if isinstance(record, ShadowTick) else record
        first.setdefault(tick.workload, tick)
        if tick.at < end and (args.workload is None or tick.workload == args.workload):
            chosen[tick.workload] = record
    if not chosen:
        raise JournalError(_no_tick_reason(args, first))
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


def end_of(text: str, journal: Iterable[Tick]) -> float:
    """Return the end of the moment that a text names, as the log or the dashboard prints it.

    The text is a time in a form of `parse_time`, or a time of day (UTC without an offset), which is the last one before
    the journal's end or shortly after it. It stands for the whole of its last unit. Example: 08:45:12 lasts until
    08:45:13, so that it finds a tick at 08:45:12.7, whose time is printed in whole seconds.

    Raises `JournalError`.
    """
    if CLOCK.match(text) is None:
        return parse_time(text) + _unit_s(text)
    last = max((tick.at for tick in journal), default=0.0) + AFTER_END_S
    days = (datetime.fromtimestamp(last, UTC).date() + timedelta(days=days) for days in (1, 0, -1))
    moments = (parse_time(f"{day.isoformat()}T{text}") for day in days)
    return next((moment for moment in moments if moment <= last), last) + _unit_s(text)


def _unit_s(text: str) -> float:
    """Return the length of a time's last unit, from a day to a fraction of a second. Seconds."""
    time = ZONE.sub("", text.strip())
    if fraction := FRACTION.search(time):
        return float(10.0 ** -len(fraction[1]))
    if time.isdecimal():
        return 1.0
    return {0: 86400.0, 1: 60.0}.get(time.count(":"), 1.0)


def parse_time(text: str, option: str = "--at") -> float:
    """Return the Unix time of ISO 8601 (UTC without an offset) or of Unix seconds.

    Raises `JournalError`.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        parsed = datetime.fromisoformat(UTC_NAME.sub("Z", text.strip()))
    except ValueError as e:
        raise JournalError(f"{option} {text!r}: must be ISO 8601 (2026-06-01T08:45:00Z) or Unix seconds") from e
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _no_tick_reason(args: argparse.Namespace, first: dict[WorkloadName, Tick]) -> str:
    """Return the reason why there is no tick to explain."""
    if not first:
        return f"{args.journal}: no {'shadow tick' if args.shadow else 'tick'} is recorded yet"
    if args.workload is not None and args.workload not in first:
        hint = did_you_mean(args.workload, list(first)) or f"it has {', '.join(sorted(first))}"
        return f"--workload {args.workload!r}: no such workload in the journal; {hint}"
    earliest = min(t.at for n, t in first.items() if args.workload in {None, n})
    return f"--at {args.at}: before the first recorded tick, at {timestamp(earliest)}"
