"""Translates KEDA's triggers on cloud queues to sources."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from scaler.migrate.autoscaler_ir import Signal, SourceDraft
from scaler.migrate.findings import Remark, Unsupported
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions, authentication

METRIC_TYPES: Final = {"AverageValue": "average_value", "Value": "value"}
QUEUE_URL: Final = re.compile(r"^https?://[^/\s]+/[0-9]+/[A-Za-z0-9_-]{1,80}(\.fifo)?$")
TriggerReading = tuple[Signal | None, list[Remark]]


@dataclass(frozen=True, slots=True)
class TargetKeys:
    """A queue trigger's keys of the target and of the activation, and the target's default."""

    target: str
    default: float
    activation: str


SQS: Final = TargetKeys("queueLength", 5.0, "activationQueueLength")
BUS: Final = TargetKeys("messageCount", 5.0, "activationMessageCount")
SUBSCRIPTION: Final = re.compile(r"^projects/([^/]+)/subscriptions/([^/]+)$")
SIZE: Final = "SubscriptionSize"
MODES: Final = {SIZE: "visible", "NumUndeliveredMessages": "visible", "OldestUnackedMessageAge": "oldest_age_s"}
"""Modes of a gcp-pubsub trigger, by the source's quantities."""
PUBLIC, PRIVATE = "AzurePublicCloud", "Private"
CLOUDS: Final = {PUBLIC: "public", "AzureUSGovernmentCloud": "us_government", "AzureChinaCloud": "china"}
"""Azure's clouds by KEDA's names, with ours."""


