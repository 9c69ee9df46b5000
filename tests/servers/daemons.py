"""Two daemons with high availability on a real API server, and their writes in its audit log.

Each write of a size carries its epoch in its field manager. Their leases are objects of the API server, or rows of a
database.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import yaml
from aiohttp import web
from yarl import URL

from scaler.clock import wall_time
from scaler.clouds.kubernetes.leases import NOTE
from scaler.config.load import load
from scaler.leases.fleet_shares import Share, decode
from scaler.leases.shard_map import shard_map
from tests.patience import PATIENCE_S
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.kube_real import KubeNamespace, kube_namespace
from tests.servers.postgresql import USER, execute
from tests.servers.site import listening
from tests.servers.tcp_fault import free_port

SHARDS: Final = 4
DURATION_S: Final = 8.0
CANDIDATES: Final = tuple(f"llm-{n}" for n in range(64))
"""Names of workloads, of which the rig takes one for each shard."""
ACCOUNTS: Final = ("a", "b", "c")
HOSTS: Final = {"a": "127.0.0.1", "b": "127.0.0.2", "c": "127.0.0.3", "candidates": "127.0.0.4"}
"""Addresses of the daemons' servers, which have one port."""
LEASES: Final = {
    "apiGroups": ["coordination.k8s.io"],
    "resources": ["leases"],
    "verbs": ["get", "list", "watch", "create", "patch", "delete"],
}
API: Final = "ha.example.com/v1"
ENGINES: Final = {"apiGroups": ["ha.example.com"], "resources": ["engines"], "verbs": ["get", "list", "watch"]}
SCALES: Final = {"apiGroups": ["ha.example.com"], "resources": ["engines/scale"], "verbs": ["get", "patch"]}
RBAC: Final = "apis/rbac.authorization.k8s.io/v1"
PRICE_USD_PER_HOUR: Final = 2.5
"""Price of each replica. USD per hour."""


@dataclass(frozen=True)
class Write:
    """A write of a size that the API server accepted."""

    user: str
    target: str
    epoch: int
    at: float
    size: int


class Demand:
    """A source whose value grows, so that each tick resizes; that of a workload in `idle` is 1."""

    def __init__(self) -> None:
        self.reads = 0
        self.idle: set[str] = set()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.reads += 1
        return web.json_response({"running": 1 if request.match_info["name"] in self.idle else self.reads})


