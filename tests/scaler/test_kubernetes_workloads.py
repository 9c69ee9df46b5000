"""Workloads that objects of a real control plane define: created, edited, broken, mended and deleted under a daemon."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
import urllib.error
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from aiohttp import web

from policies.model import Fresh, Tick
from scaler.clock import SystemClock
from scaler.config.custom_resource import API_VERSION, definition
from scaler.config.load import load
from scaler.diagnostics import check_settings
from tests.deploy.charts import needs_kubectl
from tests.patience import PATIENCE_S
from tests.servers.certificate import self_signed
from tests.servers.control_plane import why_not
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.exporter import Engine, Exporter, exporter, vllm
from tests.servers.kube_real import RBAC, KubeNamespace, kube_namespace, manifests, path_of, workload
from tests.servers.site import listening

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")]
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
WEBHOOKS: Final = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
OWN: Final = {"holds": "writes"}
"""Label of the namespace whose writes a webhook holds."""
CONFIG_MAP: Final = {"forescale.io/workload": "true"}


class Cluster:
    """A namespace with the definition of Workload, the shipped permissions, and engines with a load."""

    def __init__(self, place: KubeNamespace, engines: Exporter, load: Engine, folder: Path) -> None:
        self.place = place
        self.engines = engines
        self.load = load
        self.folder = folder
        (folder / "etc").mkdir()

    @property
    def namespace(self) -> str:
        return self.place.namespace

    def path(self, name: str = "") -> str:
        return self.place.path("workloads", name, f"apis/{API_VERSION}")

    def spec(self, target: str = "llm", **changes: Any) -> dict[str, Any]:
        """Return a specification that needs one replica for 4 running requests."""
        return {
            "max_replicas": 12,
            "interval_s": 1.0,
            "deadline_s": 0.9,
            "scale_down": {"window_s": 0},
            "sources": {"engines": {"kind": "scrape", "preset": "vllm", "urls": [self.engines.url("one")]}},
            "policies": {"busy": {"kind": "concurrency", "target_per_replica": 4}},
            "pools": {"gpus": {"kind": "kubernetes", "name": target}},
            **changes,
        }

    async def create(self, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": API_VERSION, "kind": "Workload", "metadata": {"name": name}, "spec": spec}
        await self.place.call("POST", self.path(), body)

    async def edit(self, name: str, **changes: Any) -> None:
        await self.place.call("PATCH", self.path(name), {"spec": changes})

    async def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = (await self.place.call("GET", self.path(name))).get("status", {})
        return status

    async def condition(self, name: str, kind: str) -> dict[str, Any]:
        """Return a condition; its status is empty where the daemon has not written it."""
        conditions = (await self.status(name)).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {"status": ""})

    def requests(self, running: float) -> None:
        self.load.page = vllm({"num_requests_running": running, "num_requests_waiting": 0})

    @asynccontextmanager
    async def daemon(self, *args: str, **settings: Any) -> AsyncIterator[Daemon]:
        """Run the daemon for the workloads of the namespace."""
        cluster = {"kubeconfig": str(self.place.kubeconfig)}
        followed = {"namespaces": [self.namespace], "config_maps": True, "cluster": cluster, **settings}
        document = {
            "listen": "127.0.0.1:0",
            "config_poll_s": 0.5,
            "journal": {"directory": str(self.folder / "journal")},
            "kubernetes_workloads": followed,
        }
        (self.folder / "etc/daemon.yaml").write_text(yaml.safe_dump({"daemon": document}))
        async with daemon(str(self.folder / "etc"), *args, journal=self.folder / "journal") as running:
            yield running

    def kubectl(self, *words: str) -> str:
        command = ["kubectl", "--kubeconfig", str(self.place.plane.kubeconfig), "-n", self.namespace, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@asynccontextmanager
async def cluster_with_definition(folder: Path) -> AsyncIterator[Cluster]:
    load = Engine()
    async with kube_namespace(ready=None) as place, exporter({"one": load}) as engines:
        await install(place)
        opened = Cluster(place, engines, load, folder)
        opened.requests(8)
        yield opened


async def install(place: KubeNamespace) -> None:
    """Install the definition of Workload, and the shipped Role for it."""
    await place.create(DEFINITIONS, definition())
    for manifest in manifests("kubernetes-workloads"):
        if "subjects" in manifest:
            manifest["subjects"] = [{"kind": "User", "name": "scaler"}]
        await place.create(path_of(manifest, place.namespace), manifest)
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            await place.call("GET", place.path("workloads", api=f"apis/{API_VERSION}"))
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            break
    await place.permitted("list", "forescale.io/workloads", granted=True)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_with_definition(tmp_path) as opened:
        yield opened


async def test_a_workload_is_created_edited_broken_mended_and_deleted(cluster: Cluster) -> None:
    async with cluster.daemon() as running:
        await until(lambda: bool(running.address), running)
        await cluster.create("chat", cluster.spec())
        cluster.requests(20)
        await until(lambda: size_is(cluster, 5), running)

        await cluster.edit("chat", min_replicas=7)
        await until(lambda: size_is(cluster, 7), running)

        broken = {"min_replicas": 13}
        await cluster.edit("chat", **broken)
        await until(lambda: refused(cluster, "chat"), running)
        condition = await cluster.condition("chat", "Accepted")
        assert condition["reason"] == "Invalid"
        assert condition["message"] == (
            f"Workload {cluster.namespace}/chat: min_replicas = 13: must be at most max_replicas, 12"
            " (lower it, or raise max_replicas)"
        )
        assert (await cluster.status("chat"))["observedGeneration"] == condition["observedGeneration"] == 3
        assert await cluster.place.size() == 7, "the last valid version stays in force"
        ticks = len(running.ticks())
        await until(lambda: len(running.ticks()) > ticks, running)

        await cluster.edit("chat", min_replicas=1, max_replicas=6)
        await until(lambda: size_is(cluster, 5), running)
        await until(lambda: accepted(cluster, "chat"), running)

        await cluster.place.call("DELETE", cluster.path("chat"))
        await until(lambda: no_workload(running), running)
        cluster.requests(40)
        await asyncio.sleep(2)
        assert await cluster.place.size() == 5, "a deleted workload leaves the last size"
    assert {tick.workload for tick in running.ticks()} == {f"{cluster.namespace}.chat"}


async def size_is(cluster: Cluster, replicas: int, name: str = "llm") -> bool:
    return await cluster.place.size(name) == replicas


async def refused(cluster: Cluster, name: str) -> bool:
    return await condition_is(cluster, name, "Accepted", "False")


async def accepted(cluster: Cluster, name: str) -> bool:
    return await condition_is(cluster, name, "Accepted", "True")


async def no_workload(running: Daemon) -> bool:
    _, body = await running.get("api/workloads")
    return bool(json.loads(body)["workloads"] == [])


@needs_kubectl
async def test_kubectl_prints_the_state_and_describes_why(cluster: Cluster) -> None:
    pools = {"gpus": {"kind": "kubernetes", "name": "llm", "price_usd_per_hour": 2.5}}
    await cluster.create("chat", cluster.spec(pools=pools, slo={"ttft_s": 2.0}))
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: size_is(cluster, 5), running)
        await until(lambda: printed(cluster, ["chat", "5", "5", "5", "unknown", "12.5"]), running)
        await until(lambda: described(cluster, "ScaledOut"), running)
        told = cluster.kubectl("describe", "deployment", "llm")
        assert f"Workload {cluster.namespace}.chat: 2 -> 5 replicas: " in told
        assert "forescale.io/forescale" in told
        wide = cluster.kubectl("get", "workloads", "--output", "wide").splitlines()
        assert wide[0].split() == ["NAME", "DESIRED", "READY", "DEMAND", "SLO", "$/H", "ACCEPTED", "AGE"]
        assert "True" in wide[1]
        await until(lambda: condition_is(cluster, "chat", "Ready", "True", "Scaling"), running)
        accepted_at = (await cluster.condition("chat", "Accepted"))["lastTransitionTime"]
        cluster.requests(24)
        await until(lambda: printed(cluster, ["chat", "6", "6", "6", "unknown", "15"]), running)
        assert (await cluster.condition("chat", "Accepted"))["lastTransitionTime"] == accepted_at
        cluster.load.page = "no metrics"
        await until(lambda: condition_is(cluster, "chat", "ScalingActive", "False", "Blind"), running)
        assert (await cluster.condition("chat", "Ready"))["status"] == "False"
        assert "demand" not in await cluster.status("chat"), "unknown is not 0"


async def printed(cluster: Cluster, cells: list[str]) -> bool:
    text = await asyncio.to_thread(cluster.kubectl, "get", "fwl", "--no-headers")
    return text.split()[:-1] == cells


async def described(cluster: Cluster, word: str) -> bool:
    return word in await asyncio.to_thread(cluster.kubectl, "describe", "deployment", "llm")


async def condition_is(cluster: Cluster, name: str, kind: str, status: str, reason: str | None = None) -> bool:
    condition = await cluster.condition(name, kind)
    return bool(condition["status"] == status and reason in {None, condition["reason"]})


async def test_a_repeated_refusal_is_one_event_with_a_series(cluster: Cluster) -> None:
    rules = next(m["rules"] for m in manifests() if m["kind"] == "Role")
    await cluster.place.permit([rule for rule in rules if "deployments/scale" not in rule["resources"]])
    await cluster.place.permitted("patch", "apps/deployments/scale", granted=False)
    await cluster.create("chat", cluster.spec())
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: series_of(cluster, "Misconfigured", 2), running)
        refusals = [e for e in await events(cluster) if e["reason"] == "Misconfigured"]
        assert len({e["note"] for e in refusals}) == len(refusals)
        assert all(e["type"] == "Warning" and len(e["note"].encode()) <= 1024 for e in refusals)
        assert "2 -> 5 replicas refused (misconfigured): " in refusals[0]["note"]
        await until(lambda: condition_is(cluster, "chat", "AbleToScale", "False"), running)
    assert await cluster.place.size() == 2


async def events(cluster: Cluster) -> list[dict[str, Any]]:
    listed = await cluster.place.call("GET", cluster.place.path("events", api="apis/events.k8s.io/v1"))
    return [e for e in listed["items"] if e.get("reportingController") == "forescale.io/forescale"]


async def series_of(cluster: Cluster, reason: str, count: int) -> bool:
    counts = [(e.get("series") or {}).get("count", 1) for e in await events(cluster) if e["reason"] == reason]
    return max(counts, default=0) >= count


async def test_refused_events_are_logged_once_and_stop_no_tick(cluster: Cluster) -> None:
    rules = next(m["rules"] for m in manifests() if m["kind"] == "Role")
    await cluster.place.permit([rule for rule in rules if rule["apiGroups"] != ["events.k8s.io"]])
    await cluster.place.permitted("create", "events.k8s.io/events", granted=False)
    await cluster.create("chat", cluster.spec())
    async with cluster.daemon() as running:
        for running_requests, size in ((20, 5), (28, 7), (8, 2), (36, 9)):
            cluster.requests(running_requests)
            await until(lambda size=size: size_is(cluster, size), running)  # type: ignore[misc]
        lines = [e for e in running.events() if e["event"] == "kubernetes events"]
        assert len(lines) == 1
        assert "grant create and patch on events.events.k8s.io" in lines[0]["remedy"]
    assert await events(cluster) == []


async def test_two_definitions_of_one_name_or_object_are_refused_with_both_places(cluster: Cluster) -> None:
    await cluster.create("chat", cluster.spec())
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: size_is(cluster, 5), running)
        await cluster.create("thief", cluster.spec(min_replicas=9))
        text = {"workload": "chat", **cluster.spec("other")}
        body = {"metadata": {"name": "models", "labels": CONFIG_MAP}, "data": {"chat.yaml": yaml.safe_dump(text)}}
        await cluster.place.call("POST", cluster.place.path("configmaps", api="api/v1"), body)
        await until(lambda: refused(cluster, "thief"), running)
        condition = await cluster.condition("thief", "Accepted")
        place = f"pools.gpus of workload {cluster.namespace}.chat in Workload {cluster.namespace}/chat"
        assert condition["reason"] == "Conflict"
        assert f"and so does {place}" in condition["message"]
        await until(lambda: rejections(running, "ConfigMap"), running)
        (error,) = rejections_of(running, "ConfigMap")
        assert f"Workload {cluster.namespace}/chat defines a workload {cluster.namespace}.chat too" in error
        assert await cluster.place.size() == 5

        async def live_with_a_rejection() -> bool:
            status, health = await running.get("healthz")
            return status == 200 and "rejected" in health

        await until(live_with_a_rejection, running)


def rejections_of(running: Daemon, kind: str) -> list[str]:
    lines = [e for e in running.events() if e["event"] == "workload rejected"]
    return [line["error"] for line in lines if line["object"].startswith(kind)]


def rejections(running: Daemon, kind: str) -> bool:
    return bool(rejections_of(running, kind))


async def test_a_config_map_defines_workloads(cluster: Cluster) -> None:
    path = cluster.place.path("configmaps", api="api/v1")
    text = yaml.safe_dump({"workload": "chat", **cluster.spec()})
    for name, labels in (("models", CONFIG_MAP), ("unlabeled", {})):
        body = {"metadata": {"name": name, "labels": labels}, "data": {"chat.yaml": text, "broken": "- [\n"}}
        await cluster.place.call("POST", path, body)
    cluster.requests(20)
    async with cluster.daemon(custom_resources=False) as running:
        await until(lambda: size_is(cluster, 5), running)
        (error,) = rejections_of(running, "ConfigMap")
        assert error.startswith(f"ConfigMap {cluster.namespace}/models broken:2: ")
        await cluster.place.call(
            "PATCH", f"{path}/models", {"data": {"chat.yaml": text.replace("max_replicas: 12", "max_replicas: 3")}}
        )
        await until(lambda: size_is(cluster, 3), running)


async def test_a_workload_reaches_no_further_than_its_namespace(cluster: Cluster) -> None:
    token = {"bearer_token": {"env": "HOME"}}
    engines = {**cluster.spec()["sources"]["engines"], "access": token}
    refusals: dict[str, tuple[dict[str, Any], str]] = {
        "elsewhere": ({"pools": {"p": {"kind": "kubernetes", "name": "llm", "namespace": "kube-system"}}}, "namespace"),
        "service": ({"pools": {"p": {"kind": "kserve", "name": "llm", "namespace": "other"}}}, "own namespace"),
        "cloud": ({"pools": {"p": {"kind": "asg", "group": "everyones"}}}, "must not be asg in namespace"),
        "secret": ({"sources": {"engines": engines}}, "access.bearer_token: must not be set in namespace"),
        "kubeconfig": (
            {"pools": {"p": {"kind": "kubernetes", "name": "llm", "cluster": {"kubeconfig": "/root/.kube/config"}}}},
            "pools.p.cluster: must be absent",
        ),
        "fast": ({"interval_s": 0.01, "deadline_s": 0.005}, "interval_s = 0.01: must be at least 1"),
    }
    for name, (changes, _) in refusals.items():
        await cluster.create(name, cluster.spec(**changes))
    async with cluster.daemon() as running:
        for name, (_, rule) in refusals.items():
            await until(lambda name=name: refused(cluster, name), running)  # type: ignore[misc]
            message = (await cluster.condition(name, "Accepted"))["message"]
            assert rule in message
            assert "trusted_namespaces" in message
            assert "HOME" not in message
        assert running.ticks() == []
    for name in refusals.keys() - {"secret"}:
        await cluster.place.call("DELETE", cluster.path(name))
    async with cluster.daemon(trusted_namespaces=[cluster.namespace]) as running:
        await until(lambda: accepted(cluster, "secret"), running)


async def test_torn_connections_lose_no_workload(cluster: Cluster) -> None:
    """A daemon behind a proxy that cuts every connection keeps its workloads, and sees the edits made meanwhile."""
    await cluster.create("chat", cluster.spec())
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: size_is(cluster, 5), running)
        for _ in range(3):  # watches end in the middle of a line
            cluster.place.proxy.tear_down()
            await asyncio.sleep(0.2)
        await cluster.edit("chat", min_replicas=7)
        await until(lambda: size_is(cluster, 7), running)
        assert not [e for e in running.events() if e["event"] == "reload" and e.get("removed")]


async def test_a_restarted_api_server_causes_no_blind_resize(cluster: Cluster) -> None:
    """While no size is fresh, nothing is written. After the restart, the load and the edits apply."""
    await cluster.create("chat", cluster.spec())
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: size_is(cluster, 5), running)
        await asyncio.to_thread(cluster.place.plane.kill_apiserver)
        try:
            cluster.requests(36)
            await until(lambda: len(blind_ticks(running)) > 2, running)
        finally:
            await asyncio.to_thread(cluster.place.plane.start_apiserver)
        await until(lambda: size_is(cluster, 9), running)
        await cluster.edit("chat", max_replicas=6)
        await until(lambda: size_is(cluster, 6), running)
        assert [outcome for tick in blind_ticks(running) for outcome in tick.outcomes] == []
        assert {tick.workload for tick in running.ticks()} == {f"{cluster.namespace}.chat"}
        assert not [e for e in running.events() if e["event"] == "reload" and e.get("removed")]


def blind_ticks(running: Daemon) -> list[Tick]:
    """Return the ticks without a fresh size of some pool."""
    return [t for t in running.ticks() if not all(isinstance(r, Fresh) for r in t.observation.pools.values())]


async def test_a_workload_deleted_during_its_resize_leaves_its_size(cluster: Cluster) -> None:
    await cluster.place.create(cluster.place.path("deployments"), workload("Deployment", "other", 2))
    await cluster.create("chat", cluster.spec(interval_s=8.0, deadline_s=7.5))
    await cluster.create("other", cluster.spec("other"))
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: size_is(cluster, 5), running)
        async with held_write(cluster) as held:
            cluster.requests(28)
            await asyncio.wait_for(held.wait(), PATIENCE_S)
            await cluster.place.call("DELETE", cluster.path("chat"))
            await until(lambda: runs_only(running, f"{cluster.namespace}.other"), running)
        ticks = ticks_of(running, f"{cluster.namespace}.chat")
        size = await cluster.place.size()
        assert size in {5, 7}, "the write was cut, or it was completed"
        cluster.requests(36)
        await until(lambda: size_is(cluster, 9, "other"), running)
        assert await cluster.place.size() == size
        assert ticks_of(running, f"{cluster.namespace}.chat") == ticks


@asynccontextmanager
async def held_write(cluster: Cluster) -> AsyncIterator[asyncio.Event]:
    """Hold each write of the size of `llm` in the API server until the end; set the event when there is one."""
    probed, held, released = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def review(request: web.Request) -> web.Response:
        asked = (await request.json())["request"]
        if asked["name"] == "llm":
            held.set()
            await released.wait()
        probed.set()
        allowed = {"uid": asked["uid"], "allowed": True}
        return web.json_response({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": allowed})

    certificate, authority = self_signed(cluster.folder)
    app = web.Application()
    app.router.add_post("/", review)
    async with listening(app, tls=certificate) as port:
        await cluster.place.call("PATCH", f"/api/v1/namespaces/{cluster.namespace}", {"metadata": {"labels": OWN}})
        bundle = base64.b64encode(Path(authority).read_bytes()).decode()
        await cluster.place.create(WEBHOOKS, webhook(f"https://127.0.0.1:{port}/", bundle))
        try:
            other = cluster.place.path("deployments", "other/scale?dryRun=All")
            async with asyncio.timeout(PATIENCE_S):
                while not probed.is_set():  # the API server applies the webhook a little later
                    await cluster.place.call("PATCH", other, {"metadata": {"annotations": {"probe": "1"}}})
                    await asyncio.sleep(0.1)
            yield held
        finally:
            released.set()
            await cluster.place.call("DELETE", f"{WEBHOOKS}/held")


def webhook(url: str, bundle: str) -> dict[str, Any]:
    scales = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["deployments/scale"],
    }
    settings = {
        "name": "held.forescale.io",
        "rules": [scales],
        "clientConfig": {"url": url, "caBundle": bundle},
        "namespaceSelector": {"matchLabels": OWN},
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 30,
    }
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "held"},
        "webhooks": [settings],
    }


async def runs_only(running: Daemon, name: str) -> bool:
    _, body = await running.get("api/workloads")
    return [shown["workload"] for shown in json.loads(body)["workloads"]] == [name]


def ticks_of(running: Daemon, name: str) -> int:
    return sum(tick.workload == name for tick in running.ticks())


async def test_live_check_reports_the_permissions_of_the_daemon(cluster: Cluster) -> None:
    kubeconfig = {"kubeconfig": str(cluster.place.kubeconfig)}
    followed = {"namespaces": [cluster.namespace], "config_maps": True, "cluster": kubeconfig}
    ha = {"lease": {"namespace": cluster.namespace, "cluster": kubeconfig}}
    file = cluster.folder / "daemon.yaml"
    file.write_text(yaml.safe_dump({"daemon": {"kubernetes_workloads": followed, "ha": ha}}))

    async def denied() -> dict[str, list[str]]:
        checks = await check_settings(load([file]).daemon, SystemClock())
        assert [check.error for check in checks] == ["", ""]
        return {c.setting: [p.action for p in c.permits if p.granted is not True] for c in checks}

    verbs = ("get", "list", "watch", "create", "patch", "delete")
    leases = [f"{verb} leases.coordination.k8s.io in namespace {cluster.namespace}" for verb in verbs]
    assert await denied() == {"kubernetes_workloads": [], "ha": leases}
    for manifest in manifests("kubernetes-leases"):
        if "subjects" in manifest:
            manifest["subjects"] = [{"kind": "User", "name": "scaler"}]
        await cluster.place.create(path_of(manifest, cluster.namespace), manifest)
    await cluster.place.permitted("create", "coordination.k8s.io/leases", granted=True)
    role = cluster.place.path("roles", "forescale-workloads", RBAC)
    rules = (await cluster.place.call("GET", role))["rules"]
    await cluster.place.call("PATCH", role, {"rules": [rule for rule in rules if "patch" not in rule["verbs"]]})
    await cluster.place.permitted("patch", "forescale.io/workloads/status", granted=False)
    status = f"patch workloads/status.forescale.io in namespace {cluster.namespace}"
    assert await denied() == {"kubernetes_workloads": [status], "ha": []}


async def test_hostile_objects_are_pruned_or_refused_and_harm_no_other_workload(cluster: Cluster) -> None:
    await cluster.create("chat", cluster.spec())
    unknown = cluster.spec("other", surprise={"deep": [1]}, min_replicas=1)
    await cluster.create("unknown", unknown)
    long_words = {f"q{i}": "x" * 4000 for i in range(200)}
    large = {"engines": {"kind": "prometheus", "url": "http://127.0.0.1:9", "queries": long_words}}
    await cluster.create("large", cluster.spec("third", sources=large))
    of_another_kind = {"p": {"kind": "kubernetes", "name": "x", "cluster": "west"}}
    await cluster.create("another", cluster.spec(pools=of_another_kind))
    refused_at_once: list[dict[str, Any]] = [{"max_replicas": "12"}, {"pools": {}}, {"policies": [1]}]
    for wrong in [*refused_at_once, {"pools": {"p": {"kind": "nothing"}}}, *deep_settings()]:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            await cluster.create("wrong", cluster.spec(**wrong))
        assert refusal.value.code == 422, wrong
    cluster.requests(20)
    async with cluster.daemon() as running:
        await until(lambda: size_is(cluster, 5), running)
        for name in ("large", "another"):
            await until(lambda name=name: refused(cluster, name), running)  # type: ignore[misc]
            message = (await cluster.condition(name, "Accepted"))["message"]
            assert len(message) <= 4096
            assert message.isprintable() or "\n" in message
        await until(lambda: accepted(cluster, "unknown"), running)
        assert "surprise" not in (await cluster.place.call("GET", cluster.path("unknown")))["spec"]


def deep_settings() -> Iterator[dict[str, Any]]:
    """Yield a deeply nested value for each setting whose type depends on the kind.

    An API server of Kubernetes 1.20 that stores one times out: its time doubles with each level.
    """
    deep: Any = "end"
    for _ in range(20):
        deep = {"cluster": deep}
    for value in (deep, [deep], {"kubeconfig": deep, "context": [deep]}):
        yield {"pools": {"p": {"kind": "kubernetes", "name": "x", "cluster": value}}}
    yield {"pools": {"p": {"kind": "gce_mig", "project": "p", "zone": "z", "group": "g", "reservation": deep}}}
    for metric in (deep, {"dimensions": deep}):
        yield {"sources": {"engines": {"kind": "cloudwatch", "region": "r", "metrics": {"m": metric}}}}
