"""The API `external.metrics.k8s.io`, as the API server calls it: by TLS, with the certificate of its front proxy."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from scaler.config.listen import ServerTls
from scaler.partners.external_metrics import ROOT, ExternalMetrics
from scaler.partners.front_proxy import PART, FrontProxy
from scaler.partners.publications import METRIC
from scaler.ports import PortError, Unavailable
from scaler.supervised_tasks import Tasks
from scaler.telemetry.http.certificates import Certificates
from scaler.telemetry.http.server import open_sockets, start
from tests.scaler.partners.published import Rig
from tests.servers.certificate import make_pair, signed_pair

pytestmark = pytest.mark.slow
PROXY = "front-proxy-client"


class FakeApiServer:
    """The API server's ConfigMap, or an error in its place."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.data = data
        self.error: PortError | None = None

    async def call(self, _what: str, _method: str, path: str, _timeout_s: float) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
        if self.error is not None:
            raise self.error
        return {"data": dict(self.data)}


class Server:
    """The daemon's server, and the clients' certificates."""

    def __init__(self, rig: Rig, folder: Path, names: str = f'["{PROXY}"]') -> None:
        self.rig = rig
        self.pair = make_pair(folder, "localhost")
        authority, self.proxy = signed_pair(folder, PROXY)
        self.stranger = signed_pair(folder, "stranger")[1]
        data = {"requestheader-client-ca-file": authority.read_text(), "requestheader-allowed-names": names}
        self.api = FakeApiServer(data)
        self.front_proxy = FrontProxy(self.api, rig.health)  # type: ignore[arg-type]
        self.port = 0

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        tasks, health = Tasks(), self.rig.health
        certificates = Certificates(self.pair, health, "tls", lambda: self.front_proxy.authorities)
        app = ExternalMetrics(self.rig.publications, self.front_proxy, self.rig.clock.now).application()
        sockets = await open_sockets("listen", "127.0.0.1:0")
        server = await start(app, sockets, certificates, tasks, "server")
        self.port = sockets[0].getsockname()[1]
        try:
            yield
        finally:
            await server.close()

    async def get(self, path: str, client: ServerTls | None) -> tuple[int, Any]:
        trusting = ssl.create_default_context(cafile=self.pair.certificate)
        if client is not None:
            trusting.load_cert_chain(client.certificate, client.key)
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"https://localhost:{self.port}{path}", ssl=trusting) as answer,
        ):
            return answer.status, json.loads(await answer.text())

    async def value(self, selector: str, namespace: str = "llm", metric: str = METRIC) -> tuple[int, Any]:
        return await self.get(f"{ROOT}/namespaces/{namespace}/{metric}?labelSelector={selector}", self.proxy)


@asynccontextmanager
async def serving(folder: Path, rig: Rig) -> AsyncIterator[Server]:
    server = Server(rig, folder)
    async with server.run():
        await server.front_proxy.refresh()
        yield server


async def test_value_is_the_decided_size_of_the_selected_pool(tmp_path: Path) -> None:
    rig = Rig()
    await rig.tick(7)
    async with serving(tmp_path, rig) as server:
        status, resources = await server.get(ROOT, server.proxy)
        assert (status, resources["kind"]) == (200, "APIResourceList")
        assert [r["name"] for r in resources["resources"]] == [METRIC]
        status, values = await server.value("workload%3Dchat")
        assert (status, values["kind"], values["apiVersion"]) == (
            200,
            "ExternalMetricValueList",
            "external.metrics.k8s.io/v1beta1",
        )
        (item,) = values["items"]
        assert (item["metricName"], item["value"]) == (METRIC, "7")
        assert item["metricLabels"] == {"workload": "chat", "pool": "gpus"}


