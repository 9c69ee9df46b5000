"""Two daemons that share workloads: each answers for both, by real requests between their servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from policies.model import WorkloadName
from scaler.clock import SystemClock, lease_clock_s
from scaler.config.daemon import ServerSpec
from scaler.config.secret import Secret
from scaler.leases.protocol import Record
from scaler.leases.shard_leases import ShardLeases, fingerprint_in, note_of
from scaler.leases.shard_map import ShardMap
from scaler.leases.store import LeaseNames
from scaler.ports import Misconfigured
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.health import Health
from scaler.telemetry.http.access import AccessControl
from scaler.telemetry.http.peers import PEER, Peers, own_url, proof
from scaler.telemetry.http.server import application
from scaler.telemetry.metrics import Metrics
from tests.patience import PATIENCE_S
from tests.servers.dashboard import Known, spec, tick
from tests.servers.site import listening

A, B = WorkloadName("a"), WorkloadName("b")
MAP = ShardMap({A: 0, B: 1}, {}, {0: "one", 1: "two"})
LONG_S = 1e6
TOKEN = "a-token"


@dataclass
class Member:
    """A daemon `identity` that runs the workload of the same name, at `url`."""

    identity: str
    url: str
    dashboard: Dashboard
    access: AccessControl
    leases: ShardLeases
    http: aiohttp.ClientSession

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Return the status and the JSON of a response to a user."""
        own = headers or {"Authorization": f"Bearer {TOKEN}"}
        async with self.http.get(self.url + path, headers=own) as response:
            return response.status, await response.json() if response.content_type == "application/json" else None


def leases_of(identity: str, own: str, urls: dict[str, str]) -> ShardLeases:
    """Return the leases as a daemon knows them: `a` holds shard 0 in epoch 3, and `b` shard 1 in epoch 4."""
    leases, now = ShardLeases(identity, LeaseNames("forescale"), 2, LONG_S), lease_clock_s()
    leases.map, leases.url = MAP, own
    for shard, holder in enumerate(("a", "b")):
        leases.observe(f"forescale-shard-{shard}", Record(holder, 3 + shard, LONG_S, "1"), now)
    for member, url in urls.items():
        leases.observe(f"forescale-member-{member}", Record(member, 0, LONG_S, "1", note_of(MAP, url)), now)
    return leases


@asynccontextmanager
async def two_daemons(published: str | None = None) -> AsyncIterator[tuple[Member, Member]]:
    """Open two daemons on one port of two addresses. `b` publishes `published` in place of its URL."""
    members: list[Member] = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        port = 0
        for identity, host in (("a", "127.0.0.1"), ("b", "127.0.0.2")):
            known = Known([WorkloadName(identity)], specs={identity: spec(identity)})
            dashboard = Dashboard("1", known)
            dashboard.observe(tick(identity))
            access = AccessControl(ServerSpec(token=Secret(env="PEERS_TOKEN")), host)
            app = application(Metrics("1"), Health({}, SystemClock()), dashboard, access)
            port = await stack.enter_async_context(listening(app, host, port))
            url = f"http://{host}:{port}"
            members.append(Member(identity, url, dashboard, access, leases_of(identity, url, {}), http))
        a, b = members
        urls = {"a": a.url, "b": b.url if published is None else published}
        for member in members:
            member.leases = leases_of(member.identity, member.url, urls)
            member.access.join(member.identity, member.url)
            token = Secret(env="PEERS_TOKEN")
            member.dashboard.peers = Peers(member.leases, token, http, limit_s=PATIENCE_S)
        yield a, b


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEERS_TOKEN", TOKEN)


async def test_each_daemon_lists_and_shows_the_workloads_of_both() -> None:
    async with two_daemons() as members:
        for member in members:
            status, body = await member.get("/api/workloads")
            assert status == 200
            assert {line["workload"] for line in body["workloads"]} == {"a", "b"}
            assert (body["count"], body["unanswered"]) == (2, {})
            for name in ("a", "b"):
                status, shown = await member.get(f"/api/workloads/{name}")
                assert (status, shown["workload"], len(shown["columns"]["at"])) == (200, name, 1)


