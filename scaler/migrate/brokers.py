"""Translates KEDA's triggers on message brokers to sources."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

from scaler.migrate.autoscaler_ir import SourceDraft
from scaler.migrate.findings import Remark, Unsupported
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions, authentication
from scaler.migrate.queues import TargetKeys, TriggerReading, queue_signal

ADDRESS: Final = re.compile(r"^\[?([^\s/@,\]]+?)\]?:([0-9]{1,5})$")
SECRETS: Final = ("username", "usernameFromEnv", "password", "passwordFromEnv")
REDIS_LIST: Final = TargetKeys("listLength", 5.0, "activationListLength")
REDIS_LAG: Final = TargetKeys("lagCount", 5.0, "activationLagCount")
REDIS_PENDING: Final = TargetKeys("pendingEntriesCount", 5.0, "activationPendingEntriesCount")
REDIS_LENGTH: Final = TargetKeys("streamLength", 5.0, "activationStreamLength")
KAFKA: Final = TargetKeys("lagThreshold", 10.0, "activationLagThreshold")
MECHANISMS: Final = {"plaintext": "PLAIN", "scram_sha256": "SCRAM-SHA-256", "scram_sha512": "SCRAM-SHA-512"}
BROKER: Final = re.compile(r"^(https?|amqps?)://([^/\s]*@)?([^/@\s?#]+)((?:/[^\s?#]*)?)$")
QUEUE_LENGTH: Final = "QueueLength"
RABBIT: Final = TargetKeys("value", 20.0, "activationValue")
RABBIT_OLD: Final = TargetKeys("queueLength", 20.0, "activationValue")


def redis(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read redis on one list."""
    remarks = authentication(trigger, options)[1]
    settings, more = _redis_server(metadata)
    key = metadata.text("listName", required=True) or "list"
    source = SourceDraft("redis", (*settings, ("list_key", key)), (*remarks, *more))
    return queue_signal(trigger, metadata, source, ["visible"], REDIS_LIST), []


