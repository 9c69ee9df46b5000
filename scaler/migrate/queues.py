"""KEDA's triggers on cloud queues, as sources of this daemon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from scaler.migrate.autoscaler_ir import Signal, SourceDraft
from scaler.migrate.findings import Named, Remark
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions, authentication

METRIC_TYPES: Final = {"AverageValue": "average_value", "Value": "value"}
QUEUE_URL: Final = re.compile(r"^https?://[^/\s]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$")
Read = tuple[Signal | None, list[Remark]]


@dataclass(frozen=True, slots=True)
class Keys:
    """What a queue's trigger calls its target and its activation, and the target's default."""

    target: str
    default: float
    activation: str


SQS: Final = Keys("queueLength", 5.0, "activationQueueLength")
BUS: Final = Keys("messageCount", 5.0, "activationMessageCount")
SUBSCRIPTION: Final = re.compile(r"^projects/([^/]+)/subscriptions/([^/]+)$")
SIZE: Final = "SubscriptionSize"
MODES: Final = {SIZE: "visible", "NumUndeliveredMessages": "visible", "OldestUnackedMessageAge": "oldest_age_s"}
"""What a gcp-pubsub trigger may look at, as the source's quantities."""
PUBLIC, PRIVATE = "AzurePublicCloud", "Private"
CLOUDS: Final = {PUBLIC: "public", "AzureUSGovernmentCloud": "us_government", "AzureChinaCloud": "china"}
"""Azure's clouds, as KEDA and as this daemon calls them."""


def sqs(trigger: Cursor, metadata: Cursor, given: MigrationOptions) -> Read:
    """aws-sqs-queue. Credentials come by the SDK's own chain (IRSA, Pod Identity), so none are carried over."""
    remarks = authentication(trigger, given)[1]
    url, region = metadata.text("queueURL"), metadata.text("awsRegion")
    if url is None or not QUEUE_URL.match(url):
        where = "queueURLFromEnv" if metadata.has("queueURLFromEnv") else "queueURL"
        rule = "names a variable of the target's container" if where.endswith("Env") else "must be the queue's URL here"
        if url is None and where == "queueURL":
            rule = "is required"
        metadata.skip("queueURLFromEnv", *metadata.data)
        raise Named(metadata.at(where), rule, "write the URL: aws sqs get-queue-url --queue-name NAME")
    metadata.skip("queueURLFromEnv")
    remarks += by_role(metadata, "CountMessages")
    account = {"region": region} if region else {}
    endpoint = metadata.text("awsEndpoint")
    if endpoint:
        account["endpoint_url"] = endpoint
    settings: list[tuple[str, Any]] = [("queue_url", url)]
    if account:
        settings.append(("account", account))
    counted = ["visible"]
    counted += ["in_flight"] if metadata.flag("scaleOnInFlight", default=True) else []
    counted += ["delayed"] if metadata.flag("scaleOnDelayed") else []
    source = SourceDraft("sqs", tuple(settings), tuple(remarks))
    return _queue(trigger, metadata, source, counted, SQS), []


def by_role(metadata: Cursor, statement: str) -> list[Remark]:
    """Remarks that AWS is asked by the daemon's own role, which `statement` of the shipped policy lets in."""
    remarks = []
    if metadata.has("awsAccessKeyID", "awsSecretAccessKey", "awsAccessKeyIDFromEnv", "awsSecretAccessKeyFromEnv"):
        keys = ", ".join(k for k in metadata.data if k.startswith(("awsAccessKey", "awsSecret")))
        rule = f"{keys}: keys are not copied; the SDK finds its own (role, profile, environment)"
        remarks.append(metadata.voice.lost(metadata.place, rule, "let the daemon's role in: docs/import.md"))
    if metadata.has("identityOwner"):
        rule = "has no counterpart: the daemon asks by its own role"
        hint = f"{statement} in config/deploy/aws-iam.json is what that role needs"
        remarks.append(metadata.voice.differs(metadata.at("identityOwner"), rule, hint))
    metadata.skip(
        "identityOwner", "awsAccessKeyID", "awsSecretAccessKey", "awsSessionToken",
        "awsAccessKeyIDFromEnv", "awsSecretAccessKeyFromEnv", "awsSessionTokenFromEnv",
    )  # fmt: skip
    return remarks


def _queue(trigger: Cursor, metadata: Cursor, source: SourceDraft, counted: list[str], keys: Keys) -> Signal:
    """Return a queue's messages, so many per replica."""
    return Signal(
        place=trigger.place,
        type=str(trigger.data["type"]),
        source=source,
        quantities=tuple(counted),
        target=float(metadata.number(keys.target, keys.default, above=True)),
        said=f"{keys.target} ({keys.default:g})",
        target_type=trigger.choice("metricType", METRIC_TYPES, "average_value"),  # type: ignore[arg-type]
        activation=float(metadata.number(keys.activation, 0.0)),
    )


