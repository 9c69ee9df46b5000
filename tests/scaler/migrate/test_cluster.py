"""``forescale import --cluster`` with list permissions only, on a real control plane and on the fake API server."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scaler.cli import main
from tests.patience import PATIENCE_S
from tests.scaler.migrate.importing import HPA, KEDA, SERVER, changed
from tests.scaler.migrate.test_command import forescale
from tests.servers.aws import REGION, aws
from tests.servers.control_plane import why_not
from tests.servers.kube_fake import kube_fake, write_kubeconfig
from tests.servers.kube_real import DEPLOY, RBAC, KubeNamespace, kube_namespace
from tests.servers.prometheus import needs_prometheus, prometheus

KEDA_API: Final = "keda.sh/v1alpha1"
needs_plane = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")
CPU = changed(HPA, apiVersion="autoscaling/v1", spec__metrics=..., spec__targetCPUUtilizationPercentage=60)
"""An HPA of the version that every API server serves."""
JOB: dict[str, Any] = {"apiVersion": KEDA_API, "kind": "ScaledJob", "metadata": {"name": "batch"}, "spec": {}}
NATS: dict[str, Any] = {"type": "nats-jetstream", "metadata": {"stream": "events"}}
DAY: dict[str, Any] = {"timezone": "UTC", "start": "0 0 * * *", "end": "59 23 * * *", "desiredReplicas": "3"}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that imports from the cluster of a kubeconfig: exit code, file names and stderr."""
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)

    async def imported(kubeconfig: Path, *options: str) -> tuple[int, list[str], str]:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        out = tmp_path / "out"
        arguments = ["import", "--cluster", "--prometheus", SERVER, "--out", f"{out}/", *options]
        code = await asyncio.to_thread(main, arguments)
        return code, sorted(p.name for p in out.iterdir()) if out.exists() else [], capsys.readouterr().err

    return imported


@pytest.fixture
async def place() -> AsyncIterator[KubeNamespace]:
    """Open a namespace of a real control plane that serves KEDA's kinds, with the service account `importer`."""
    async with kube_namespace() as opened:
        for plural, kind, scope in (
            ("scaledobjects", "ScaledObject", "Namespaced"),
            ("scaledjobs", "ScaledJob", "Namespaced"),
            ("triggerauthentications", "TriggerAuthentication", "Namespaced"),
            ("clustertriggerauthentications", "ClusterTriggerAuthentication", "Cluster"),
        ):
            await opened.kind(plural, kind, KEDA_API, None, scope)
        account = {"metadata": {"name": "importer"}}
        await opened.call("POST", opened.path("serviceaccounts", api="api/v1"), account)
        yield opened


async def kubeconfig_of_importer(place: KubeNamespace) -> Path:
    """Return a kubeconfig with a token of the service account."""
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    path = place.path("serviceaccounts", "importer/token", api="api/v1")
    token = (await place.call("POST", path, request))["status"]["token"]
    return place.plane.write_kubeconfig(f"{place.namespace}-importer.json", token)


