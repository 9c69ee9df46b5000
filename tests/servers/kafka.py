"""librdkafka's mock cluster: brokers that speak Kafka's protocol, with faults, in this process.

The Python package exposes the cluster only through its first bootstrap address, so the faults use its C interface.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition

API_KEYS: Final = {"Metadata": 3, "ListOffsets": 2, "OffsetFetch": 9}
TYPE_PRODUCER: Final = 0
MANY: Final = 200
"""Number of requests that fail: more than a client sends until the fault is cleared."""


def _library() -> ctypes.CDLL:
    (path,) = (Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs").glob("librdkafka*.so*")
    library = ctypes.CDLL(str(path))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, ()),
        ("rd_kafka_conf_set", ctypes.c_int, (pointer, text, text, pointer, ctypes.c_size_t)),
        ("rd_kafka_new", pointer, (ctypes.c_int, pointer, text, ctypes.c_size_t)),
        ("rd_kafka_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_new", pointer, (pointer, ctypes.c_int)),
        ("rd_kafka_mock_cluster_destroy", None, (pointer,)),
        ("rd_kafka_mock_cluster_bootstraps", text, (pointer,)),
        ("rd_kafka_mock_topic_create", ctypes.c_int, (pointer, text, ctypes.c_int, ctypes.c_int)),
        ("rd_kafka_mock_topic_set_error", None, (pointer, text, ctypes.c_int)),
        ("rd_kafka_mock_broker_set_down", ctypes.c_int, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_up", ctypes.c_int, (pointer, ctypes.c_int32)),
        ("rd_kafka_mock_broker_set_rtt", ctypes.c_int, (pointer, ctypes.c_int32, ctypes.c_int)),
        ("rd_kafka_mock_clear_request_errors", None, (pointer, ctypes.c_int16)),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class KafkaMock:
    """A cluster of one broker."""

    def __init__(self, library: ctypes.CDLL, cluster: int) -> None:
        self._library = library
        self._cluster = cluster
        self.address = library.rd_kafka_mock_cluster_bootstraps(cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 1) == 0

    def fail_topic(self, topic: str, error: int) -> None:
        """Set the error of a topic in the metadata; 0 for none."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), error)

    def fail(self, api: str, error: int) -> None:
        """Let the next requests of an API fail."""
        codes = (ctypes.c_int(error),) * MANY
        push = self._library.rd_kafka_mock_push_request_errors
        push(ctypes.c_void_p(self._cluster), ctypes.c_int16(API_KEYS[api]), ctypes.c_size_t(MANY), *codes)

    def set_up(self, *, up: bool) -> None:
        change = self._library.rd_kafka_mock_broker_set_up if up else self._library.rd_kafka_mock_broker_set_down
        assert change(self._cluster, 1) == 0

    def delay(self, milliseconds: int) -> None:
        """Delay every response."""
        assert self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, milliseconds) == 0

    def clear(self) -> None:
        """End every fault of requests."""
        for key in API_KEYS.values():
            self._library.rd_kafka_mock_clear_request_errors(self._cluster, key)

    def produce(self, topic: str, partition: int, messages: int) -> None:
        producer = Producer({"bootstrap.servers": self.address})
        for _ in range(messages):
            producer.produce(topic, b"a prompt", partition=partition)
        assert producer.flush(30) == 0

    def commit(self, group: str, topic: str, offsets: dict[int, int]) -> None:
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": group, "enable.auto.commit": False})
        partitions = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        consumer.commit(offsets=partitions, asynchronous=False)
        consumer.close()


@contextmanager
def kafka_mock() -> Iterator[KafkaMock]:
    library = _library()
    conf = library.rd_kafka_conf_new()
    library.rd_kafka_conf_set(conf, b"log_level", b"0", None, 0)
    handle = library.rd_kafka_new(TYPE_PRODUCER, conf, None, 0)
    cluster = library.rd_kafka_mock_cluster_new(handle, 1)
    try:
        yield KafkaMock(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(handle)
