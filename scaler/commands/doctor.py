"""``forescale doctor``: shows the readings of each source, and each pool's size.

It also shows the lead time of each pool.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from policies.history.pool_memory import PoolMemories
from policies.model import Absent, Fresh, PoolName, PoolStatus, WorkloadName
from scaler.app import make_clock
from scaler.config.load import Config, load
from scaler.diagnostics import AdapterCheck, check_adapters
from scaler.journal.explain import remarks, size_summary
from scaler.journal.reader import tail
from scaler.ports import Clock, Permit


def command(args: argparse.Namespace) -> int:
    config = load(Path(p) for p in args.config)
    clock = make_clock(config.daemon)
    checks = asyncio.run(check_adapters(config, clock))
    memories = _pool_memories(config, clock)
    if args.json:
        print(json.dumps([as_dict(check, config, memories) for check in checks], indent=2))
    else:
        print("\n".join(lines(checks, config, memories)))
    return 0 if all(check.ok for check in checks) else 1


def lines(checks: list[AdapterCheck], config: Config, memories: Mapping[WorkloadName, PoolMemories]) -> Iterator[str]:
    """Yield each workload's sources and pools.

    A source has the ages of its readings. A pool has its size and lead time.
    """
    workload = None
    for check in checks:
        if check.workload != workload:
            workload = check.workload
            yield f"{workload}"
        yield f"  {check.role} {check.name} ({check.kind}), {check.took_s * 1000:.0f} ms"
        if check.error:
            yield f"    read failed: {check.error}"
        if check.remedy:
            yield f"    {check.remedy}"
        limits = (
            config.workloads[check.workload].spec.sources[check.name].quantities() if check.role == "source" else {}
        )
        for quantity, reading in check.readings.items():
            yield f"    {quantity}: {_reading(reading, limits.get(quantity), check.at)}"
        if check.status is not None:
            yield from (f"    {line}" for line in _status(check.status, check.at))
        if check.role == "pool":
            yield f"    {_lead_time_text(check, config, memories)}"
        yield from (f"    {line}" for line in permits(check))


def permits(check: AdapterCheck) -> Iterator[str]:
    """Yield refusals, denied and unknown permissions, or one line where all are granted."""
    yield from (f"SCALE-OUT REFUSED: {refusal}" for refusal in check.refusals)
    if check.permits_error:
        yield f"permissions unknown: {check.permits_error}"
    yield from permit_lines(check.permits)


def permit_lines(permits: Sequence[Permit]) -> Iterator[str]:
    """Yield the denied and unknown permissions, or one line where all are granted."""
    denied = [p for p in permits if p.granted is False]
    unknown = [p for p in permits if p.granted is None]
    for p in denied:
        yield f"NOT PERMITTED: {p.action}{': ' + p.detail if p.detail else ''}"
    for p in unknown:
        yield f"permission unknown: {p.action}{': ' + p.detail if p.detail else ''}"
    if permits and not denied and not unknown:
        yield f"permitted: {', '.join(p.action for p in permits)}"


def as_dict(check: AdapterCheck, config: Config, memories: Mapping[WorkloadName, PoolMemories]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "workload": check.workload,
        check.role: check.name,
        "kind": check.kind,
        "well": check.ok,
        "took_s": round(check.took_s, 4),
    }
    if check.error:
        plain |= {"error": check.error, "remedy": check.remedy}
    if check.readings:
        plain["readings"] = {
            quantity: {"absent": r.reason}
            if isinstance(r, Absent)
            else {"value": r.value, "age_s": round(check.at - r.measured_at, 3), "missing": r.missing}
            for quantity, r in check.readings.items()
        }
    if check.status is not None:
        plain["status"] = {**asdict(check.status.value), "pending": check.status.value.pending}
        plain["age_s"] = round(check.at - check.status.measured_at, 3)
        plain["missing"] = check.status.missing
    if check.role == "pool":
        plain["refusals"] = list(check.refusals)
        plain["lead_time_s"], plain["lead_times_measured"] = _lead_time_s(check, config, memories)
    if check.permits or check.permits_error:
        plain["permits"] = [asdict(p) for p in check.permits]
        plain["permits_error"] = check.permits_error
    return plain


def _reading(reading: Fresh[float] | Absent, max_age_s: float | None, now: float) -> str:
    if isinstance(reading, Absent):
        return f"absent, not zero ({reading.reason})"
    age_s = now - reading.measured_at
    bound = f"at least {reading.value:g} ({reading.missing})" if reading.missing else f"{reading.value:g}"
    if age_s < -1.0:
        return f"{bound}, measured {-age_s:.0f} s AHEAD of this machine's clock"
    old = "" if max_age_s is None or age_s <= max_age_s else f": STALE, the maximum age is {max_age_s:g} s"
    return f"{bound}, {max(0.0, age_s):.0f} s old{old}"


def _status(status: Fresh[PoolStatus], now: float) -> Iterator[str]:
    yield f"{size_summary(status.value)}; {max(0.0, now - status.measured_at):.0f} s old"
    if status.missing:
        yield f"  a lower bound: {status.missing}"
    yield from (f"  {remark}" for remark in remarks(status.value))


def _lead_time_text(check: AdapterCheck, config: Config, memories: Mapping[WorkloadName, PoolMemories]) -> str:
    usual_s, measured = _lead_time_s(check, config, memories)
    origin = f"P90 of {measured} recorded starts" if measured else "as configured, no recorded start"
    return f"lead time: {usual_s:.0f} s from decision to serving ({origin})"


def _lead_time_s(
    check: AdapterCheck, config: Config, memories: Mapping[WorkloadName, PoolMemories]
) -> tuple[float, int]:
    prior_s = float(config.workloads[check.workload].spec.pools[PoolName(check.name)].lead_time_s)
    recorded = memories[check.workload].of(PoolName(check.name)).lead_times
    usual_s = recorded.usual_s(prior_s)
    return usual_s, len(recorded) if usual_s != prior_s else 0


def _pool_memories(config: Config, clock: Clock) -> dict[WorkloadName, PoolMemories]:
    """Return the memory of each pool by the journal, if one is configured."""
    memories = {name: PoolMemories() for name in config.workloads}
    directory = config.daemon.journal.directory
    if directory and Path(directory).is_dir():
        for name, ticks in tail(
            Path(directory), clock.now() - config.daemon.history_backfill_s, list(config.workloads)
        ).items():
            for tick in ticks:
                memories[name].note(tick)
    return memories