def redis_streams(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read redis-streams.

    As KEDA, it counts the unread messages where `lagCount` is set, the unacknowledged ones of another consumer group,
    and all messages without a group.
    """
    remarks = authentication(trigger, options)[1]
    settings, more = _redis_server(metadata)
    settings.append(("stream_key", metadata.text("stream", required=True) or "stream"))
    group = metadata.text("consumerGroup")
    if group is not None:
        settings.append(("group", group))
    quantity, keys = "visible", REDIS_LENGTH
    if group is not None:
        quantity, keys = ("visible", REDIS_LAG) if metadata.has("lagCount") else ("in_flight", REDIS_PENDING)
    metadata.skip(
        *(key for other in (REDIS_LAG, REDIS_PENDING, REDIS_LENGTH) for key in (other.target, other.activation))
    )
    source = SourceDraft("redis", tuple(settings), (*remarks, *more))
    return queue_signal(trigger, metadata, source, [quantity], keys), []


def _redis_server(metadata: Cursor) -> tuple[list[tuple[str, Any]], list[Remark]]:
    """Return the server's settings, and remarks on what is not copied. Raises `Unsupported`."""
    host, port = _host_and_port(metadata)
    settings: list[tuple[str, Any]] = [("host", host), ("port", port)]
    if database := metadata.integer("databaseIndex", 0):
        settings.append(("database", database))
    if metadata.flag("enableTLS"):
        settings.append(("tls", {}))
    return settings, [*without_secrets(metadata), *verified_tls(metadata)]


def _host_and_port(metadata: Cursor) -> tuple[str, int]:
    """Return the server of `address`, or of `host` and `port`. Raises `Unsupported`."""
    address, host, port = metadata.text("address"), metadata.text("host"), metadata.integer("port", None)
    if address is None and host is not None and port is not None:
        return host, port
    match = ADDRESS.match(address or "")
    if match is not None:
        return match[1], int(match[2])
    in_environment = [key for key in ("addressFromEnv", "hostFromEnv", "portFromEnv") if metadata.has(key)]
    metadata.skip(*metadata.data)
    rule = "names a variable of the target's container" if in_environment else "must be HOST:PORT of one server"
    raise Unsupported(metadata.place_of((*in_environment, "address")[0]), rule, "set address: HOST:PORT")


def without_secrets(metadata: Cursor, *more: str) -> list[Remark]:
    """Return a remark that user name and password are not copied."""
    keys = [key for key in (*SECRETS, *more) if metadata.has(key)]
    metadata.skip(*SECRETS, *more)
    if not keys:
        return []
    hint = "set the source's username, and password: {env: NAME} or {file: PATH}"
    return [metadata.reporter.lost(metadata.place_of(keys[0]), "secrets are never copied", hint, names=("password",))]


def verified_tls(metadata: Cursor) -> list[Remark]:
    """Return a remark where a trigger accepts any certificate."""
    if not metadata.flag("unsafeSsl"):
        return []
    rule = "has no counterpart: certificates are always verified"
    return [metadata.reporter.lost(metadata.place_of("unsafeSsl"), rule, "set the CA file of the source's TLS")]


def rabbitmq(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read rabbitmq on the length of one queue.

    As KEDA, it counts the unacknowledged messages where it reads the management plugin (`http`), and not over AMQP.
    """
    remarks = authentication(trigger, options)[1]
    mode = metadata.text("mode") or QUEUE_LENGTH
    if mode != QUEUE_LENGTH:
        metadata.skip(*metadata.data)
        hint = "use QueueLength, or export the rate to Prometheus and import a prometheus trigger"
        raise Unsupported(metadata.place_of("mode"), f"{mode} is not supported", hint)
    if metadata.flag("useRegex"):
        metadata.skip(*metadata.data)
        rule = "adds up all queues that match a pattern"
        raise Unsupported(metadata.place_of("useRegex"), rule, "configure one source per queue")
    url, vhost, is_amqp = _management(metadata, remarks)
    settings: list[tuple[str, Any]] = [("url", url), ("queue", metadata.text("queueName", required=True) or "queue")]
    if vhost != "/":
        settings.append(("vhost", vhost))
    counts_unacknowledged = not metadata.flag("excludeUnacknowledged") and not is_amqp
    remarks += [*without_secrets(metadata), *verified_tls(metadata)]
    metadata.skip("pageSize", "operation", "timeout", "queueLength", "value", "activationValue")
    keys = RABBIT_OLD if metadata.has("queueLength") and not metadata.has("value") else RABBIT
    source = SourceDraft("rabbitmq", tuple(settings), tuple(remarks))
    quantities = ["visible", "in_flight"] if counts_unacknowledged else ["visible"]
    return queue_signal(trigger, metadata, source, quantities, keys), []


def _management(metadata: Cursor, remarks: list[Remark]) -> tuple[str, str, bool]:
    """Return the management plugin's URL, the virtual host, and whether KEDA reads over AMQP.

    The last part of the path is the virtual host. Adds remarks. Raises `Unsupported`.
    """
    host, protocol, vhost = metadata.text("host"), metadata.text("protocol", "auto"), metadata.text("vhostName")
    match = BROKER.match(host or "")
    if match is None:
        key = "hostFromEnv" if metadata.has("hostFromEnv") else "host"
        metadata.skip(*metadata.data)
        rule = "names a variable of the target's container" if key.endswith("Env") else "must be an http or amqp URL"
        hint = "set host to the management plugin, such as http://rabbitmq:15672"
        raise Unsupported(metadata.place_of(key), rule, hint)
    scheme, user, server, path = match.groups()
    if user:
        hint = "set access.username, and access.password: {env: NAME} or {file: PATH}"
        rule = "contains a user name and password, which are not copied"
        remarks.append(metadata.reporter.lost(metadata.place_of("host"), rule, hint, names=("password",)))
    above, _, last = (path or "").rpartition("/")
    is_amqp = scheme.startswith("amqp") or protocol == "amqp"
    if is_amqp:
        server, above = f"{server.partition(':')[0]}:{15671 if scheme.endswith('s') else 15672}", ""
        rule = f"becomes the management plugin at port {server.rpartition(':')[2]}: Forescale does not read over AMQP"
        remarks.append(metadata.reporter.differs(metadata.place_of("host"), rule, "enable it, and check the port"))
    url = f"http{'s' if scheme.endswith('s') else ''}://{server}{above}"
    return url, vhost or unquote(last) or "/", is_amqp


def kafka(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read kafka on one consumer group and topic."""
    known, remarks = authentication(trigger, options)
    servers = [server.strip() for server in (metadata.text("bootstrapServers") or "").split(",") if server.strip()]
    if not servers or not metadata.has("topic") or not metadata.has("consumerGroup"):
        keys = ("bootstrapServers", "topic", "consumerGroup")
        key = next(k for k in keys if not metadata.has(k))
        in_environment = metadata.has(f"{key}FromEnv")
        metadata.skip(*metadata.data)
        rule = "names a variable of the target's container" if in_environment else "is required"
        hint = (
            "set it to the topic; an import of all topics of a group is not supported" if key == "topic" else "set it"
        )
        raise Unsupported(metadata.place_of(f"{key}FromEnv" if in_environment else key), rule, hint)
    settings: list[tuple[str, Any]] = [
        ("bootstrap_servers", servers),
        ("topic", metadata.text("topic")),
        ("group", metadata.text("consumerGroup")),
    ]
    if metadata.text("offsetResetPolicy") == "earliest":
        settings.append(("without_commit", "earliest"))
    if metadata.text("tls") == "enable":
        settings.append(("tls", {}))
    remarks += [*_sasl(metadata, in_secret=known is not None and "sasl" in known.parameters), *verified_tls(metadata)]
    for key in ("allowIdleConsumers", "limitToPartitionsWithLag", "excludePersistentLag", "partitionLimitation"):
        if metadata.has(key):
            rule, hint = "has no counterpart: all partitions count", "set max_replicas to the number of partitions"
            remarks.append(metadata.reporter.differs(metadata.place_of(key), rule, hint))
        metadata.skip(key)
    metadata.skip("scaleToZeroOnInvalidOffset", "version", "ensureEvenDistributionOfPartitions")
    source = SourceDraft("kafka", tuple(settings), tuple(remarks))
    return queue_signal(trigger, metadata, source, ["visible"], KAFKA), []


def _sasl(metadata: Cursor, *, in_secret: bool) -> list[Remark]:
    """Return remarks that the user name and password of SASL are not copied."""
    mode = metadata.text("sasl") or ("a mechanism of the secret" if in_secret else "none")
    if mode == "none":
        return without_secrets(metadata)
    metadata.skip(*SECRETS)
    mechanism = MECHANISMS.get(mode, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    hint = f"set mechanism: {mechanism}, username, and password: {{env: NAME}} or {{file: PATH}}"
    return [metadata.reporter.lost(metadata.place_of("sasl"), "secrets are never copied", hint, names=("password",))]