@pytest.mark.parametrize(
    ("selector", "namespace", "metric", "status", "message"),
    [
        (
            "workload%3Dchta",
            "llm",
            METRIC,
            404,
            "workload chta has no published pool; published pools in namespace llm:",
        ),
        ("workload%3Dchat", "other", METRIC, 404, "published pools in namespace other: none"),
        ("", "llm", METRIC, 404, "the key workload is missing"),
        ("workload%21%3Dchat", "llm", METRIC, 400, "labelSelector: 'workload!=chat' has an operator other than ="),
        ("workload%3D%28", "llm", METRIC, 400, "is not a label selector"),
        ("workload%3Dchat", "llm", "queue-length", 404, f"the metric is {METRIC}"),
    ],
)
async def test_unknown_metric_is_a_kubernetes_status_with_the_remedy(
    tmp_path: Path, selector: str, namespace: str, metric: str, status: int, message: str
) -> None:
    rig = Rig()
    await rig.tick(7)
    async with serving(tmp_path, rig) as server:
        code, body = await server.value(selector, namespace, metric)
        assert (code, body["kind"], body["status"], body["code"]) == (status, "Status", "Failure", status)
        assert message in body["message"]


async def test_no_valid_size_is_an_error_and_no_value(tmp_path: Path) -> None:
    rig = Rig()
    await rig.tick(7)
    for source in rig.sources.values():
        source.error = Unavailable("down")
    await rig.tick(7)
    async with serving(tmp_path, rig) as server:
        status, body = await server.value("workload%3Dchat")
        assert (status, body["reason"]) == (503, "ServiceUnavailable")
        assert "withheld" in body["message"]


async def test_other_paths_and_methods_are_kubernetes_statuses(tmp_path: Path) -> None:
    async with serving(tmp_path, Rig()) as server:
        for path in ("/", "/apis", "/metrics", "/openapi/v2"):
            status, body = await server.get(path, server.proxy)
            assert (status, body["kind"]) == (404, "Status")


async def test_only_the_front_proxy_is_accepted(tmp_path: Path) -> None:
    async with serving(tmp_path, Rig()) as server:
        assert (await server.get(ROOT, server.proxy))[0] == 200
        for client in (None, server.stranger):
            with pytest.raises((aiohttp.ClientError, OSError)):
                await server.get(ROOT, client)


async def test_certificate_with_another_name_is_refused(tmp_path: Path) -> None:
    server = Server(Rig(), tmp_path, names='["other"]')
    async with server.run():
        await server.front_proxy.refresh()
        status, body = await server.get(ROOT, server.proxy)
        assert (status, body["reason"]) == (401, "Unauthorized")


@pytest.mark.parametrize("names", ["", "[]"])
async def test_each_name_is_accepted_where_none_is_configured(tmp_path: Path, names: str) -> None:
    server = Server(Rig(), tmp_path, names=names)
    async with server.run():
        await server.front_proxy.refresh()
        assert (await server.get(ROOT, server.proxy))[0] == 200


async def test_no_client_is_accepted_before_the_authority_is_known(tmp_path: Path) -> None:
    rig = Rig()
    server = Server(rig, tmp_path)
    server.api.error = Unavailable("no route to the API server")
    async with server.run():
        assert await server.front_proxy.refresh() is False
        assert "no route to the API server; no client is accepted before" in rig.health.problems()[PART]
        with pytest.raises((aiohttp.ClientError, OSError)):
            await server.get(ROOT, server.proxy)
        server.api.error = None
        assert await server.front_proxy.refresh() is True
        assert rig.health.problems() == {}
        assert (await server.get(ROOT, server.proxy))[0] == 200
        server.api.error = Unavailable("down again")
        assert await server.front_proxy.refresh() is False
        assert (await server.get(ROOT, server.proxy))[0] == 200, "what was read before stays valid"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({}, "no requestheader-client-ca-file: start the API server with"),
        ({"requestheader-client-ca-file": "x", "requestheader-allowed-names": "["}, "is not JSON"),
    ],
)
async def test_cluster_without_a_front_proxy_is_reported(tmp_path: Path, data: dict[str, str], problem: str) -> None:
    rig = Rig()
    front_proxy = FrontProxy(FakeApiServer(data), rig.health)  # type: ignore[arg-type]
    assert await front_proxy.refresh() is False
    assert problem in rig.health.problems()[PART]
