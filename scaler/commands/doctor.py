"""``forescale doctor``: what each source and pool answers now, how old it is, and how long a replica takes to serve."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator, Mapping
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
from scaler.ports import Clock


def command(args: argparse.Namespace) -> int:
    config = load(Path(p) for p in args.config)
    clock = make_clock(config.daemon)
    found = asyncio.run(check_adapters(config, clock))
    markets = _markets(config, clock)
    if args.json:
        print(json.dumps([as_dict(one, config, markets) for one in found], indent=2))
    else:
        print("\n".join(lines(found, config, markets)))
    return 0 if all(one.ok for one in found) else 1


def lines(found: list[AdapterCheck], config: Config, markets: Mapping[WorkloadName, PoolMemories]) -> Iterator[str]:
    """Workload by workload: sources with the age of each reading, pools with sizes and lead times."""
    shown = None
    for one in found:
        if one.workload != shown:
            shown = one.workload
            yield f"{shown}"
        yield f"  {one.role} {one.name} ({one.kind}), {one.took_s * 1000:.0f} ms"
        if one.error:
            yield f"    no answer: {one.error}"
            yield f"    {one.remedy}"
        limits = config.workloads[one.workload].spec.sources[one.name].quantities() if one.role == "source" else {}
        for quantity, reading in one.readings.items():
            yield f"    {quantity}: {_reading(reading, limits.get(quantity), one.at)}"
        if one.status is not None:
            yield from (f"    {line}" for line in _status(one.status, one.at))
        if one.role == "pool":
            yield f"    {_lead_time(one, config, markets)}"
        yield from (f"    {line}" for line in permits(one))


def permits(one: AdapterCheck) -> Iterator[str]:
    """Yield what it may not do, and what is not known; one line where all is granted."""
    if one.permits_error:
        yield f"permissions not known: {one.permits_error}"
    denied = [p for p in one.permits if p.granted is False]
    unknown = [p for p in one.permits if p.granted is None]
    for p in denied:
        yield f"NOT PERMITTED: {p.action}{': ' + p.detail if p.detail else ''}"
    for p in unknown:
        yield f"not known whether permitted: {p.action}{': ' + p.detail if p.detail else ''}"
    if one.permits and not denied and not unknown:
        yield f"permitted: {', '.join(p.action for p in one.permits)}"


def as_dict(one: AdapterCheck, config: Config, markets: Mapping[WorkloadName, PoolMemories]) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "workload": one.workload,
        one.role: one.name,
        "kind": one.kind,
        "well": one.ok,
        "took_s": round(one.took_s, 4),
    }
    if one.error:
        plain |= {"error": one.error, "remedy": one.remedy}
    if one.readings:
        plain["readings"] = {
            quantity: {"absent": r.reason}
            if isinstance(r, Absent)
            else {"value": r.value, "age_s": round(one.at - r.measured_at, 3), "missing": r.missing}
            for quantity, r in one.readings.items()
        }
    if one.status is not None:
        plain["status"] = {**asdict(one.status.value), "pending": one.status.value.pending}
        plain["age_s"] = round(one.at - one.status.measured_at, 3)
    if one.role == "pool":
        plain["lead_time_s"], plain["lead_times_measured"] = _usual(one, config, markets)
    if one.permits or one.permits_error:
        plain["permits"] = [asdict(p) for p in one.permits]
        plain["permits_error"] = one.permits_error
    return plain


def _reading(reading: Fresh[float] | Absent, max_age_s: float | None, now: float) -> str:
    if isinstance(reading, Absent):
        return f"absent, which is not zero ({reading.reason})"
    age_s = now - reading.measured_at
    bound = f"at least {reading.value:g} ({reading.missing})" if reading.missing else f"{reading.value:g}"
    if age_s < -1.0:
        return f"{bound}, measured {-age_s:.0f} s AHEAD of our clock"
    old = "" if max_age_s is None or age_s <= max_age_s else f": STALE, {max_age_s:g} s are allowed"
    return f"{bound}, {max(0.0, age_s):.0f} s old{old}"


def _status(status: Fresh[PoolStatus], now: float) -> Iterator[str]:
    yield f"{size_summary(status.value)}; {max(0.0, now - status.measured_at):.0f} s old"
    yield from (f"  {remark}" for remark in remarks(status.value))


def _lead_time(one: AdapterCheck, config: Config, markets: Mapping[WorkloadName, PoolMemories]) -> str:
    usual_s, measured = _usual(one, config, markets)
    source = f"the 0.9 quantile of {measured} starts on record" if measured else "as configured; none on record"
    return f"from decision to serving: {usual_s:.0f} s, {source}"


def _usual(one: AdapterCheck, config: Config, markets: Mapping[WorkloadName, PoolMemories]) -> tuple[float, int]:
    prior_s = float(config.workloads[one.workload].spec.pools[PoolName(one.name)].lead_time_s)
    seen = markets[one.workload].of(PoolName(one.name)).lead_times
    usual_s = seen.usual_s(prior_s)
    return usual_s, len(seen) if usual_s != prior_s else 0


def _markets(config: Config, clock: Clock) -> dict[WorkloadName, PoolMemories]:
    """Return what the journal, if one is kept, remembers of each pool."""
    found = {name: PoolMemories() for name in config.workloads}
    directory = config.daemon.journal.directory
    if directory and Path(directory).is_dir():
        for name, ticks in tail(
            Path(directory), clock.now() - config.daemon.history_backfill_s, list(config.workloads)
        ).items():
            for tick in ticks:
                found[name].note(tick)
    return found
