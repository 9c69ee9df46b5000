"""A malformed HTTP response leaves an adapter only as a value or a port error."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from yarl import URL

from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.metadata_server import AwsMetadataServer
from scaler.clouds.aws.session import service
from scaler.clouds.azure import errors
from scaler.clouds.azure import scheduled_events as azure_events
from scaler.clouds.azure.account import AzureAccount
from scaler.clouds.azure.session import identity
from scaler.clouds.engines import load, sleep
from scaler.clouds.gcp import errors as gcp_errors
from scaler.clouds.gcp import metadata_server
from scaler.clouds.gcp import session as gcp
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.http_access import Access
from scaler.clouds.http_client import session as metrics_session
from scaler.clouds.interruptions import board
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.rest import BearerTokens, Request, Rest, session
from scaler.config.kinds.azure_sources import ServiceBus
from scaler.config.kinds.engines import Scrape
from scaler.config.kinds.http_json import HttpJson
from scaler.config.kinds.prometheus import Prometheus
from scaler.config.kinds.rabbitmq import RabbitMq
from scaler.config.secret import Secret
from scaler.ports import PortError
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.prometheus import open_prometheus
from tests.servers.aws import KEYS, REGION, isolate
from tests.servers.azure import CLIENT, SUBSCRIPTION, TENANT
from tests.servers.certificate import self_signed
from tests.servers.hostile import BODIES, MIB, Hostile, hostile, readable
from tests.servers.kube_fake import write_kubeconfig

pytestmark = pytest.mark.slow

Read: TypeAlias = Callable[[], Awaitable[Any]]
API: Final = Api("hostile", per_s=1e6, burst=1_000_000)
MAX_MESSAGE_CHARS: Final = 4000
MAX_READ_BYTES: Final = 40 * MIB
"""Bytes of a 64 MiB response that a client may read before it hangs up: its limit, and buffers."""
DEADLINE_S: Final = 4.0


class Site:
    """A hostile server, and the context to open adapters."""

    def __init__(self, server: Hostile, context: AdapterContext, folder: Path, trust: str) -> None:
        self.server = server
        self.context = context
        self.folder = folder
        self.trust = trust

    @property
    def secure_url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"


async def prometheus(site: Site) -> Read:
    spec = Prometheus(url=site.server.url, preset="vllm", read=("running",), queries={"own": "up"})
    return (await open_source(spec, site.context)).sample


async def prometheus_past(site: Site) -> Read:
    source = await open_prometheus(Prometheus(url=site.server.url, preset="vllm", read=("running",)), site.context)
    return lambda: source.past(["running"], 0.0, 600.0, 60.0)


async def scrape(site: Site) -> Read:
    spec = Scrape(urls=(f"{site.server.url}/metrics",), preset="vllm")
    return (await open_source(spec, site.context)).sample


async def http_json(site: Site) -> Read:
    spec = HttpJson(url=f"{site.server.url}/stats", values={"visible": "/waiting", "in_flight": ""}, measured_at="/at")
    return (await open_source(spec, site.context)).sample


async def rabbitmq(site: Site) -> Read:
    return (await open_source(RabbitMq(url=site.server.url, queue="prompts"), site.context)).sample


async def engine_load(site: Site) -> Read:
    loads = await load.loads(site.context, "hostile", Access(), "vllm", DEADLINE_S)
    return lambda: loads.read(URL(f"{site.server.url}/metrics"))


async def sleep_mode(site: Site) -> Read:
    http = await metrics_session(site.context, "hostile", None)
    mode = sleep.SleepMode(site.context, http, Access(), DEADLINE_S)
    return lambda: mode.is_asleep(URL(site.server.url))


async def _rest(site: Site, refuse: Any) -> Read:
    async def token() -> tuple[str, float]:
        return "token", 3600.0

    tokens = BearerTokens(site.context.clock, token)
    channel = Channel(site.context, API, "hostile")
    rest = Rest(await session(site.context), tokens, channel, refuse, site.context.clock)
    request = Request(operation="read", method="GET", url=site.server.url, about="it")
    return lambda: rest.call(request, repeat=False)


async def azure_rest(site: Site) -> Read:
    return await _rest(site, errors.refuse)


async def gcp_rest(site: Site) -> Read:
    return await _rest(site, gcp_errors.refuse)


async def gcp_token(site: Site) -> Read:
    key = rsa.generate_private_key(65537, 2048)
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = key.private_bytes(serialization.Encoding.PEM, *form).decode()
    person = {"type": "service_account", "client_email": "a@b", "private_key": pem, "token_uri": site.server.url}
    file = site.folder / "key.json"
    file.write_text(json.dumps(person))
    account = await gcp.account(site.context, GcpProject(id="project-1", credentials_file=str(file)))
    return account.tokens.get


async def kube_call(site: Site) -> Read:
    cluster = KubeCluster(kubeconfig=str(write_kubeconfig(site.folder / "kubeconfig", site.server.port)))
    api = await kube.session(site.context, cluster)
    return lambda: api.call("list pods", "GET", "/api/v1/pods", DEADLINE_S)


async def kube_watch(site: Site) -> Read:
    cluster = KubeCluster(kubeconfig=str(write_kubeconfig(site.folder / "kubeconfig", site.server.port)))
    api = await kube.session(site.context, cluster)

    async def events() -> list[Any]:
        return [event async for event in api.events("watch pods", "/api/v1/pods", DEADLINE_S, {})]

    return events


def aws(name: str, operation: str, **request: Any) -> Callable[[Site], Awaitable[Read]]:
    async def opened(site: Site) -> Read:
        account = AwsAccount(region=REGION, endpoint_url=site.server.url)
        api = await service(site.context, name, account)
        return lambda: api.call(operation, repeat=False, **request)

    return opened


async def aws_metadata(site: Site) -> Read:
    http = await metrics_session(site.context, "metadata", None)
    pinned = await board(site.context)
    return lambda: keeps_running(site, AwsMetadataServer(site.server.url, http, pinned, site.context.clock).run())


async def google_metadata(site: Site) -> Read:
    pinned = await board(site.context)

    async def read() -> None:
        await keeps_running(site, (await metadata_server.watcher(site.context, site.server.url, pinned)).watch())

    return read


async def scheduled_events(site: Site) -> Read:
    listener = azure_events.ScheduledEventsListener(
        site.server.url, await session(site.context), site.context, await board(site.context)
    )
    return lambda: keeps_running(site, listener.run())


async def azure_token(site: Site) -> Read:
    token_file = site.folder / "assertion"
    token_file.write_text("assertion")
    account = AzureAccount(
        subscription_id=SUBSCRIPTION,
        credential="workload_identity",
        tenant_id=TENANT,
        client_id=CLIENT,
        token_file=str(token_file),
        authority_url=site.secure_url,
        ca_file=site.trust,
    )
    tokens = (await identity(site.context, account)).tokens("https://management.azure.com/.default")
    return tokens.get


async def service_bus(site: Site) -> Read:
    file = site.folder / "connection"
    host = f"127.0.0.1:{site.server.port}"
    file.write_text(f"Endpoint=sb://{host}/;SharedAccessKeyName=a;SharedAccessKey=Yg==")
    account = AzureAccount(ca_file=site.trust)
    spec = ServiceBus(namespace=host, queue="prompts", connection_string=Secret(file=str(file)), account=account)
    return (await open_source(spec, site.context)).sample


async def keeps_running(site: Site, endless: Awaitable[Any]) -> None:
    """Run an endless task against the response; it must not end. Raises the error that ended it."""
    task = asyncio.ensure_future(endless)
    try:
        async with asyncio.timeout(30):
            await site.server.requested.wait()
        await asyncio.wait([task], timeout=0.3)
        if task.done():
            task.result()
            raise AssertionError("the task ended")
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


PLAIN: Final[dict[str, Callable[[Site], Awaitable[Read]]]] = {
    "prometheus": prometheus,
    "prometheus past": prometheus_past,
    "scrape": scrape,
    "http json": http_json,
    "rabbitmq": rabbitmq,
    "engine load": engine_load,
    "sleep mode": sleep_mode,
    "azure": azure_rest,
    "gcp": gcp_rest,
    "gcp token": gcp_token,
    "kubernetes": kube_call,
    "kubernetes watch": kube_watch,
    "sqs": aws("sqs", "ReceiveMessage", QueueUrl="http://127.0.0.1/q"),
    "cloudwatch": aws("cloudwatch", "ListMetrics"),
    "eks": aws("eks", "ListClusters"),
    "ec2": aws("ec2", "DescribeInstances"),
    "autoscaling": aws("autoscaling", "DescribeAutoScalingGroups"),
    "aws metadata": aws_metadata,
    "gcp metadata": google_metadata,
    "azure scheduled events": scheduled_events,
}
SECURE: Final[dict[str, Callable[[Site], Awaitable[Read]]]] = {
    "azure token": azure_token,
    "service bus": service_bus,
}


@asynccontextmanager
async def site_of(folder: Path, secure: bool) -> AsyncIterator[Site]:
    tls, trust = self_signed(folder)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(hostile(tls if secure else None))
        resources = await stack.enter_async_context(Resources())
        yield Site(server, AdapterContext(resources, SystemClock(), DEADLINE_S), folder, trust)


@pytest.mark.parametrize("adapter", [*PLAIN, *(pytest.param(name, marks=pytest.mark.slow) for name in SECURE)])
async def test_hostile_response_yields_a_value_or_a_port_error(
    adapter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    faults: list[str] = []
    async with site_of(tmp_path, adapter in SECURE) as site:
        read = await {**PLAIN, **SECURE}[adapter](site)
        for name, body in BODIES.items():
            site.server.set(body())
            if fault := await _fault(site, read):
                faults.append(f"{name}: {fault}")
    assert not faults, "\n" + "\n".join(faults)


async def _fault(site: Site, read: Read) -> str:
    """Return why the outcome is invalid; empty where it is valid."""
    try:
        async with asyncio.timeout(60):
            readable(await read())
    except PortError as e:
        if len(str(e)) > MAX_MESSAGE_CHARS:
            return f"a message of {len(str(e))} characters"
        try:
            str(e).encode()
        except UnicodeEncodeError as error:
            return f"an error that cannot be written: {error}"
    except BaseException as e:  # noqa: BLE001 - the test looks for them
        return repr(e)[:200]
    if site.server.sent > MAX_READ_BYTES:
        return f"{site.server.sent / MIB:.0f} MiB were taken"
    return ""