async def test_list_continues_with_the_changes_of_both() -> None:
    async with two_daemons() as (a, b):
        _, first = await a.get("/api/workloads")
        _, same = await a.get(f"/api/workloads?since={first['revision']}")
        assert (same["generation"], same["workloads"]) == (first["generation"], [])
        b.dashboard.observe(tick("b", turn=1))
        _, changed = await a.get(f"/api/workloads?since={same['revision']}")
        assert [line["workload"] for line in changed["workloads"]] == ["b"]
        assert (await a.get("/api/workloads?since=own=x"))[0] == 400


async def test_request_of_a_peer_is_never_forwarded_and_needs_a_proof_for_this_daemon() -> None:
    async with two_daemons() as (a, _):
        at = f"{SystemClock().now():.0f}"
        path = "/api/workloads"
        good = {PEER: f"{at} {proof(TOKEN, 'a', path, at)}"}
        status, body = await a.get(path, **good)
        assert (status, [line["workload"] for line in body["workloads"]]) == (200, ["a"])
        assert (await a.get("/api/workloads/b", **{PEER: f"{at} {proof(TOKEN, 'a', '/api/workloads/b', at)}"}))[
            0
        ] == 404
        old = f"{SystemClock().now() - 120:.0f}"
        for refused in (
            at,
            f"{at} {proof('another', 'a', path, at)}",
            f"{at} {proof(TOKEN, 'b', path, at)}",
            f"{at} {proof(TOKEN, 'a', '/api/fleet', at)}",
            f"{old} {proof(TOKEN, 'a', path, old)}",
        ):
            assert (await a.get(path, **{PEER: refused}))[0] == 401


async def test_each_daemon_has_the_sums_of_the_fleet() -> None:
    async with two_daemons() as members:
        for member in members:
            _, fleet = await member.get("/api/fleet")
            assert {line["workload"] for line in fleet["workloads"]} == {"a", "b"}
            assert (fleet["count"], fleet["without_cost"], fleet["unanswered"]) == (2, 2, {})
            assert sum(place["replicas"] for place in fleet["places"]) == 8
            at = f"{SystemClock().now():.0f}"
            own = {PEER: f"{at} {proof(TOKEN, member.identity, '/api/fleet', at)}"}
            _, alone = await member.get("/api/fleet", **own)
            assert [line["workload"] for line in alone["workloads"]] == [member.identity]
            assert sum(place["replicas"] for place in alone["places"]) == 4


async def test_fleet_counts_a_workload_in_a_handover_once() -> None:
    async with two_daemons() as (a, b):
        b.dashboard.observe(tick("a"))
        _, fleet = await a.get("/api/fleet")
        assert sorted(line["workload"] for line in fleet["workloads"]) == ["a", "b"]
        assert sum(place["replicas"] for place in fleet["places"]) == 8


async def test_fleet_names_the_workloads_of_a_daemon_that_does_not_answer_and_sums_the_others() -> None:
    async with two_daemons(published="") as (a, _):
        status, fleet = await a.get("/api/fleet")
        assert status == 200
        assert [line["workload"] for line in fleet["workloads"]] == ["a"]
        assert "daemon b has not published its URL" in fleet["unanswered"]["b"]
        assert (fleet["count"], fleet["without_cost"]) == (2, 1)
        assert sum(place["replicas"] for place in fleet["places"]) == 4


