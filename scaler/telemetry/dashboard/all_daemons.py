"""The list of workloads of all daemons: this one's, and those that its peers respond with.

The revision and the generation of the list name those of each daemon. Example: the revision `own=12;b=7` is 12 of this
daemon and 7 of `b`. Where a peer does not answer, the generation changes, and its workloads have the reason instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.ports import PortError
from scaler.telemetry.dashboard.fleet_view import fleet_sums
from scaler.telemetry.http.peers import Peers

Body: TypeAlias = dict[str, Any]
OWN: Final = "own"
NO_SHARDS: Final[Body] = {"daemon": None, "daemons": {}, "shards": []}
"""The table of shards of a daemon without peers."""


def split_revision(text: str | None) -> Mapping[str, str]:
    """Return the revision of each daemon in that of a list."""
    return dict(part.partition("=")[::2] for part in (text or "").split(";") if "=" in part)


async def list_of_all(own: Body, since: Mapping[str, str], peers: Peers) -> Body:
    """Return the list of all daemons."""
    body, answers = await _join(own, peers, lambda peer: _list(peers, peer, since.get(peer)))
    stalled: Body = {}
    for answer in (own, *answers.values()):
        stalled = {**answer["stalled"], **stalled}
    return {
        **body,
        "stalled": stalled,
        "count": own["count"] + sum(answer["count"] for answer in answers.values()) + len(body["unanswered"]),
        "revision": ";".join(f"{daemon}={answer['revision']}" for daemon, answer in [(OWN, own), *answers.items()]),
    }


async def fleet_of_all(own: Body, peers: Peers) -> Body:
    """Return the fleet of all daemons.

    The workloads of a daemon without a response are in no sum: `unanswered` names them.
    """
    body, answers = await _join(own, peers, lambda peer: _fleet(peers, peer))
    lines = body["workloads"]
    since = [answer["interruptions_since"] for answer in (own, *answers.values())]
    return {
        **body,
        "count": len({*(line["workload"] for line in lines), *body["starting"], *body["unanswered"]}),
        "interruptions_since": min(filter(None, since), default=None),
        **await asyncio.to_thread(fleet_sums, lines),
    }


async def _join(
    own: Body, peers: Peers, read: Callable[[str], Awaitable[Body | str]]
) -> tuple[Body, Mapping[str, Body]]:
    """Return this daemon's body with the workloads of all, and the answers of the peers.

    A workload that two daemons list, as in a handover, is this daemon's.
    """
    names = sorted(peers.urls())
    answers: dict[str, Body] = {}
    lines = {line["workload"]: line for line in own["workloads"]}
    known = lines.keys() | set(own["starting"])
    starting, unanswered, generations = list(own["starting"]), dict[str, str](), [str(own["generation"])]
    for peer, answer in zip(names, await asyncio.gather(*map(read, names)), strict=True):
        if isinstance(answer, str):
            unanswered |= {name: answer for name in peers.workloads_of(peer) if name not in known}
            generations.append(f"{peer}:none")
            continue
        answers[peer] = answer
        generations.append(f"{peer}:{answer['generation']}")
        lines = {line["workload"]: line for line in answer["workloads"]} | lines
        starting += [name for name in answer["starting"] if name not in known]
    joined = {
        "generation": "|".join(generations),
        "at": max(filter(None, (answer["at"] for answer in (own, *answers.values()))), default=None),
        "starting": starting,
        "unanswered": unanswered,
        "workloads": list(lines.values()),
    }
    return {**own, **joined}, answers


async def _list(peers: Peers, peer: str, since: str | None) -> Body | str:
    """Return a peer's list, or why there is none."""
    path = "/api/workloads" + (f"?since={since}" if since else "")
    return await _read(peers, peer, path, {"count": int, "revision": int, "stalled": dict})


async def _fleet(peers: Peers, peer: str) -> Body | str:
    """Return a peer's fleet, or why there is none."""
    return await _read(peers, peer, "/api/fleet", {"interruptions_since": _time, "workloads": _summable})


async def _read(peers: Peers, peer: str, path: str, parts: Mapping[str, Callable[[Any], object]]) -> Body | str:
    """Return the `parts` of a peer's answer and the common ones, or why there is none."""
    common: Mapping[str, Callable[[Any], object]] = {
        "generation": str,
        "at": _time,
        "starting": list,
        "workloads": _named,
    }
    try:
        answer = await peers.get(peer, path)
        with unavailable_if_malformed(f"daemon {peer}"):
            return {key: parse(answer[key]) for key, parse in {**common, **parts}.items()}
    except PortError as e:
        return str(e)


def _time(value: Any) -> float | None:
    return None if value is None else float(value)


def _named(lines: Any) -> list[Body]:
    return [line for line in lines if isinstance(line["workload"], str)]


def _summable(lines: Any) -> list[Body]:
    fleet_sums(lines)
    return _named(lines)


def shard_table(peers: Peers, now: float) -> Body:
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
