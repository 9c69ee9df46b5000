"""``forescale approve``: writes a person's approval of a plan into the workload's file."""

from __future__ import annotations

import argparse
from pathlib import Path

from scaler.config.document import read
from scaler.config.files import Unreadable, files_of, read_text
from scaler.config.kinds.bedrock_pools import BedrockProvisioned
from scaler.config.load import Config, load
from scaler.config.scalar_edit import NoPlace, replace_text, with_word
from scaler.ports import Misconfigured
from scaler.registry import did_you_mean


def command(args: argparse.Namespace) -> int:
    paths = [Path(p) for p in args.config]
    workload, pool, spec = _planned(load(paths), args.pool)
    plan = spec.plan_text(workload, pool)
    if args.plan_id != spec.plan_id(workload, pool):
        raise Misconfigured(
            f"PLAN_ID: {args.plan_id!r} is not the plan of {args.pool}. The file states {plan}: review it"
        )
    if spec.approve == args.plan_id:
        print(f"{args.pool}: {plan} was approved before")
        return 0
    path = _approve(paths, workload, pool, args.plan_id)
    print(f"{path}: approved {plan} for {args.pool}. A running daemon reads the file again and begins")
    return 0


def _planned(config: Config, place: str) -> tuple[str, str, BedrockProvisioned]:
    """Return the workload, the pool and its record. Raises `Misconfigured`."""
    plans = {
        f"{name}/{pool}": (str(name), str(pool), spec)
        for name, workload in config.workloads.items()
        for pool, spec in workload.spec.pools.items()
        if isinstance(spec, BedrockProvisioned)
    }
    if place not in plans:
        others = f"the pools with plans are {', '.join(plans)}" if plans else "no pool of these files has a plan"
        raise Misconfigured(f"WORKLOAD/POOL: {place!r} has no plan; {did_you_mean(place, list(plans)) or others}")
    return plans[place]


def _approve(paths: list[Path], workload: str, pool: str, plan_id: str) -> Path:
    """Set `approve` in the file of the workload, and return the file. Raises `Misconfigured`."""
    keys = ("pools", pool, "approve")
    path, number = _document_of(paths, workload)
    try:
        replace_text(path, with_word(read_text(path), number, keys, plan_id))
    except NoPlace as e:
        raise Misconfigured(
            f'{path}: {".".join(keys)} cannot be changed alone, as an anchor shares it. Set it to "{plan_id}" by hand'
        ) from e
    except Unreadable as e:
        raise Misconfigured(f'{path}: {e.rule}. Set {".".join(keys)} to "{plan_id}" by hand') from e
    return path


def _document_of(paths: list[Path], workload: str) -> tuple[Path, int]:
    """Return the file of a workload, and the number of its document in it."""
    return next(
        (path, number)
        for path in files_of(paths)[0]
        for number, document in enumerate(read(path)[0])
        if document.data.get("workload") == workload
    )
