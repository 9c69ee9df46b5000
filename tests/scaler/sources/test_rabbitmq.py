"""RabbitMQ on a real broker: ready and unacknowledged messages, names in errors, states of a queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import closing

import pika
import pytest
from aiohttp import web

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.http_access import Access
from scaler.config.kinds.rabbitmq import RabbitMq
from scaler.config.secret import Secret
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.in_thread import run_in_thread
from tests.servers.rabbitmq import RabbitServer, needs_rabbitmq, rabbitmq
from tests.servers.site import listening

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with run_in_thread(rabbitmq()) as server:
        yield server


@pytest.fixture(autouse=True)
def _passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RABBITMQ_PASSWORD", "guest")
    monkeypatch.setenv("WRONG_PASSWORD", "hunter2-but-longer")


@pytest.fixture
async def queue(broker: RabbitServer) -> AsyncIterator[str]:
    await broker.declare("prompts")
    yield "prompts"
    await broker.delete("prompts")


async def read(
    url: str, queue: str = "prompts", vhost: str = "/", variable: str = "RABBITMQ_PASSWORD"
) -> Mapping[str, Fresh[float] | Absent]:
    access = Access(username="guest", password=Secret(env=variable))
    async with Resources() as resources:
        spec = RabbitMq(url=url, queue=queue, vhost=vhost, access=access)
        return await (await open_source(spec, AdapterContext(resources, SystemClock(), DEADLINE_S))).sample()


@needs_rabbitmq
async def test_delivered_message_is_in_flight_until_acknowledged(broker: RabbitServer, queue: str) -> None:
    for _ in range(5):
        await broker.publish(queue)
    with closing(pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", broker.port))) as connection:
        channel = connection.channel()
        for _ in range(2):
            delivery, _, _ = channel.basic_get(queue)
        await broker.until(queue, messages_ready=3, messages_unacknowledged=2)
        readings = await read(broker.url, queue)
        assert {q: r.value for q, r in readings.items() if isinstance(r, Fresh)} == {"visible": 3, "in_flight": 2}
        channel.basic_ack(delivery.delivery_tag)
        await broker.until(queue, messages_ready=3, messages_unacknowledged=1)
    await broker.until(queue, messages_ready=4, messages_unacknowledged=0)


@needs_rabbitmq
@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"queue": "promts"}, "queue 'promts' in virtual host '/': HTTP 404"),
        ({"vhost": "llm"}, "queue 'prompts' in virtual host 'llm': HTTP 404"),
        ({"variable": "WRONG_PASSWORD"}, "HTTP 401"),
    ],
)
async def test_wrong_setting_is_named(broker: RabbitServer, queue: str, settings: dict[str, str], reason: str) -> None:
    with pytest.raises(Misconfigured) as error:
        await read(broker.url, **{"queue": queue, **settings})
    assert reason in str(error.value)
    assert "hunter2" not in str(error.value)


@needs_rabbitmq
async def test_stream_is_refused(broker: RabbitServer) -> None:
    await broker.declare("log", "stream")
    with pytest.raises(Misconfigured, match="is a stream"):
        await read(broker.url, "log")


@pytest.mark.parametrize("state", ["down", "minority", "crashed"])
async def test_counts_of_a_queue_that_does_not_run_are_unknown(state: str) -> None:
    async def respond(_: web.Request) -> web.Response:
        return web.json_response({"state": state, "messages_ready": 0, "messages_unacknowledged": 0})

    app = web.Application()
    app.router.add_get("/api/queues/{vhost}/{queue}", respond)
    async with listening(app) as port:
        with pytest.raises(Unavailable, match=f"its state is {state}"):
            await read(f"http://127.0.0.1:{port}")
