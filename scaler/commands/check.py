"""``forescale check``: is this configuration fit to run?"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from policies.model import Fresh
from scaler.app import make_clock
from scaler.commands.doctor import permits
from scaler.config.load import load
from scaler.config.problems import ConfigError
from scaler.diagnostics import AdapterCheck, check_adapters
from scaler.registry import kind_of


def command(args: argparse.Namespace) -> int:
    try:
        config = load(Path(p) for p in args.config)
    except ConfigError as e:
        if not args.json:
            raise
        print(json.dumps({"valid": False, "problems": [p.as_dict() for p in e.problems]}, indent=2))
        return 2
    found = asyncio.run(check_adapters(config, make_clock(config.daemon))) if args.live else []
    well = all(one.ok for one in found)
    if args.json:
        live = {"live": [_as_dict(one) for one in found]} if args.live else {}
        print(json.dumps({"valid": True, "workloads": sorted(config.workloads), **live}))
        return 0 if well else 1
    for name, workload in config.workloads.items():
        spec = workload.spec
        print(f"{name}: {spec.min_replicas} to {spec.max_replicas} replicas, a turn every {spec.interval_s:g} s")
        for policy, parameters in spec.policies.items():
            read = f" reads {', '.join(parameters.needs())} of {parameters.source}" if parameters.needs() else ""
            print(f"  policy {policy} ({kind_of('policy', parameters)}){read}")
        for pool, parameters in spec.pools.items():
            print(f"  pool {pool} ({kind_of('pool', parameters)})")
    for one in found:
        print(f"{'ok  ' if one.ok else 'FAIL'} {one.workload} {one.role} {one.name} ({one.kind}): {_answer(one)}")
        for line in permits(one):
            print(f"       {line}")
    problems = sum(not one.ok for one in found)
    print(
        f"{len(config.workloads)} workload{'s' * (len(config.workloads) != 1)}, "
        + (
            f"{problems} of {len(found)} sources and pools do not answer as they must"
            if problems
            else "no problem found"
        )
    )
    return 0 if well else 1


def _answer(one: AdapterCheck) -> str:
    """Return what it answered, in one line."""
    if one.error:
        return f"{one.error} ({one.remedy})"
    if one.status is not None:
        return f"{one.status.value.desired} asked for, {one.status.value.ready} ready"
    told = {q: r for q, r in one.readings.items() if isinstance(r, Fresh)}
    absent = [q for q in one.readings if q not in told]
    words = ", ".join(f"{q} {r.value:g}" for q, r in told.items()) or "nothing can be told"
    return words + (f"; absent: {', '.join(absent)}" if absent else "")


def _as_dict(one: AdapterCheck) -> dict[str, object]:
    permitted = [{"action": p.action, "granted": p.granted, "detail": p.detail} for p in one.permits]
    return {
        "workload": one.workload,
        one.role: one.name,
        "kind": one.kind,
        "well": one.ok,
        "answer": _answer(one),
        "permits": permitted,
        "permits_error": one.permits_error,
    }