@pytest.mark.parametrize("body", [b"[]", b'{"workloads": [{"workload": "b"}]}', b"{", b'{"workloads": null}'])
async def test_malformed_fleet_of_a_peer_counts_as_no_answer(body: bytes) -> None:
    async def malformed(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    async with two_daemons() as (a, _):
        app, port = web.Application(), int(a.url.rpartition(":")[2])
        app.router.add_get("/api/fleet", malformed)
        async with listening(app, "127.0.0.3", port):
            url = f"http://127.0.0.3:{port}"
            a.dashboard.peers = Peers(leases_of("a", a.url, {"b": url}), Secret(env="PEERS_TOKEN"), a.http)
            status, fleet = await a.get("/api/fleet")
        assert status == 200
        assert [line["workload"] for line in fleet["workloads"]] == ["a"]
        assert "daemon b" in fleet["unanswered"]["b"]


@pytest.mark.slow
async def test_peer_that_does_not_answer_is_marked_and_listed_whole_when_it_does_again() -> None:
    hangs = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hangs.wait()
        writer.close()

    async with two_daemons() as (a, _):
        server = await asyncio.start_server(hang, "127.0.0.3", int(a.url.rpartition(":")[2]))
        answering = a.dashboard.peers
        assert answering is not None
        _, whole = await a.get("/api/workloads")
        silent = f"http://127.0.0.3:{a.url.rpartition(':')[2]}"
        a.dashboard.peers = Peers(leases_of("a", a.url, {"b": silent}), Secret(env="PEERS_TOKEN"), a.http)
        status, body = await a.get("/api/workloads")
        assert status == 200
        assert [line["workload"] for line in body["workloads"]] == ["a"]
        assert "daemon b" in body["unanswered"]["b"]
        assert body["generation"] != whole["generation"]
        status, shown = await a.get("/api/workloads/b")
        assert status == 502
        assert "another daemon that does not answer" in shown["error"]
        a.dashboard.peers = answering
        _, again = await a.get(f"/api/workloads?since={body['revision']}")
        assert again["generation"] == whole["generation"]
        assert [line["workload"] for line in again["workloads"]] == ["b"]
        hangs.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize(
    "published",
    ["", "http://127.0.0.2:1", "https://127.0.0.2:PORT", "http://u:p@127.0.0.2:PORT", "http://b:PORT/x", "no"],
)
async def test_no_request_goes_to_a_url_that_is_none_of_a_peer(published: str) -> None:
    async with two_daemons() as (a, _):
        url = published.replace("PORT", a.url.rpartition(":")[2])
        peers = Peers(leases_of("a", a.url, {"b": url}), None, a.http)
        assert peers.urls() == {"b": ""}
        a.dashboard.peers = peers
        _, body = await a.get("/api/workloads")
        assert "set daemon.ha.peer_url" in body["unanswered"]["b"]


async def test_table_of_shards_has_holders_epochs_and_daemons() -> None:
    async with two_daemons() as (a, b):
        _, table = await a.get("/api/shards")
        assert [(s["shard"], s["holder"], s["epoch"], s["workloads"]) for s in table["shards"]] == [
            (0, "a", 3, ["a"]),
            (1, "b", 4, ["b"]),
        ]
        assert (table["daemon"], table["daemons"]) == ("a", {"a": a.url, "b": b.url})
        a.dashboard.peers = None
        assert await a.get("/api/shards") == (200, {"daemon": None, "daemons": {}, "shards": []})


def test_url_in_the_note_leaves_the_fingerprints_as_they_are() -> None:
    """A daemon of an older version reads the note's shards only."""
    note = note_of(MAP, "http://10.0.0.1:8080")
    assert [fingerprint_in(note, shard) for shard in (0, 1, 2)] == ["one", "two", ""]
    assert leases_of("b", "", {"a": "http://10.0.0.1:8080"}).agreed(0, lease_clock_s())


def test_own_url_has_the_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_IP", "10.0.0.7")
    assert own_url("http://{POD_IP}:8080") == "http://10.0.0.7:8080"
    monkeypatch.delenv("POD_IP")
    with pytest.raises(Misconfigured, match="environment variable POD_IP is not set"):
        own_url("http://{POD_IP}:8080")