def sqs(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read aws-sqs-queue.

    Credentials are not carried over: the SDK finds its own (IRSA, Pod Identity).
    """
    remarks = authentication(trigger, options)[1]
    url, region = metadata.text("queueURL"), metadata.text("awsRegion")
    if url is None or not QUEUE_URL.match(url):
        key = "queueURLFromEnv" if metadata.has("queueURLFromEnv") else "queueURL"
        rule = "names a variable of the target's container" if key.endswith("Env") else "must be the queue's URL"
        if url is None and key == "queueURL":
            rule = "is required"
        metadata.skip("queueURLFromEnv", *metadata.data)
        raise Unsupported(metadata.place_of(key), rule, "set queueURL: aws sqs get-queue-url --queue-name NAME")
    metadata.skip("queueURLFromEnv")
    remarks += by_role(metadata, "CountMessages")
    account = {"region": region} if region else {}
    endpoint = metadata.text("awsEndpoint")
    if endpoint:
        account["endpoint_url"] = endpoint
    settings: list[tuple[str, Any]] = [("queue_url", url)]
    if account:
        settings.append(("account", account))
    quantities = ["visible"]
    quantities += ["in_flight"] if metadata.flag("scaleOnInFlight", default=True) else []
    quantities += ["delayed"] if metadata.flag("scaleOnDelayed") else []
    source = SourceDraft("sqs", tuple(settings), tuple(remarks))
    return queue_signal(trigger, metadata, source, quantities, SQS), []


def by_role(metadata: Cursor, statement: str) -> list[Remark]:
    """Return remarks that the daemon uses its own AWS role.

    That role needs `statement` of the shipped policy.
    """
    remarks = []
    if metadata.has("awsAccessKeyID", "awsSecretAccessKey", "awsAccessKeyIDFromEnv", "awsSecretAccessKeyFromEnv"):
        keys = ", ".join(k for k in metadata.data if k.startswith(("awsAccessKey", "awsSecret")))
        rule = f"{keys}: access keys are not copied; the SDK finds credentials (role, profile, environment)"
        remarks.append(
            metadata.reporter.lost(metadata.place, rule, "grant access to the daemon's role", names=("access-keys",))
        )
    if metadata.has("identityOwner"):
        rule = "has no counterpart: the daemon uses its own role"
        hint = f"that role needs {statement} of config/deploy/aws-iam.json"
        remarks.append(metadata.reporter.differs(metadata.place_of("identityOwner"), rule, hint))
    metadata.skip(
        "identityOwner", "awsAccessKeyID", "awsSecretAccessKey", "awsSessionToken",
        "awsAccessKeyIDFromEnv", "awsSecretAccessKeyFromEnv", "awsSessionTokenFromEnv",
    )  # fmt: skip
    return remarks


def queue_signal(
    trigger: Cursor, metadata: Cursor, source: SourceDraft, quantities: list[str], keys: TargetKeys
) -> Signal:
    """Return the signal of a queue's messages per replica."""
    return Signal(
        place=trigger.place,
        type=str(trigger.data["type"]),
        source=source,
        quantities=tuple(quantities),
        target=float(metadata.number(keys.target, keys.default, exclusive=True)),
        label=f"{keys.target} ({keys.default:g})",
        target_type=trigger.choice("metricType", METRIC_TYPES, "average_value"),  # type: ignore[arg-type]
        activation=float(metadata.number(keys.activation, 0.0)),
    )


def gcp_pubsub(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read gcp-pubsub on a subscription.

    Credentials are not carried over: the daemon uses its own account.
    """
    remarks = authentication(trigger, options)[1]
    project, name = _subscription(metadata)
    mode = metadata.text("mode") or SIZE
    if mode not in MODES:
        metadata.skip(*metadata.data)
        hint = "export it to Prometheus, or read it with a cloud_monitoring source"
        raise Unsupported(metadata.place_of("mode"), f"{mode} is not supported: use one of {', '.join(MODES)}", hint)
    if metadata.has("valueIfNull"):
        rule = "has no counterpart: a missing sample counts as missing, not as a value, and blocks scale-in"
        remarks.append(metadata.reporter.differs(metadata.place_of("valueIfNull"), rule))
    if metadata.has("aggregation"):
        rule = "has no counterpart: the last sample is used"
        remarks.append(
            metadata.reporter.lost(metadata.place_of("aggregation"), rule, "or use a cloud_monitoring source")
        )
    if metadata.has("credentialsFromEnv"):
        rule = "are not copied: the daemon uses its own service account"
        hint = "that account needs the role in config/deploy/gcp-role.yaml"
        remarks.append(metadata.reporter.differs(metadata.place_of("credentialsFromEnv"), rule, hint))
    metadata.skip("valueIfNull", "aggregation", "timeHorizon", "credentialsFromEnv", "mode", "subscriptionNameFromEnv")
    is_old_form = metadata.has("subscriptionSize")
    metadata.skip("value" if is_old_form else "subscriptionSize")
    keys = TargetKeys("subscriptionSize" if is_old_form else "value", 10.0, "activationValue")
    source = SourceDraft("pubsub", (("project", {"id": project}), ("subscription", name)), tuple(remarks))
    return queue_signal(trigger, metadata, source, [MODES[mode]], keys), []


def _subscription(metadata: Cursor) -> tuple[str, str]:
    """Return the project and the subscription's id. Raises `Unsupported`."""
    match = SUBSCRIPTION.match(metadata.text("subscriptionName") or "")
    if match:
        return match[1], match[2]
    key, hint = "subscriptionName", "set projects/PROJECT/subscriptions/NAME"
    if metadata.has("topicName", "topicNameFromEnv"):
        key = "topicName" if metadata.has("topicName") else "topicNameFromEnv"
        rule = "a topic holds no messages: they wait in its subscriptions"
        hint = "set subscriptionName to the subscription that the replicas read"
    elif metadata.has("subscriptionNameFromEnv"):
        key, rule = "subscriptionNameFromEnv", "names a variable of the target's container"
    else:
        rule = "names no project; KEDA takes it from its credentials" if metadata.has(key) else "is required"
    metadata.skip(*metadata.data)
    raise Unsupported(metadata.place_of(key), rule, hint)


def azure_servicebus(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read azure-servicebus.

    The connection string is not carried over: the daemon uses its own identity.
    """
    known, remarks = authentication(trigger, options)
    has_connection_string = metadata.has("connection", "connectionFromEnv") or bool(
        known and "connection" in known.parameters
    )
    if has_connection_string:
        rule = "a connection string is not copied: the daemon uses its own identity"
        hint = "grant that identity access to the namespace, or set connection_string: {env: NAME}"
        place = next(
            (metadata.place_of(k) for k in ("connection", "connectionFromEnv") if metadata.has(k)), metadata.place
        )
        remarks.append(metadata.reporter.lost(place, rule, hint, names=("connection",)))
    if metadata.flag("useRegex"):
        metadata.skip(*metadata.data)
        raise Unsupported(
            metadata.place_of("useRegex"), "adds up all queues that match a pattern", "configure one source per queue"
        )
    settings = [("namespace", _namespace(metadata)), *_entity(metadata)]
    cloud = metadata.text("cloud") or PUBLIC
    if cloud in CLOUDS and cloud != PUBLIC:
        settings.append(("account", {"cloud": CLOUDS[cloud]}))
    metadata.skip("connection", "connectionFromEnv", "operation", "cloud", "endpointSuffix")
    source = SourceDraft("service_bus", tuple(settings), tuple(remarks))
    return queue_signal(trigger, metadata, source, ["visible"], BUS), []


def _namespace(metadata: Cursor) -> str:
    """Return the namespace, with the domain in a private cloud. Raises `Unsupported`."""
    name, cloud, suffix = metadata.text("namespace"), metadata.text("cloud") or PUBLIC, metadata.text("endpointSuffix")
    if name is not None and (cloud in CLOUDS or (cloud == PRIVATE and suffix is not None)):
        return f"{name}.{suffix}" if cloud == PRIVATE else name
    metadata.skip(*metadata.data)
    if name is None:
        raise Unsupported(
            metadata.place_of("namespace"), "is only in the connection string, which is not copied", "set namespace"
        )
    if cloud == PRIVATE:
        raise Unsupported(
            metadata.place_of("endpointSuffix"), "is required for cloud: Private", "set the domain of the service bus"
        )
    raise Unsupported(metadata.place_of("cloud"), f"must be one of {', '.join((*CLOUDS, PRIVATE))}", "")


def _entity(metadata: Cursor) -> list[tuple[str, Any]]:
    """Return the queue, or the topic and its subscription. Raises `Unsupported`."""
    queue, topic = metadata.text("queueName"), metadata.text("topicName")
    subscription = metadata.text("subscriptionName")
    if queue is not None and topic is None and subscription is None:
        return [("queue", queue)]
    if queue is None and topic is not None and subscription is not None:
        return [("topic", topic), ("subscription", subscription)]
    metadata.skip(*metadata.data)
    raise Unsupported(
        metadata.place, "must have a queueName, or a topicName and a subscriptionName, as KEDA requires", ""
    )
