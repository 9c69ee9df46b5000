"""Kafka: a consumer group's lag on a topic, summed over the partitions.

A partition's lag is its end offset minus the group's committed offset. Example: end 120 and committed 100 is 20. Where
retention has deleted messages that the group has not read, its first offset replaces the committed one. Messages that
a consumer has read and not committed are part of the lag: Kafka reports none in flight, and no ages.

A group that has never committed has no lag. That is an error, since a wrong name looks the same; `without_commit` may
count all messages of the topic instead. A partition without messages has the lag 0, committed or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, Final

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from policies.model import Absent, Fresh
from scaler.clouds.http_client import DEADLINE_SHARE
from scaler.clouds.response_validation import one_line, validated
from scaler.config.kinds.kafka import Kafka
from scaler.ports import Context, Misconfigured, PortError, Unavailable
from scaler.sources.sanitize import sanitize

PERMANENT: Final = frozenset(
    {
        "CLUSTER_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "INVALID_GROUP_ID", "SASL_AUTHENTICATION_FAILED",
        "TOPIC_AUTHORIZATION_FAILED", "TOPIC_EXCEPTION", "UNSUPPORTED_SASL_MECHANISM", "_AUTHENTICATION",
        "_INVALID_ARG", "_SSL", "_UNSUPPORTED_FEATURE",
    }
)  # fmt: skip
"""Names of errors that a person must fix. Those with an underscore are the client's own."""
UNTRUSTED: Final = "certificate verify failed"
"""Text of a refused certificate. librdkafka names it `_SSL`, or `_TRANSPORT` if its first handshake call fails."""
UNKNOWN_TOPIC: Final = frozenset({"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC"})


async def open_kafka(spec: Kafka, context: Context) -> KafkaSource:
    """Open the source. Raises `Misconfigured`."""
    if spec.tls is not None:
        spec.tls.context()  # an unusable file is reported at the start
    key = ("kafka", spec.bootstrap_servers, spec.mechanism, spec.username, spec.password, spec.tls)

    @asynccontextmanager
    async def opening() -> AsyncIterator[KafkaCluster]:
        with ThreadPoolExecutor(1, thread_name_prefix="kafka") as thread:
            yield KafkaCluster(spec, thread)

    return KafkaSource(spec, context, await context.shared(key, opening))


class KafkaCluster:
    """The client of a cluster and user, which its sources share.

    Its calls run in threads of librdkafka. Only a call for metadata blocks: it has a thread of its own, since name
    resolution of all adapters shares the default ones.
    """

    def __init__(self, spec: Kafka, thread: ThreadPoolExecutor) -> None:
        self._spec = spec
        self._thread = thread
        self._metadata = asyncio.Lock()
        self._connection_error: KafkaError | None = None
        try:
            self._client = AdminClient({**_settings(spec), "error_cb": self._note})
        except KafkaException as e:
            raise Misconfigured(f"Kafka: {one_line(e)}") from e

    async def partitions(self, topic: str, timeout_s: float) -> list[TopicPartition]:
        """Return the topic's partitions. Raises `KafkaException`."""
        self._sign_in()
        async with self._metadata:  # a caller that waits here and gives up leaves no call behind
            loop = asyncio.get_running_loop()
            metadata = await loop.run_in_executor(self._thread, self._client.list_topics, topic, timeout_s)
        found = metadata.topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        return [TopicPartition(topic, partition) for partition in found.partitions]

    async def offsets(self, partitions: list[TopicPartition], spec: Any, timeout_s: float) -> dict[int, int]:
        """Return the first or the end offset of each partition. Raises `KafkaException`."""
        futures = self._client.list_offsets(dict.fromkeys(partitions, spec), request_timeout=timeout_s)
        results = await asyncio.gather(*map(asyncio.wrap_future, futures.values()))
        return {at.partition: result.offset for at, result in zip(futures, results, strict=True)}

    async def committed(self, group: str, partitions: list[TopicPartition], timeout_s: float) -> dict[int, int | None]:
        """Return the group's offset on each partition; None without one. Raises `KafkaException`."""
        request = ConsumerGroupTopicPartitions(group, partitions)
        futures = self._client.list_consumer_group_offsets([request], request_timeout=timeout_s)
        (result,) = await asyncio.gather(*map(asyncio.wrap_future, futures.values()))
        for at in result.topic_partitions:
            if at.error is not None:
                raise KafkaException(at.error)
        return {at.partition: at.offset if at.offset >= 0 else None for at in result.topic_partitions}

    def connection_error(self) -> KafkaError | None:
        """Return the last failure to connect: a call that fails for it only times out."""
        self._client.poll(0)  # runs `_note`
        return self._connection_error

    def forget_connection_error(self) -> None:
        """Forget failures before now, since the cluster responds."""
        self._client.poll(0)
        self._connection_error = None

    def _note(self, error: KafkaError) -> None:
        if error.name() != "_ALL_BROKERS_DOWN":  # follows each failure, without its reason
            self._connection_error = error

    def _sign_in(self) -> None:
        """Give the client the present password."""
        if self._spec.username is not None and self._spec.password is not None:
            self._client.set_sasl_credentials(self._spec.username, self._spec.password.read())


