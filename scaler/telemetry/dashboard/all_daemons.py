"""The list of workloads of all daemons: this one's, and those that its peers respond with.

The revision and the generation of the list name those of each daemon. Example: the revision `own=12;b=7` is 12 of this
daemon and 7 of `b`. Where a peer does not answer, the generation changes, and its workloads have the reason instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.ports import PortError
from scaler.telemetry.dashboard.fleet_view import fleet_sums
from scaler.telemetry.http.peers import Peers

OWN: Final = "own"
NO_SHARDS: Final[dict[str, Any]] = {"daemon": None, "daemons": {}, "shards": []}
"""The table of shards of a daemon without peers."""


def split_revision(text: str | None) -> Mapping[str, str]:
    """Return the revision of each daemon in that of a list."""
    return dict(part.partition("=")[::2] for part in (text or "").split(";") if "=" in part)


async def list_of_all(own: dict[str, Any], since: Mapping[str, str], peers: Peers) -> dict[str, Any]:
    """Return the list of all daemons.

    A workload that two daemons list, as in a handover, is this daemon's.
    """
    names = sorted(peers.urls())
    answers = await asyncio.gather(*(_list(peers, peer, since.get(peer)) for peer in names))
    lines = {line["workload"]: line for line in own["workloads"]}
    known = lines.keys() | set(own["starting"])
    generations, revisions = [str(own["generation"])], [f"{OWN}={own['revision']}"]
    body = {**own, "starting": list(own["starting"]), "stalled": dict(own["stalled"]), "unanswered": {}}
    for peer, answer in zip(names, answers, strict=True):
        if isinstance(answer, str):
            body["unanswered"] |= {name: answer for name in peers.workloads_of(peer) if name not in known}
            generations.append(f"{peer}:none")
            continue
        generations.append(f"{peer}:{answer['generation']}")
        revisions.append(f"{peer}={answer['revision']}")
        lines = {line["workload"]: line for line in answer["workloads"]} | lines
        body["starting"] += answer["starting"]
        body["stalled"] = {**answer["stalled"], **body["stalled"]}
        body["count"] += answer["count"]
        body["at"] = max(filter(None, (body["at"], answer["at"])), default=None)
    body["count"] += len(body["unanswered"])
    return {
        **body,
        "generation": "|".join(generations),
        "revision": ";".join(revisions),
        "workloads": list(lines.values()),
    }


async def _list(peers: Peers, peer: str, since: str | None) -> dict[str, Any] | str:
    """Return a peer's list, or why there is none."""
    try:
        answer = await peers.get(peer, "/api/workloads" + (f"?since={since}" if since else ""))
        with unavailable_if_malformed(f"daemon {peer}"):
            return {
                **answer,
                "count": int(answer["count"]),
                "generation": str(answer["generation"]),
                "revision": int(answer["revision"]),
                "starting": list(answer["starting"]),
                "stalled": dict(answer["stalled"]),
                "workloads": [line for line in answer["workloads"] if isinstance(line["workload"], str)],
            }
    except PortError as e:
        return str(e)


async def fleet_of_all(own: dict[str, Any], peers: Peers) -> dict[str, Any]:
    """Return the fleet of all daemons.

    A workload that two daemons list, as in a handover, is this daemon's. The workloads of a daemon without a response
    are in no sum: `unanswered` names them.
    """
    names = sorted(peers.urls())
    answers = await asyncio.gather(*(_fleet(peers, peer) for peer in names))
    workloads = {line["workload"]: line for line in own["workloads"]}
    known = workloads.keys() | set(own["starting"])
    body = {**own, "starting": list(own["starting"]), "unanswered": {}}
    generations, since = [str(own["generation"])], [own["interruptions_since"]]
    for peer, answer in zip(names, answers, strict=True):
        if isinstance(answer, str):
            body["unanswered"] |= {name: answer for name in peers.workloads_of(peer) if name not in known}
            generations.append(f"{peer}:none")
            continue
        generations.append(f"{peer}:{answer['generation']}")
        workloads = {line["workload"]: line for line in answer["workloads"]} | workloads
        body["starting"] += [name for name in answer["starting"] if name not in known]
        body["at"] = max(filter(None, (body["at"], answer["at"])), default=None)
        since.append(answer["interruptions_since"])
    lines = list(workloads.values())
    return {
        **body,
        "generation": "|".join(generations),
        "count": len({*workloads, *body["starting"], *body["unanswered"]}),
        "interruptions_since": min(filter(None, since), default=None),
        **await asyncio.to_thread(fleet_sums, lines),
        "workloads": lines,
    }


async def _fleet(peers: Peers, peer: str) -> dict[str, Any] | str:
    """Return a peer's fleet, or why there is none."""
    try:
        answer = await peers.get(peer, "/api/fleet")
        with unavailable_if_malformed(f"daemon {peer}"):
            fleet_sums(answer["workloads"])
            return {
                "generation": str(answer["generation"]),
                **{key: None if answer[key] is None else float(answer[key]) for key in ("at", "interruptions_since")},
                "starting": list(answer["starting"]),
                "workloads": [line for line in answer["workloads"] if isinstance(line["workload"], str)],
            }
    except PortError as e:
        return str(e)


def shard_table(peers: Peers, now: float) -> dict[str, Any]:
    """Return the holder and the epoch of each shard, and the live daemons.

    An epoch is the number of handovers.
    """
    leases = peers.leases
    workloads: dict[int, list[str]] = {}
    for name, shard in leases.map.shards.items():
        workloads.setdefault(shard, []).append(name)
    shards = []
    for shard, lease in sorted(leases.shards.items()):
        record = None if lease.observed is None else lease.observed.record
        epoch = None if record is None else record.transitions
        holder = lease.holder(now) or None
        shards.append({"shard": shard, "holder": holder, "epoch": epoch, "workloads": workloads.get(shard, [])})
    urls = {**peers.urls(), leases.identity: leases.url}
    return {"daemon": leases.identity, "shards": shards, "daemons": urls}
