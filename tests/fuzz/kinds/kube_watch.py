"""Lines of a Kubernetes watch, over a socket: with any content the watch ends normally or with a port error."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.watch import SharedWatch
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import PortError
from scaler.shared_resources import AdapterContext, Resources
from tests.fuzz.kinds.loop import DEADLINE_S, loop
from tests.fuzz.kinds.readings import encoding_problem
from tests.fuzz.mutate import json_text
from tests.fuzz.rng import Rng
from tests.servers.kube_fake import write_kubeconfig
from tests.servers.spoiling import hasty

NAME: Final = "llm"
RESOURCES: Final = {
    "kind": "APIResourceList",
    "resources": [
        {"name": "deployments", "kind": "Deployment", "namespaced": True},
        {"name": "deployments/scale", "kind": "Scale", "namespaced": True},
    ],
}


def _deployment(replicas: int, version: str = "7") -> dict[str, Any]:
    managed_field = {"manager": "kubectl", "operation": "Update", "time": "2026-11-30T08:00:00Z"}
    managed_field["fieldsV1"] = {"f:spec": {"f:replicas": {}}}  # type: ignore[assignment]
    return {
        "metadata": {
            "name": NAME,
            "namespace": "default",
            "resourceVersion": version,
            "managedFields": [managed_field],
        },
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": NAME}}},
        "status": {"replicas": replicas, "readyReplicas": replicas, "conditions": [{"type": "Available"}]},
    }


def _events() -> list[dict[str, Any]]:
    bookmark = {"metadata": {"resourceVersion": "9"}}
    return [
        {"type": "MODIFIED", "object": _deployment(2, "8")},
        {"type": "BOOKMARK", "object": bookmark},
        {"type": "DELETED", "object": _deployment(2, "10")},
        {"type": "ADDED", "object": _deployment(3, "11")},
        {"type": "ERROR", "object": {"message": "too old", "code": 410}},
    ]


def mutated(rng: Rng) -> bytes:
    events = rng.subset(_events(), 4)
    place = rng.randrange(len(events))
    if rng.happens(0.02):
        return b'{"type": "MODIFIED", "object": {"metadata": {"name": "' + b"a" * (4 * 2**20) + b'"}}}\n'
    lines = [json_text(rng, e) if k == place else json.dumps(e).encode() for k, e in enumerate(events)]
    return b"\n".join(lines) + b"\n"


def check(data: bytes) -> str:
    return loop().run(_check(data))


@functools.cache
def _cluster(port: int) -> KubeCluster:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-kube-"))
    return KubeCluster(kubeconfig=str(write_kubeconfig(folder / "kubeconfig", port)))


async def _check(data: bytes) -> str:
    event_loop = loop()

    def answer(request: web.Request) -> web.StreamResponse:
        if request.query.get("watch"):
            return web.Response(body=data, content_type="application/json")
        if request.path.endswith("/deployments"):
            return web.json_response({"metadata": {"resourceVersion": "7"}, "items": [_deployment(2)]})
        return web.json_response(_deployment(2) if request.path.endswith(NAME) else RESOURCES)

    event_loop.answer = answer
    async with Resources() as resources:  # a new watch per case: a watch that ends affects this case only
        return await _follow(AdapterContext(hasty(resources), event_loop.clock, DEADLINE_S), event_loop.port)


async def _follow(context: AdapterContext, port: int) -> str:
    spec = Kubernetes(name=NAME, cluster=_cluster(port), watch_pods=False)
    pool = await open_pool(spec, context, WorkloadName("chat"), PoolName("main"))
    watch = next(value for value in vars(pool).values() if isinstance(value, SharedWatch))
    try:
        await watch.state(NAME, 5.0)
        await watch._watch(await watch.watch_path(), "7")
        status = (await pool.status()).value
    except PortError as e:
        return encoding_problem(str(e))
    if type(status.desired) is not int or not 0 <= status.desired <= 10**6 or not 0 <= status.ready <= 10**6:
        return f"a size of {status.desired!r}, {status.ready!r} ready"
    return encoding_problem(status.version) or encoding_problem(status.other_writer or "")