class KafkaSource:
    """The source's port."""

    def __init__(self, spec: Kafka, context: Context, cluster: KafkaCluster) -> None:
        self._spec = spec
        self._clock = context.clock
        self._cluster = cluster
        self._limit_s = DEADLINE_SHARE * context.deadline_s
        self._what = f"Kafka at {', '.join(spec.bootstrap_servers)}: topic {spec.topic!r}"

    @validated("Kafka")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        try:
            async with asyncio.timeout(self._limit_s):
                at = self._clock.now()  # the offsets are no older than this
                lag, missing = await self._lag()
                self._cluster.forget_connection_error()
        except (KafkaException, TimeoutError) as e:
            raise self._port_error(e) from e
        return {"visible": sanitize("visible", lag, at, missing)}

    async def _lag(self) -> tuple[int, str]:
        """Return the lag, and the partitions that it does not contain."""
        cluster, limit_s = self._cluster, self._limit_s
        partitions = await cluster.partitions(self._spec.topic, limit_s)
        committed, first, end = await asyncio.gather(
            cluster.committed(self._spec.group, partitions, limit_s),
            cluster.offsets(partitions, OffsetSpec.earliest(), limit_s),
            cluster.offsets(partitions, OffsetSpec.latest(), limit_s),
        )
        lag, unknown = 0, 0
        for partition, offset in committed.items():
            if offset is None and self._spec.without_commit == "missing" and end[partition] > first[partition]:
                unknown += 1
            else:
                lag += max(0, end[partition] - max(first[partition], offset or 0))
        group = self._spec.group
        if all(offset is None for offset in committed.values()) and self._spec.without_commit == "missing":
            raise Misconfigured(
                f"{self._what}: consumer group {group!r} has committed no offset: its name is wrong, or it has never"
                " read the topic; correct group, or set without_commit: earliest"
            )
        reason = f"{unknown} of {len(committed)} partitions have no committed offset of group {group!r}"
        return lag, reason if unknown else ""

    def _port_error(self, failure: Exception) -> PortError:
        """Return the port error of a refusal or of a failed connection."""
        error = failure.args[0] if isinstance(failure, KafkaException) else None
        name = error.name() if error is not None else ""
        text = one_line(error.str()) if error is not None else f"no response within {self._limit_s:.3g} s"
        if name in UNKNOWN_TOPIC:
            return Misconfigured(f"{self._what} does not exist; create it, or correct topic")
        if name in PERMANENT:
            return Misconfigured(f"{self._what}: {text}")
        connection = self._cluster.connection_error()
        if connection is None:
            return Unavailable(f"{self._what}: {text}")
        reason = one_line(connection.str())
        if is_permanent(connection):
            return Misconfigured(f"{self._what}: {reason}; check tls, mechanism, username and password")
        return Unavailable(f"{self._what}: {text} ({reason})")


def is_permanent(error: KafkaError) -> bool:
    """Return whether a person must fix the failure to connect."""
    return error.name() in PERMANENT or UNTRUSTED in error.str()


def _settings(spec: Kafka) -> dict[str, Any]:
    """Return librdkafka's settings of the cluster."""
    security = {
        (False, False): "PLAINTEXT",
        (True, False): "SSL",
        (False, True): "SASL_PLAINTEXT",
        (True, True): "SASL_SSL",
    }
    settings: dict[str, Any] = {
        "bootstrap.servers": ",".join(spec.bootstrap_servers),
        "client.id": "forescale",
        "security.protocol": security[spec.tls is not None, spec.mechanism is not None],
        "allow.auto.create.topics": False,  # reading a topic must not create it
        "log_level": 0,  # failures come as exceptions and by `error_cb`
    }
    if spec.mechanism is not None and spec.password is not None:
        settings |= {
            "sasl.mechanism": spec.mechanism,
            "sasl.username": spec.username,
            "sasl.password": spec.password.read(),
        }
    if spec.tls is not None:
        files = {
            "ssl.ca.location": spec.tls.ca_file,
            "ssl.certificate.location": spec.tls.certificate_file,
            "ssl.key.location": spec.tls.key_file,
        }
        settings |= {key: file for key, file in files.items() if file is not None}
    return settings
