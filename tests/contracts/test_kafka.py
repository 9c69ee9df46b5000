"""Source contract of Kafka, on librdkafka's mock cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from confluent_kafka import KafkaError

from scaler.adapters import open_source
from scaler.config.kinds.kafka import Kafka
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.kafka import KafkaMock, kafka_mock

pytestmark = pytest.mark.slow
TOTAL = 100
"""Messages in the topic; the group's commit sets its lag."""
HANGING_MS = 30_000


class Rig(SourceRig):
    """Source -> mock broker."""

    quantity = "visible"

    def __init__(self, mock: KafkaMock) -> None:
        self._mock = mock

    async def open(self, context: AdapterContext) -> Source:
        return await open_source(Kafka(bootstrap_servers=(self._mock.address,), topic="prompts", group="llm"), context)

    async def answer(self, value: float) -> None:
        await asyncio.to_thread(self._mock.commit, "llm", "prompts", {0: TOTAL - int(value)})

    async def garble(self) -> None:
        self._mock.fail("OffsetFetch", KafkaError.INVALID_REQUEST)

    async def hang(self) -> None:
        self._mock.delay(HANGING_MS)

    async def refuse(self) -> None:
        self._mock.set_up(up=False)

    async def throttle(self) -> None:
        self._mock.fail("Metadata", KafkaError.THROTTLING_QUOTA_EXCEEDED)

    async def forbid(self) -> None:
        self._mock.fail_topic("prompts", KafkaError.TOPIC_AUTHORIZATION_FAILED)

    async def recover(self) -> None:
        self._mock.clear()
        self._mock.delay(0)
        self._mock.set_up(up=True)
        self._mock.fail_topic("prompts", KafkaError.NO_ERROR)


class TestKafka(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        with kafka_mock() as mock:
            mock.create("prompts", 1)
            await asyncio.to_thread(mock.produce, "prompts", 0, TOTAL)
            yield Rig(mock)