class Rig:
    """A namespace with a workload for each shard, its object, and service accounts for three daemons.

    The objects are of a custom kind that no controller follows, so that no pod has to start.
    """

    def __init__(
        self,
        kube: KubeNamespace,
        demand: Demand,
        url: str,
        folder: Path,
        database: str,
        limits: Mapping[str, float],
        interval_s: float,
        workload: Mapping[str, Any],
        proxies: Mapping[str, str],
    ) -> None:
        self.interval_s = interval_s
        self.workload = workload
        self.proxies = proxies
        self.kube = kube
        self.demand = demand
        self.url = url
        self.folder = folder
        self.limits = limits
        self.database = database
        self.names: tuple[str, ...] = ()
        self.port = free_port()

    async def prepare(self) -> None:
        call, path = self.kube.call, self.kube.path
        await self.kube.kind("engines", "Engine", API, ".spec.replicas")
        role = {"metadata": {"name": "leases"}, "rules": [LEASES, ENGINES, SCALES]}
        await call("POST", path("roles", api=RBAC), role)
        for account in ACCOUNTS:
            await call("POST", path("serviceaccounts", api="api/v1"), {"metadata": {"name": account}})
            for granted in ("forescale", "leases"):
                binding = {
                    "metadata": {"name": f"{account}-{granted}"},
                    "roleRef": {"apiGroup": RBAC.split("/")[1], "kind": "Role", "name": granted},
                    "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": self.kube.namespace}],
                }
                await call("POST", path("rolebindings", api=RBAC), binding)
            request = {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": 86_400},
            }
            token = await call("POST", path("serviceaccounts", f"{account}/token", api="api/v1"), request)
            name = f"{self.kube.namespace}-{account}.json"
            proxy_url = self.proxies.get(account, "")
            kubeconfig = self.kube.plane.write_kubeconfig(name, token["status"]["token"], proxy_url=proxy_url)
            self.names = self.names or self.one_per_shard(kubeconfig)
            self.configure(account, kubeconfig, self.names)
        for name in self.names:
            engine = {"apiVersion": API, "kind": "Engine", "metadata": {"name": name}, "spec": {"replicas": 1}}
            await call("POST", path("engines", api=f"apis/{API}"), engine)

    def one_per_shard(self, kubeconfig: Path) -> tuple[str, ...]:
        """Return the name of a workload for each shard: the hash depends on the namespace."""
        self.configure("candidates", kubeconfig, CANDIDATES)
        placed = shard_map(load([self.folder / "candidates"]), SHARDS).shards
        names = {shard: str(name) for name, shard in placed.items()}
        assert len(names) == SHARDS
        return tuple(names.values())

    def configure(self, account: str, kubeconfig: Path, names: tuple[str, ...]) -> None:
        config, cluster = self.folder / account, {"kubeconfig": str(kubeconfig)}
        config.mkdir()
        lease: dict[str, Any] = {"namespace": self.kube.namespace, "cluster": cluster}
        if self.database:
            server = {"host": "127.0.0.1", "port": URL(self.database).port, "database": "postgres", "username": USER}
            lease = {"kind": "postgresql", "server": server}
        settings = {
            "listen": f"{HOSTS[account]}:{self.port}",
            "journal": {"directory": str(self.folder / f"journal-{account}")},
            "snapshots": {"directory": str(self.folder / "snapshots"), "interval_s": 1.0},
            "ha": {
                "shards": SHARDS,
                "peer_url": f"http://{HOSTS[account]}:{self.port}",
                "lease": {**lease, "duration_s": DURATION_S, "renew_s": 2.0},
            },
            "fleet": dict(self.limits) if account != "candidates" else {},
        }
        (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
        unwatched = {"watch_pods": False, "price_usd_per_hour": PRICE_USD_PER_HOUR}
        for name in names:
            engine = {"api_version": API, "object_kind": "Engine", "name": name, "namespace": self.kube.namespace}
            document = {
                "workload": name,
                "max_replicas": 100_000,
                "interval_s": self.interval_s,
                "deadline_s": 1.5,
                "sources": {
                    "engines": {"kind": "http_json", "url": self.url + name, "values": {"running": "/running"}}
                },
                "policies": {"running": {"kind": "metric", "quantity": "running", "target": 1}},
                "pools": {"gpus": {"kind": "kubernetes", **engine, **unwatched, "cluster": cluster}},
                "tolerance": 0.0,
                "scale_up": {"period_s": 1.0, "max_replicas": 9},
                **self.workload,
            }
            (config / f"{name}.yaml").write_text(yaml.safe_dump(document))

    @asynccontextmanager
    async def run(self, account: str) -> AsyncIterator[Daemon]:
        async with daemon(
            str(self.folder / account), journal=self.folder / f"journal-{account}", start_s=PATIENCE_S
        ) as d:
            yield d

    def writes(self) -> list[Write]:
        """Return the accepted writes of sizes by the daemons, in the order of the API server."""
        return [w for event in self.kube.plane.audit_events() if (w := self._write(event))]

    def granted(self) -> list[dict[int, Share]]:
        """Return the shares of the fleet's limits in each record that the API server accepted."""
        shares: list[dict[int, Share]] = []
        for event in self.kube.plane.audit_events():
            body = event.get("requestObject") or {}
            metadata, lease = body.get("metadata", {}), event.get("objectRef") or {}
            is_ours = lease.get("namespace") == self.kube.namespace and lease.get("resource") == "leases"
            if is_ours and metadata.get("name") == "forescale-fleet" and event["responseStatus"]["code"] < 300:
                shares.append(decode(metadata["annotations"][NOTE]))
        return shares

    def written(self, user: str, since: float) -> set[str]:
        """Return the targets that a daemon has written since then."""
        return {w.target for w in self.writes() if w.user == user and w.at > since}

    def last_written(self, user: str) -> set[str]:
        """Return the targets whose last write is a daemon's."""
        last = {w.target: w.user for w in self.writes()}
        return {target for target, writer in last.items() if writer == user}

    async def is_shared(self, a: Daemon, b: Daemon) -> None:
        """Return when each daemon holds half of the shards, and writes the sizes of half of the workloads."""
        half = SHARDS // 2
        await holds(a, half)
        await holds(b, half)
        await until(lambda: len(self.last_written("a")) == len(self.last_written("b")) == half, b)

    async def first_taken(self, since: float) -> float:
        """Return when the first lease was taken after a time."""
        taken: list[float]
        if self.database:
            query = "SELECT extract(epoch FROM acquired_at)::float8 FROM forescale_leases"
            taken = [at for (at,) in await asyncio.to_thread(execute, self.database, query)]
        else:
            leases = await self.kube.call("GET", self.kube.path("leases", api="apis/coordination.k8s.io/v1"))
            taken = [datetime.fromisoformat(lease["spec"]["acquireTime"]).timestamp() for lease in leases["items"]]
        return min(at for at in taken if at > since)

    def _write(self, event: dict[str, Any]) -> Write | None:
        user, target = event["user"].get("username", ""), event.get("objectRef") or {}
        is_ours = user.startswith(f"system:serviceaccount:{self.kube.namespace}:")
        if not is_ours or event["verb"] != "patch" or target.get("subresource") != "scale":
            return None
        if event["responseStatus"]["code"] >= 300:
            return None
        (manager,) = parse_qs(urlsplit(event["requestURI"]).query)["fieldManager"]
        at = datetime.fromisoformat(event["requestReceivedTimestamp"]).timestamp()
        size = event["requestObject"]["spec"]["replicas"]
        return Write(user.rpartition(":")[2], target["name"], int(manager.removeprefix("forescale-epoch-")), at, size)

    def sizes(self) -> list[dict[str, int]]:
        """Return the sizes of all objects before the first write and after each one."""
        sizes = [dict.fromkeys(self.names, 1)]
        for write in self.writes():
            sizes.append(sizes[-1] | {write.target: write.size})
        return sizes

    def check_laws(self) -> None:
        """Check the epochs of all writes, and that each target was written."""
        assert {write.target for write in self.writes()} == set(self.names)
        self.check_epochs()

    def check_epochs(self) -> None:
        """Check that each target has one writer in each epoch, and that epochs never fall."""
        for name in self.names:
            own = [w for w in self.writes() if w.target == name]
            epochs = [w.epoch for w in own]
            assert epochs == sorted(epochs), f"{name}: a write of an older epoch follows: {epochs}"
            for first, second in pairwise(own):
                assert first.epoch != second.epoch or first.user == second.user, f"{name}: {first}, {second}"


async def held(d: Daemon) -> dict[str, int]:
    """Return the epochs of the shards that a daemon holds."""
    _, text = await d.get("healthz")
    shards: dict[str, int] = json.loads(text)["shards"]
    return shards


async def holds(d: Daemon, shards: int) -> None:
    """Return when a daemon holds as many shards."""

    async def enough() -> bool:
        return len(await held(d)) == shards

    await until(enough, d)


@asynccontextmanager
async def rig(
    folder: Path,
    database: str = "",
    limits: Mapping[str, float] | None = None,
    interval_s: float = 2.0,
    demand: Demand | None = None,
    workload: Mapping[str, Any] | None = None,
    proxies: Mapping[str, str] | None = None,
) -> AsyncIterator[Rig]:
    """Create the namespace, and a source of demand.

    The leases are in the database at this URL, if there is one. `limits` are those of the fleet. `workload` has further
    settings of each one, and `proxies` the URLs of HTTP proxies to the API server, by account.
    """
    demand = demand or Demand()
    app = web.Application()
    app.router.add_get("/{name}", demand.answer)
    async with AsyncExitStack() as stack:
        kube = await stack.enter_async_context(kube_namespace())
        port = await stack.enter_async_context(listening(app))
        opened = Rig(
            kube,
            demand,
            f"http://127.0.0.1:{port}/",
            folder,
            database,
            limits or {},
            interval_s,
            workload or {},
            proxies or {},
        )
        await opened.prepare()
        yield opened


def now_s() -> float:
    """Return the time of the API server's audit log."""
    return datetime.fromisoformat(wall_time()).timestamp()