async def grant(place: KubeNamespace, rules: list[dict[str, Any]]) -> None:
    """Bind rules to the service account in all namespaces, and wait until the API server applies them."""
    name = f"import-{place.namespace}"
    user = f"system:serviceaccount:{place.namespace}:importer"
    await place.call("POST", f"/{RBAC}/clusterroles", {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": "importer", "namespace": place.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": role}
    await place.call("POST", f"/{RBAC}/clusterrolebindings", binding)
    last = rules[-1]
    attributes = {"verb": "list", "group": last["apiGroups"][0], "resource": last["resources"][-1]}
    review = {"spec": {"user": user, "resourceAttributes": attributes}}
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await place.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
            if answer["status"]["allowed"]:
                return
            await asyncio.sleep(0.02)


def shipped_rules() -> list[dict[str, Any]]:
    (role,) = yaml.safe_load_all((DEPLOY / "kubernetes-import.yaml").read_text())
    rules: list[dict[str, Any]] = role["rules"]
    return rules


async def put(place: KubeNamespace, *objects: dict[str, Any]) -> None:
    for o in objects:
        path = place.path(f"{o['kind'].lower()}s", api=f"apis/{o['apiVersion']}")
        await place.call("POST", path, changed(o, metadata__namespace=place.namespace))


def calls_of_importer(place: KubeNamespace) -> list[dict[str, Any]]:
    """Return the audited calls of the service account. A call refused with 401 has no user name."""
    user = f"system:serviceaccount:{place.namespace}:importer"
    return [e for e in place.plane.audit_events() if e["user"].get("username") == user]


@needs_plane
@pytest.mark.slow
async def test_cluster_import_needs_only_the_shipped_list_permissions(
    place: KubeNamespace, run: Any, tmp_path: Path
) -> None:
    await grant(place, shipped_rules())
    kubeconfig = await kubeconfig_of_importer(place)
    own = changed(CPU, metadata={"name": "keda-hpa-workers", "labels": {"scaledobject.keda.sh/name": "workers"}})
    await put(place, KEDA, CPU, own, JOB)
    code, files, err = await run(kubeconfig, "--namespace", place.namespace)
    assert (code, files) == (1, ["vllm.yaml", "workers.yaml"]), err
    assert f"Read 4 objects of namespace {place.namespace}." in err
    assert f'ScaledJob {place.namespace}/batch: kind = "ScaledJob": is not supported' in err
    assert f"HorizontalPodAutoscaler {place.namespace}/keda-hpa-workers: metadata: is KEDA's own HPA" in err
    assert f"workers.yaml: ScaledObject {place.namespace}/workers" in err
    assert f"namespace: {place.namespace}" in (tmp_path / "out/workers.yaml").read_text()
    assert (await run(kubeconfig, "--namespace", place.namespace, "--skip", "ScaledJob", "--force"))[0] == 0
    code, files, err = await run(kubeconfig, "--force")
    assert {"vllm.yaml", "workers.yaml"} <= set(files), err
    calls = calls_of_importer(place)
    assert {call["verb"] for call in calls} == {"list"}
    assert {call["objectRef"]["resource"] for call in calls} == {
        "horizontalpodautoscalers", "scaledobjects", "scaledjobs", "triggerauthentications",
        "clustertriggerauthentications",
    }  # fmt: skip
    token = json.loads(kubeconfig.read_text())["users"][0]["user"]["token"]
    path = place.path("scaledobjects", "workers", api=f"apis/{KEDA_API}")
    with pytest.raises(urllib.error.HTTPError, match="403"):
        await asyncio.to_thread(place.plane.call, "DELETE", path, None, "application/json", token)


@needs_plane
@pytest.mark.slow
async def test_kinds_that_may_not_be_listed_are_named(place: KubeNamespace, run: Any) -> None:
    kubeconfig = await kubeconfig_of_importer(place)
    await put(place, KEDA, CPU)
    code, files, err = await run(kubeconfig)
    assert (code, files) == (2, [])
    assert "cluster: scaledobjects: may not be listed: scaledobjects.keda.sh is forbidden" in err
    await grant(place, shipped_rules()[:1])
    code, files, err = await run(kubeconfig, "--namespace", place.namespace)
    assert (code, files) == (1, ["vllm.yaml"])
    assert "grant it with the rules in config/deploy/kubernetes-import.yaml" in err
    accepted = [f"--skip={plural}" for plural in ("scaledobjects", "scaledjobs", "triggerauthentications")]
    assert (await run(kubeconfig, "--namespace", place.namespace, *accepted, "--force"))[0] == 0


@pytest.mark.slow
async def test_cluster_without_keda_is_imported_in_pages(run: Any, tmp_path: Path) -> None:
    async with kube_fake() as fake:
        kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", fake.port)
        for i in range(260):
            named = changed(HPA, metadata__name=f"vllm-{i}", spec__scaleTargetRef__name=f"vllm-{i}")
            await fake.put("horizontalpodautoscalers", f"vllm-{i}", {"spec": named["spec"]}, "llm")
        code, files, err = await run(kubeconfig, "--namespace", "llm")
    assert (code, len(files)) == (0, 260), err
    assert "260 of 260 autoscalers imported." in err


async def test_cluster_without_autoscalers_is_an_error(run: Any, tmp_path: Path) -> None:
    async with kube_fake() as fake:
        code, files, err = await run(write_kubeconfig(tmp_path / "kubeconfig", fake.port))
    assert (code, files) == (2, [])
    assert "the cluster: holds no HorizontalPodAutoscaler" in err


async def test_unreachable_cluster_is_an_error(run: Any, tmp_path: Path) -> None:
    kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", 1)
    code, files, err = await run(kubeconfig)
    assert (code, files) == (2, [])
    assert "list horizontalpodautoscalers in all namespaces" in err


@needs_plane
@needs_prometheus
@pytest.mark.slow
async def test_three_scaled_objects_are_imported_checked_and_run_next_to_the_real_api_server(
    place: KubeNamespace, tmp_path: Path
) -> None:
    """SQS with Prometheus, NATS, and cron alone: imported from a pipe, checked, and run without writes."""
    async with aws() as account, prometheus([]) as server:
        queue = await account.queue("prompts")
        await account.send(queue, 12)
        path = queue.split("/", 3)[3]
        sqs = {"queueURL": f"{account.url}/{path}", "queueLength": "5", "awsRegion": REGION, "awsEndpoint": account.url}
        query = {"serverAddress": server.url, "query": "sum(vector(17))", "threshold": "5"}
        triggers = {
            "llm": [{"type": "aws-sqs-queue", "metadata": sqs}, {"type": "prometheus", "metadata": query}],
            "events": [NATS],
            "night": [{"type": "cron", "metadata": DAY}],
        }
        objects = [
            changed(
                KEDA, metadata={"name": n, "namespace": place.namespace}, spec__triggers=t, spec__scaleTargetRef__name=n
            )
            for n, t in triggers.items()
        ]
        for name in ("night", "events"):
            deployment = (await place.call("GET", place.path("deployments", "llm"))) | {"metadata": {"name": name}}
            await place.call("POST", place.path("deployments"), deployment)
        manifest = tmp_path / "today.yaml"
        manifest.write_text(yaml.safe_dump_all(objects))
        env = {
            "KUBECONFIG": str(place.kubeconfig),
            "AWS_ACCESS_KEY_ID": "AKIATESTER",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        out = f"{tmp_path}/workloads/"
        code, _, err = await forescale("import", manifest, "--out", out, env=env)
        assert code == 1, err
        assert "2 of 3 autoscalers imported." in err
        code, text, err = await forescale("check", out, env=env)
        assert code == 0, err
        assert "2 workloads, no problem found" in text
        (tmp_path / "workloads/daemon.yaml").write_text(f"daemon: {{journal: {{directory: {tmp_path}/journal}}}}\n")
        code, text, err = await forescale("run", "--once", "--dry-run", out, env=env)
        assert code == 0, err
        assert "2 -> 4 replicas" in text, f"17 at 5 per replica need 4: {text} {err}"
        assert "2 -> 3 replicas" in text, f"cron requests 3: {text} {err}"
        assert await place.size() == 2, "a dry run writes nothing"
