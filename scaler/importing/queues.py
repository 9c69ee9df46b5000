"""KEDA's triggers on cloud queues, as sources of this daemon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from scaler.importing.cursor import Cursor
from scaler.importing.found import Signal, Source
from scaler.importing.given import Given, authentication
from scaler.importing.notes import Named, Remark

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


def sqs(trigger: Cursor, metadata: Cursor, given: Given) -> Read:
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
    if metadata.has("awsAccessKeyID", "awsSecretAccessKey", "awsAccessKeyIDFromEnv", "awsSecretAccessKeyFromEnv"):
        keys = ", ".join(k for k in metadata.data if k.startswith(("awsAccessKey", "awsSecret")))
        rule = f"{keys}: keys are not copied; the SDK finds its own (role, profile, environment)"
        remarks.append(
            metadata.voice.lost(metadata.place, rule, "let the daemon's role read the queue: docs/import.md")
        )
    if metadata.has("identityOwner"):
        rule = "has no counterpart: the daemon reads the queue by its own role"
        hint = "CountMessages in config/deploy/aws-iam.json is what that role needs"
        remarks.append(metadata.voice.differs(metadata.at("identityOwner"), rule, hint))
    metadata.skip(
        "queueURLFromEnv", "identityOwner", "awsAccessKeyID", "awsSecretAccessKey", "awsSessionToken",
        "awsAccessKeyIDFromEnv", "awsSecretAccessKeyFromEnv", "awsSessionTokenFromEnv",
    )  # fmt: skip
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
    source = Source("sqs", tuple(settings), tuple(remarks))
    return _queue(trigger, metadata, source, counted, SQS), []


def _queue(trigger: Cursor, metadata: Cursor, source: Source, counted: list[str], keys: Keys) -> Signal:
    """A queue's messages, so many per replica."""
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


def gcp_pubsub(trigger: Cursor, metadata: Cursor, given: Given) -> Read:
    """gcp-pubsub."""
    raise _no_source(trigger, metadata, "pubsub")


def azure_servicebus(trigger: Cursor, metadata: Cursor, given: Given) -> Read:
    """azure-servicebus."""
    raise _no_source(trigger, metadata, "service_bus")


def _no_source(trigger: Cursor, metadata: Cursor, kind: str) -> Named:
    metadata.skip(*metadata.data)
    return Named(trigger.at("type"), f"this version has no source of kind {kind}", "export it to Prometheus")