def gcp_pubsub(trigger: Cursor, metadata: Cursor, given: MigrationOptions) -> Read:
    """gcp-pubsub on a subscription. The daemon asks by its own account, so no credentials are carried over."""
    remarks = authentication(trigger, given)[1]
    project, name = _subscription(metadata)
    mode = metadata.text("mode") or SIZE
    if mode not in MODES:
        metadata.skip(*metadata.data)
        hint = "export it to Prometheus, or read it with a cloud_monitoring source"
        raise Named(metadata.at("mode"), f"{mode} is not read: {' and '.join(MODES)} are", hint)
    if metadata.has("valueIfNull"):
        rule = "a value in place of none has no counterpart: what is missing is missing, and nothing shrinks on that"
        remarks.append(metadata.voice.differs(metadata.at("valueIfNull"), rule))
    if metadata.has("aggregation"):
        rule = "over time has no counterpart: the last sample counts"
        remarks.append(metadata.voice.lost(metadata.at("aggregation"), rule, "or ask a cloud_monitoring source"))
    if metadata.has("credentialsFromEnv"):
        rule = "are not copied: the daemon asks by its own account"
        hint = "config/deploy/gcp-role.yaml is what that account needs"
        remarks.append(metadata.voice.differs(metadata.at("credentialsFromEnv"), rule, hint))
    metadata.skip("valueIfNull", "aggregation", "timeHorizon", "credentialsFromEnv", "mode", "subscriptionNameFromEnv")
    old = metadata.has("subscriptionSize")
    metadata.skip("value" if old else "subscriptionSize")
    keys = Keys("subscriptionSize" if old else "value", 10.0, "activationValue")
    source = SourceDraft("pubsub", (("project", {"id": project}), ("subscription", name)), tuple(remarks))
    return _queue(trigger, metadata, source, [MODES[mode]], keys), []


def _subscription(metadata: Cursor) -> tuple[str, str]:
    """Return the project and the subscription's id. Raises `Named`."""
    found = SUBSCRIPTION.match(metadata.text("subscriptionName") or "")
    if found:
        return found[1], found[2]
    where, hint = "subscriptionName", "write projects/PROJECT/subscriptions/NAME"
    if metadata.has("topicName", "topicNameFromEnv"):
        where = "topicName" if metadata.has("topicName") else "topicNameFromEnv"
        rule = "a topic holds no messages: they wait in its subscriptions"
        hint = "name the subscription that the replicas read"
    elif metadata.has("subscriptionNameFromEnv"):
        where, rule = "subscriptionNameFromEnv", "names a variable of the target's container"
    else:
        rule = "names no project: KEDA takes that of its credentials" if metadata.has(where) else "is required"
    metadata.skip(*metadata.data)
    raise Named(metadata.at(where), rule, hint)


def azure_servicebus(trigger: Cursor, metadata: Cursor, given: MigrationOptions) -> Read:
    """azure-servicebus. The daemon asks by its own identity, so no connection string is carried over."""
    known, remarks = authentication(trigger, given)
    connected = metadata.has("connection", "connectionFromEnv") or bool(known and "connection" in known.parameters)
    if connected:
        rule = "a connection string is not copied: the daemon asks by its own identity"
        hint = "let that identity manage the namespace, or give connection_string: {env: NAME}"
        at = next((metadata.at(k) for k in ("connection", "connectionFromEnv") if metadata.has(k)), metadata.place)
        remarks.append(metadata.voice.lost(at, rule, hint))
    if metadata.flag("useRegex"):
        metadata.skip(*metadata.data)
        raise Named(metadata.at("useRegex"), "adds up every queue of a pattern", "name each as a source of its own")
    settings = [("namespace", _namespace(metadata)), *_entity(metadata)]
    cloud = metadata.text("cloud") or PUBLIC
    if cloud in CLOUDS and cloud != PUBLIC:
        settings.append(("account", {"cloud": CLOUDS[cloud]}))
    metadata.skip("connection", "connectionFromEnv", "operation", "cloud", "endpointSuffix")
    source = SourceDraft("service_bus", tuple(settings), tuple(remarks))
    return _queue(trigger, metadata, source, ["visible"], BUS), []


def _namespace(metadata: Cursor) -> str:
    """Return the namespace, as a whole host name in a cloud of one's own. Raises `Named`."""
    name, cloud, suffix = metadata.text("namespace"), metadata.text("cloud") or PUBLIC, metadata.text("endpointSuffix")
    if name is not None and (cloud in CLOUDS or (cloud == PRIVATE and suffix is not None)):
        return f"{name}.{suffix}" if cloud == PRIVATE else name
    metadata.skip(*metadata.data)
    if name is None:
        raise Named(
            metadata.at("namespace"), "is in the connection string alone, which is not copied", "write its name"
        )
    if cloud == PRIVATE:
        raise Named(metadata.at("endpointSuffix"), "is required where cloud is Private", "write the bus's domain")
    raise Named(metadata.at("cloud"), f"must be one of {', '.join((*CLOUDS, PRIVATE))}", "")


def _entity(metadata: Cursor) -> list[tuple[str, Any]]:
    """Return the queue, or the topic and its subscription. Raises `Named`."""
    queue, topic = metadata.text("queueName"), metadata.text("topicName")
    subscription = metadata.text("subscriptionName")
    if queue is not None and topic is None and subscription is None:
        return [("queue", queue)]
    if queue is None and topic is not None and subscription is not None:
        return [("topic", topic), ("subscription", subscription)]
    metadata.skip(*metadata.data)
    raise Named(metadata.place, "must name a queueName, or a topicName and a subscriptionName, as KEDA has it", "")
