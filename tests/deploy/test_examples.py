"""The examples of whole services: their workloads resize their Deployments, and their objects refer to each other."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from policies.model import PoolName
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.config.load import Config, load
from tests.deploy.charts import CLUSTER_EXAMPLES, DEPLOY, Object, build, container, needs_kubectl
from tests.patience import PATIENCE_S
from tests.servers.exporter import vllm

pytestmark = [pytest.mark.slow, needs_kubectl]
FOLDER: Final = DEPLOY / "examples"
CLOUDS: Final = ("aks", "eks", "gke")
CUSTOM: Final = ("monitoring.coreos.com", "karpenter")


def named(objects: list[Object], kind: str, name: str) -> Object:
    (found,) = [made for made in objects if (made["kind"], made["metadata"]["name"]) == (kind, name)]
    return found


def engines(objects: list[Object]) -> dict[str, Object]:
    """Return the Deployments of engines by name."""
    found = {made["metadata"]["name"]: made for made in objects if made["kind"] == "Deployment"}
    return {name: made for name, made in found.items() if name != "forescale"}


def selects(selector: dict[str, str], template: Object) -> bool:
    labels: dict[str, str] = template["metadata"]["labels"]
    return selector.items() <= labels.items()


def configuration(objects: list[Object], folder: Path) -> Config:
    """Return the configuration that the daemon loads from the ConfigMap."""
    for name, text in named(objects, "ConfigMap", "forescale")["data"].items():
        (folder / name).write_text(text)
    return load([folder])


def test_every_example_is_tested() -> None:
    assert {*CLUSTER_EXAMPLES} == {*CLOUDS, "gateway"}


@pytest.mark.parametrize("name", CLUSTER_EXAMPLES)
def test_config_map_has_the_workload_of_the_example(name: str, tmp_path: Path) -> None:
    config = configuration(build(FOLDER / name), tmp_path)
    (workload,) = config.workloads.values()
    (own,) = load([FOLDER / name / "llama-chat.yaml"]).workloads.values()
    assert workload.spec == own.spec
    assert config.daemon.listen == "0.0.0.0:8080"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_pools_are_the_deployments_of_engines(cloud: str) -> None:
    objects = build(FOLDER / cloud)
    (workload,) = load([FOLDER / cloud / "llama-chat.yaml"]).workloads.values()
    pools: Mapping[PoolName, Any] = workload.spec.pools
    assert {type(pool) for pool in pools.values()} == {Kubernetes}
    deployments = {(made["metadata"]["namespace"], name) for name, made in engines(objects).items()}
    assert {(pool.namespace, pool.name) for pool in pools.values()} == deployments
    assert {name: pool.market for name, pool in pools.items()} == {"spot": "spot", "on-demand": "on_demand"}
    role = named(objects, "Role", "forescale")
    assert role["metadata"]["namespace"] == "llm"


@pytest.mark.parametrize("cloud", CLOUDS)
def test_engines_drain_and_leave_their_size_to_the_daemon(cloud: str) -> None:
    objects = build(FOLDER / cloud)
    (workload,) = load([FOLDER / cloud / "llama-chat.yaml"]).workloads.values()
    service = named(objects, "Service", "llama-chat")["spec"]["selector"]
    budget = named(objects, "PodDisruptionBudget", "llama-chat")["spec"]
    monitor = named(objects, "PodMonitor", "llama-chat")["spec"]["selector"]["matchLabels"]
    assert budget["maxUnavailable"] == 1
    for pool in map(_kubernetes, workload.spec.pools.values()):
        spec = engines(objects)[pool.name]["spec"]
        template = spec["template"]
        assert pool.drain is not None
        assert "replicas" not in spec
        assert pool.drain.routing_label in service
        assert pool.drain.routing_label not in spec["selector"]["matchLabels"]
        assert pool.drain.deadline_s == template["spec"]["terminationGracePeriodSeconds"]
        assert all(selects(s, template) for s in (service, budget["selector"]["matchLabels"], monitor))
        (spread,) = template["spec"]["topologySpreadConstraints"]
        assert spread["topologyKey"] == "topology.kubernetes.io/zone"
        assert selects(spread["labelSelector"]["matchLabels"], template)
        (engine,) = template["spec"]["containers"]
        assert engine["readinessProbe"]["httpGet"]["path"] == "/health"
        assert engine["ports"] == [{"name": "http", "containerPort": pool.drain.port}]
        assert engine["resources"]["limits"]["nvidia.com/gpu"] == "1"


def _kubernetes(pool: object) -> Kubernetes:
    assert isinstance(pool, Kubernetes)
    return pool


@pytest.mark.parametrize("cloud", CLOUDS)
def test_each_market_has_its_own_nodes(cloud: str) -> None:
    pods = {name: made["spec"]["template"]["spec"] for name, made in engines(build(FOLDER / cloud)).items()}
    selectors = [tuple(pod["nodeSelector"].items()) for pod in pods.values()]
    assert len(set(selectors)) == len(selectors) == 2
    tolerated = {name: {t["key"] for t in pod["tolerations"]} for name, pod in pods.items()}
    spot_taint = {"gke": "cloud.google.com/gke-spot", "aks": "kubernetes.azure.com/scalesetpriority"}.get(cloud)
    assert tolerated["llama-chat-on-demand"] == {"nvidia.com/gpu"}
    assert tolerated["llama-chat-spot"] == {"nvidia.com/gpu", *filter(None, [spot_taint])}


@pytest.mark.parametrize("market", ["spot", "on-demand"])
def test_karpenter_launches_nodes_of_the_market_for_the_engines(market: str) -> None:
    objects = build(FOLDER / "eks")
    pod = engines(objects)[f"llama-chat-{market}"]["spec"]["template"]["spec"]
    node_pool = named(objects, "NodePool", pod["nodeSelector"]["karpenter.sh/nodepool"])["spec"]
    node = node_pool["template"]["spec"]
    required = {r["key"]: r["values"] for r in node["requirements"]}
    assert required["karpenter.sh/capacity-type"] == [market]
    tolerations = {(t["key"], t["effect"]) for t in pod["tolerations"] if t["operator"] == "Exists"}
    assert {(t["key"], t["effect"]) for t in node["taints"]} <= tolerations
    assert named(objects, node["nodeClassRef"]["kind"], node["nodeClassRef"]["name"])
    (workload,) = load([FOLDER / "eks/llama-chat.yaml"]).workloads.values()
    assert int(node_pool["limits"]["nvidia.com/gpu"]) == workload.spec.max_replicas
    assert node_pool["disruption"]["consolidationPolicy"] == "WhenEmpty"


@pytest.mark.parametrize("name", CLUSTER_EXAMPLES)
def test_current_kubernetes_schemas_accept_every_object(name: str) -> None:
    version = kubernetes_validate.latest_version()
    objects = [made for made in build(FOLDER / name) if not made["apiVersion"].startswith(CUSTOM)]
    assert len(objects) > 8
    for made in objects:
        kubernetes_validate.validate(made, version, strict=True)


@contextmanager
def engine(pages: list[str]) -> Iterator[int]:
    """Serve the pages in order, one for each request, and yield the port. The list has those that are left."""

    class Metrics(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(pages.pop(0).encode())

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def page(running: int, waiting: int) -> str:
    return vllm({"num_requests_running": running, "num_requests_waiting": waiting})


def drain(port: int) -> subprocess.CompletedProcess[str]:
    """Run the preStop hook of the engines against a port, with short pauses."""
    (deployment,) = build(FOLDER / "vllm/deployment")
    (shipped,) = deployment["spec"]["template"]["spec"]["containers"]
    _, *words = shipped["lifecycle"]["preStop"]["exec"]["command"]
    script = words[-1].replace(":8000/", f":{port}/").replace("time.sleep(5)", "").replace("sleep(1)", "sleep(0.01)")
    words = [sys.executable, *words[:-1], script]
    return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def test_pre_stop_hook_waits_for_running_and_waiting_requests() -> None:
    pages = [page(2, 1), page(0, 1), page(0, 0), page(5, 0)]
    with engine(pages) as port:
        done = drain(port)
    assert done.returncode == 0, done.stderr
    assert pages == [page(5, 0)]


def test_pre_stop_hook_of_a_stopped_engine_fails_at_once() -> None:
    with engine([]) as port:
        pass
    assert drain(port).returncode != 0


def test_gateway_pod_has_the_daemon_and_its_services() -> None:
    objects = build(FOLDER / "gateway")
    deployment = named(objects, "Deployment", "gateway")["spec"]
    pod = deployment["template"]["spec"]
    assert [made["metadata"]["name"] for made in objects if made["kind"] == "Deployment"] == ["gateway"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    assert [c["name"] for c in pod["containers"]] == ["envoy", "forescale"]
    assert pod["serviceAccountName"] == named(objects, "ServiceAccount", "forescale")["metadata"]["name"]
    ports = {port["name"] for c in pod["containers"] for port in c["ports"]}
    for name in ("gateway", "forescale"):
        service = named(objects, "Service", name)["spec"]
        assert selects(service["selector"], deployment["template"])
        assert {port["targetPort"] for port in service["ports"]} <= ports
    maps = {volume["configMap"]["name"] for volume in pod["volumes"] if "configMap" in volume}
    assert maps == {made["metadata"]["name"] for made in objects if made["kind"] == "ConfigMap"}


def test_sidecar_equals_the_daemon_of_the_plain_manifest() -> None:
    """Only the port's name, the readiness probe and the user differ."""
    sidecar, plain = container(build(FOLDER / "gateway")), container(build(DEPLOY / "kustomize/base"))
    for key in ("image", "args", "resources", "volumeMounts"):
        assert sidecar[key] == plain[key]
    assert sidecar["securityContext"] == {**plain["securityContext"], "runAsUser": 65532}


def test_gateway_and_sidecar_name_the_same_engines_and_counter() -> None:
    document = yaml.safe_load((FOLDER / "gateway/envoy.yaml").read_text())
    (cluster,) = document["static_resources"]["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    (workload,) = load([FOLDER / "gateway/llama-chat.yaml"]).workloads.values()
    sources: Mapping[str, Any] = workload.spec.sources
    assert sources["engines"].service == f"http://{address['address']}:{address['port_value']}/metrics"
    admin = document["admin"]["address"]["socket_address"]
    assert sources["gateway"].url.startswith(f"http://{admin['address']}:{admin['port_value']}/stats?format=json")
    assert f"cluster%5C.{cluster['name']}%5C.upstream_rq_active" in sources["gateway"].url
    service = named(build(FOLDER / "gateway"), "Service", address["address"])["spec"]
    assert service["clusterIP"] == "None"
