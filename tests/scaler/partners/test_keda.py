"""KEDA's external scaler, called by the client that protoc generates from KEDA's proto."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from scaler.config.partners import KedaServer
from scaler.partners.keda import serve_keda
from scaler.ports import Misconfigured, Unavailable
from tests.scaler.partners.published import Rig
from tests.servers.certificate import make_pair
from tests.servers.keda import externalscaler_pb2 as pb
from tests.servers.keda import externalscaler_pb2_grpc as pb_grpc


def ref(namespace: str = "llm", **metadata: str) -> Any:
    return pb.ScaledObjectRef(name="chat", namespace=namespace, scalerMetadata=metadata or {"workload": "chat"})


@asynccontextmanager
async def client(rig: Rig, **settings: Any) -> AsyncIterator[Any]:
    spec = KedaServer(listen="127.0.0.1:0", **settings)
    async with (
        serve_keda(spec, rig.publications, rig.health) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield pb_grpc.ExternalScalerStub(channel)


async def test_metric_value_over_its_target_is_the_decided_size() -> None:
    rig = Rig()
    await rig.tick(7)
    async with client(rig) as scaler:
        (spec,) = (await scaler.GetMetricSpec(ref())).metricSpecs
        query = pb.GetMetricsRequest(scaledObjectRef=ref(), metricName=spec.metricName)
        (value,) = (await scaler.GetMetrics(query)).metricValues
        assert value.metricName == spec.metricName == "forescale-desired-replicas"
        assert (spec.targetSize, spec.targetSizeFloat) == (1, 1.0)
        assert (value.metricValue, value.metricValueFloat) == (7, 7.0)


async def test_scaler_is_active_while_the_decided_size_is_above_zero() -> None:
    rig = Rig(min_replicas=0, cooldown_s=0)
    async with client(rig) as scaler:
        await rig.tick(2)
        assert (await scaler.IsActive(ref())).result is True
        rig.pool.desired = 2
        for _ in range(3):
            await rig.tick(0)
        assert (await scaler.IsActive(ref())).result is False


@pytest.mark.slow
async def test_stream_yields_the_activity_at_once_and_at_each_change() -> None:
    rig = Rig(min_replicas=0, cooldown_s=0)
    await rig.tick(2)
    async with client(rig) as scaler, asyncio.timeout(60):
        stream = scaler.StreamIsActive(ref())
        assert (await stream.read()).result is True
        for source in rig.sources.values():
            source.error = Unavailable("down")
        await rig.tick(2)  # withheld: nothing is yielded
        await asyncio.sleep(1.5)
        for source in rig.sources.values():
            source.error = None
        rig.pool.desired = 2
        for _ in range(3):
            await rig.tick(0)
        assert (await stream.read()).result is False
        stream.cancel()


@pytest.mark.parametrize("method", ["IsActive", "GetMetricSpec", "GetMetrics"])
async def test_unknown_workload_is_not_found_and_those_that_exist_are_named(method: str) -> None:
    rig = Rig()
    await rig.tick(7)
    async with client(rig) as scaler:
        request = ref(workload="chta")
        request = pb.GetMetricsRequest(scaledObjectRef=request) if method == "GetMetrics" else request
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(scaler, method)(request)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    known = "published pools in namespace llm: workload chat, pool gpus"
    assert refused.value.details() == f"workload chta has no published pool; {known}"


async def test_unknown_metric_is_not_found() -> None:
    rig = Rig()
    await rig.tick(7)
    async with client(rig) as scaler:
        with pytest.raises(grpc.aio.AioRpcError, match="the metric is forescale-desired-replicas"):
            await scaler.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref(), metricName="s0-other"))


@pytest.mark.parametrize("case", ["blind", "old", "first"])
async def test_no_valid_size_is_unavailable_and_never_a_value(case: str) -> None:
    rig = Rig()
    if case != "first":
        await rig.tick(7)
    if case == "blind":
        for source in rig.sources.values():
            source.error = Unavailable("down")
        await rig.tick(7)
    rig.clock.advance(300 if case == "old" else 0)
    async with client(rig) as scaler:
        for call in (scaler.IsActive(ref()), scaler.GetMetrics(pb.GetMetricsRequest(scaledObjectRef=ref()))):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await scaler.GetMetricSpec(ref())).metricSpecs, "the HPA keeps its metric"


@pytest.mark.slow
async def test_tls_with_client_certificates_and_a_renewed_server_certificate(tmp_path: Path) -> None:
    rig = Rig()
    await rig.tick(7)
    folders = [tmp_path / name for name in ("server", "client", "renewed")]
    for folder in folders:
        folder.mkdir()
    server, trusted, renewed = (make_pair(folder, "localhost") for folder in folders)
    spec = KedaServer(listen="127.0.0.1:0", tls=server, client_ca=trusted.certificate)

    async def active(port: int, authority: bytes, key: bytes | None, certificate: bytes | None) -> bool:
        credentials = grpc.ssl_channel_credentials(authority, key, certificate)
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            answer: bool = (await pb_grpc.ExternalScalerStub(channel).IsActive(ref(), timeout=10)).result
            return answer

    async with serve_keda(spec, rig.publications, rig.health) as port:
        authority = Path(server.certificate).read_bytes()
        own = (Path(trusted.key).read_bytes(), Path(trusted.certificate).read_bytes())
        assert await active(port, authority, *own)
        with pytest.raises(grpc.aio.AioRpcError):
            await active(port, authority, None, None)
        Path(server.key).write_text("spoiled")
        assert await active(port, authority, *own), "the previous certificate stays in use"
        assert "certificate of daemon.partners.keda.tls" in rig.health.problems()
        Path(server.certificate).write_bytes(Path(renewed.certificate).read_bytes())
        Path(server.key).write_bytes(Path(renewed.key).read_bytes())
        assert await active(port, Path(renewed.certificate).read_bytes(), *own)
        assert rig.health.problems() == {}


@pytest.mark.slow
async def test_missing_client_authority_is_refused_with_the_setting(tmp_path: Path) -> None:
    rig, missing = Rig(), str(tmp_path / "ca.crt")
    spec = KedaServer(listen="127.0.0.1:0", tls=make_pair(tmp_path, "localhost"), client_ca=missing)
    with pytest.raises(Misconfigured, match=f"daemon.partners.keda.client_ca: cannot read {missing}"):
        async with serve_keda(spec, rig.publications, rig.health):
            pass


async def test_port_in_use_is_refused_with_the_setting() -> None:
    rig = Rig()
    async with serve_keda(KedaServer(listen="127.0.0.1:0"), rig.publications, rig.health) as port:
        with pytest.raises(Misconfigured, match=f"daemon.partners.keda.listen: cannot listen on 127.0.0.1:{port}"):
            async with serve_keda(KedaServer(listen=f"127.0.0.1:{port}"), rig.publications, rig.health):
                pass
