"""``forescale check``: is this configuration fit to run?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from scaler.config.load import load
from scaler.config.problems import ConfigError
from scaler.registry import kind_of


def command(args: argparse.Namespace) -> int:
    try:
        config = load(Path(p) for p in args.config)
    except ConfigError as e:
        if not args.json:
            raise
        print(json.dumps({"valid": False, "problems": [p.as_dict() for p in e.problems]}, indent=2))
        return 2
    if args.json:
        print(json.dumps({"valid": True, "workloads": sorted(config.workloads)}))
        return 0
    for name, workload in config.workloads.items():
        spec = workload.spec
        print(f"{name}: {spec.min_replicas} to {spec.max_replicas} replicas, a turn every {spec.interval_s:g} s")
        for policy, parameters in spec.policies.items():
            read = f" reads {', '.join(parameters.needs())} of {parameters.source}" if parameters.needs() else ""
            print(f"  policy {policy} ({kind_of('policy', parameters)}){read}")
        for pool, parameters in spec.pools.items():
            print(f"  pool {pool} ({kind_of('pool', parameters)})")
    print(f"{len(config.workloads)} workload{'s' * (len(config.workloads) != 1)}, no problem found")
    return 0
