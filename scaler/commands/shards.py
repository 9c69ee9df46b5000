"""``forescale shards``: shows which daemon holds which shard, from the leases."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policies.quota.fleet_quota import FleetLimits
from policies.quota.shard_shares import NAMES, limited_units
from scaler.app import make_clock
from scaler.config.high_availability import HighAvailability
from scaler.config.load import Config, load
from scaler.leases.fleet_shares import Share, decode
from scaler.leases.opening import open_store
from scaler.leases.protocol import Record
from scaler.leases.shard_leases import address_difference
from scaler.leases.shard_map import shard_map
from scaler.leases.store import LeaseNames
from scaler.ports import Misconfigured
from scaler.printable import printable
from scaler.shared_resources import Resources


def command(args: argparse.Namespace) -> int:
    config = load(Path(p) for p in args.config)
    spec = config.daemon.ha
    if spec is None:
        raise Misconfigured("daemon.ha is not set: one daemon runs all workloads, without shards")
    records = asyncio.run(_records(spec, config))
    shards = _shards(spec, config, records)
    members = _members(spec, config, records, shards)
    if args.json:
        print(json.dumps({"shards": shards, "members": members}, indent=2))
    else:
        print("\n".join(lines(shards, members)))
    return 0 if all(shard["holder"] for shard in shards) else 1


async def _records(spec: HighAvailability, config: Config) -> Mapping[str, Record]:
    async with Resources() as resources:
        store = await open_store(spec, resources, make_clock(config.daemon))
        return await store.list()


def _shards(spec: HighAvailability, config: Config, records: Mapping[str, Record]) -> list[dict[str, Any]]:
    names, workloads = LeaseNames.of(spec), defaultdict[int, list[str]](list)
    for workload, shard in shard_map(config, spec.shards).shards.items():
        workloads[shard].append(workload)
    return [_shard(n, records.get(names.shard(n)), sorted(workloads[n])) for n in range(spec.shards)]


def _shard(number: int, record: Record | None, workloads: list[str]) -> dict[str, Any]:
    return {
        "shard": number,
        "holder": record.holder if record else "",
        "epoch": record.transitions if record else None,
        "renewed": record.renewed if record else "",
        "workloads": workloads,
    }


def _members(
    spec: HighAvailability, config: Config, records: Mapping[str, Record], shards: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    names = LeaseNames.of(spec)
    record = records.get(names.fleet())
    shares = decode(record.note) if record else {}
    addresses = shard_map(config, spec.shards).addresses
    members: list[dict[str, Any]] = []
    for name, member in sorted(records.items()):
        if names.is_member(name):
            own = [shares[s["shard"]] for s in shards if s["holder"] == member.holder and s["shard"] in shares]
            members.append(
                {
                    "member": member.holder,
                    "renewed": member.renewed,
                    "share": _share(config.daemon.fleet, own),
                    "problem": address_difference(addresses, member.note),
                }
            )
    return members


def _share(fleet: FleetLimits, shares: list[Share]) -> dict[str, dict[str, float]]:
    """Return the amounts of each limited unit that a daemon was granted, and uses."""
    return {
        unit: {
            "granted": sum(getattr(share.granted, unit) for share in shares),
            "used": sum(getattr(share.use.used, unit) for share in shares),
        }
        for unit in limited_units(fleet)
    }


def lines(shards: list[dict[str, Any]], members: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the table of shards, and the daemons with the number of their shards."""
    width = max([len("no holder"), *(len(shard["holder"]) for shard in shards)])
    yield f"{'shard':>5}  {'epoch':>7}  {'holder':<{width}}  workloads"
    for shard in shards:
        epoch = "unknown" if shard["epoch"] is None else shard["epoch"]
        workloads = ", ".join(shard["workloads"]) or "none"
        yield f"{shard['shard']:>5}  {epoch:>7}  {printable(shard['holder'] or 'no holder'):<{width}}  {workloads}"
    yield ""
    for member in members:
        held = sum(shard["holder"] == member["member"] for shard in shards)
        shards_text = f"{held} shard{'s' * (held != 1)}"
        renewed = member["renewed"] or "unknown"
        share = "".join(
            f", {amount['used']:g} of {amount['granted']:g} {NAMES[unit]}" for unit, amount in member["share"].items()
        )
        yield f"{printable(member['member'])}: {shards_text}, renewed {printable(renewed)} by its clock{share}"
        if member["problem"]:
            yield f"  {printable(member['problem'])}"
