"""Kafka on librdkafka's mock cluster: lag over partitions, groups without a commit, names in errors, TLS."""

from __future__ import annotations

import asyncio
import socketserver
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from confluent_kafka import KafkaError

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.tls import Tls
from scaler.config.kinds.kafka import Kafka
from scaler.config.secret import Secret
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.kafka import is_permanent
from tests.factories import DEADLINE_S
from tests.servers.certificate import self_signed
from tests.servers.kafka import KafkaMock, kafka_mock
from tests.servers.kafka_login import kafka_gateway
from tests.servers.tcp_fault import free_port

pytestmark = pytest.mark.slow


@pytest.fixture
def mock() -> Iterator[KafkaMock]:
    with kafka_mock() as cluster:
        cluster.create("prompts", 3)
        cluster.produce("prompts", 0, 10)
        cluster.produce("prompts", 1, 5)
        yield cluster


async def read(address: str, deadline_s: float = DEADLINE_S, **settings: Any) -> Fresh[float] | Absent:
    async with Resources() as resources:
        spec = Kafka(**{"bootstrap_servers": (address,), "topic": "prompts", "group": "llm", **settings})
        return (await (await open_source(spec, AdapterContext(resources, SystemClock(), deadline_s))).sample())[
            "visible"
        ]


async def test_lag_is_the_sum_over_partitions(mock: KafkaMock) -> None:
    await asyncio.to_thread(mock.commit, "llm", "prompts", {0: 4, 1: 5})
    reading = await read(mock.address)
    assert isinstance(reading, Fresh)
    assert (reading.value, reading.missing) == (6, ""), "partition 2 has no messages, so it needs no commit"


async def test_partition_without_a_commit_makes_the_lag_a_lower_bound(mock: KafkaMock) -> None:
    await asyncio.to_thread(mock.commit, "llm", "prompts", {0: 4})
    reading = await read(mock.address)
    assert isinstance(reading, Fresh)
    assert reading.value == 6
    assert reading.missing == "1 of 3 partitions have no committed offset of group 'llm'"


async def test_group_that_never_committed_is_an_error_or_has_all_messages(mock: KafkaMock) -> None:
    with pytest.raises(Misconfigured, match=r"consumer group 'lm' has committed no offset.*without_commit: earliest"):
        await read(mock.address, group="lm")
    reading = await read(mock.address, group="lm", without_commit="earliest")
    assert isinstance(reading, Fresh)
    assert (reading.value, reading.missing) == (15, "")


async def test_missing_topic_is_named_and_not_created(mock: KafkaMock) -> None:
    for _ in range(2):
        with pytest.raises(Misconfigured, match="topic 'promts' does not exist"):
            await read(mock.address, topic="promts")


async def test_failed_connection_has_its_reason() -> None:
    with pytest.raises(Unavailable, match="Connection refused"):
        await read(f"127.0.0.1:{free_port()}", deadline_s=1.0)


async def test_certificate_is_verified(tmp_path: Path) -> None:
    context, ca_file = self_signed(tmp_path)
    with hanging_up(context) as address:
        with pytest.raises(Misconfigured, match=r"certificate verify failed.*check tls"):
            await read(address, deadline_s=10.0, tls=Tls())
        with pytest.raises(Unavailable):
            await read(address, deadline_s=2.0, tls=Tls(ca_file=ca_file))


@pytest.mark.parametrize(
    ("code", "text", "permanent"),
    [
        (KafkaError._SSL, "SSL routines::certificate verify failed", True),
        (KafkaError._TRANSPORT, "SSL routines::certificate verify failed", True),  # when the server is quick
        (KafkaError._TRANSPORT, "Connect to ipv4#127.0.0.1:9092 failed: Connection refused", False),
    ],
)
def test_refused_certificate_is_permanent_whatever_its_code(code: int, text: str, permanent: bool) -> None:
    assert is_permanent(KafkaError(code, text)) is permanent


@contextmanager
def hanging_up(context: ssl.SSLContext) -> Iterator[str]:
    """Yield the address of a server that closes each connection after the TLS handshake.

    It has threads of its own: librdkafka may be in a handshake when the test's event loop ends.
    """

    class HangUp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(5.0)
            with suppress(OSError):
                context.wrap_socket(self.request, server_side=True).close()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), HangUp) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


async def test_login_over_tls(mock: KafkaMock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context, ca_file = self_signed(tmp_path)
    (tmp_path / "other").mkdir()
    _, other_ca = self_signed(tmp_path / "other")
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2-but-longer")
    await asyncio.to_thread(mock.commit, "llm", "prompts", {0: 4, 1: 5})
    password = Secret(env="KAFKA_PASSWORD")
    good: dict[str, Any] = {
        "mechanism": "PLAIN",
        "username": "forescale",
        "password": password,
        "tls": Tls(ca_file=ca_file),
    }
    refused: list[tuple[dict[str, Any], str]] = [
        ({"username": "nobody"}, "check tls, mechanism, username and password"),
        ({"mechanism": "SCRAM-SHA-512"}, "check tls, mechanism, username and password"),
        ({"tls": Tls(ca_file=other_ca)}, r"certificate verify failed.*check tls"),
    ]
    async with kafka_gateway(mock.address, context, "forescale", "hunter2-but-longer") as address:
        lag = await read(address, **good)
        assert isinstance(lag, Fresh)
        assert (lag.value, lag.missing) == (6, "")
        for change, reason in refused:
            with pytest.raises(Misconfigured, match=reason) as error:
                await read(address, deadline_s=5.0, **{**good, **change})
            assert "hunter2" not in str(error.value)
        monkeypatch.setenv("KAFKA_PASSWORD", "wrong-and-longer")
        with pytest.raises(Misconfigured, match="check tls, mechanism, username and password") as error:
            await read(address, deadline_s=5.0, **good)
        assert "wrong-and" not in str(error.value)


async def test_password_is_never_shown(mock: KafkaMock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_PASSWORD", "hunter2-but-longer")
    login = {"mechanism": "PLAIN", "username": "forescale", "password": Secret(env="KAFKA_PASSWORD")}
    with pytest.raises((Misconfigured, Unavailable)) as error:
        await read(mock.address, deadline_s=2.0, **login)
    assert "hunter2" not in str(error.value)
