"""Apache Kafka: a consumer group's lag on a topic."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.tls import Tls
from scaler.config.secret import Secret

SERVER: Final = re.compile(r"(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9])?):[0-9]{1,5}")


@dataclass(frozen=True, kw_only=True)
class Kafka:
    """A consumer group's lag on a topic of Apache Kafka, or of Redpanda."""

    bootstrap_servers: Annotated[
        tuple[str, ...],
        FieldMetadata("Brokers to begin with, each as HOST:PORT.", example=["kafka.llm:9092"]),
    ]
    topic: Annotated[str, FieldMetadata("Name of the topic.", example="prompts")]
    group: Annotated[str, FieldMetadata("Consumer group whose lag is read.", example="workers")]
    without_commit: Annotated[
        Literal["missing", "earliest"],
        FieldMetadata(
            "How to count a partition with messages on which the group has committed no offset. missing makes the lag"
            " a lower bound, and an error if it holds for every partition. earliest counts all its messages: use it"
            " for consumers with auto.offset.reset=earliest. Default: missing, since a wrong group name has no offset"
            " either."
        ),
    ] = "missing"
    mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None,
        FieldMetadata("SASL mechanism; requires username and password. Default: null, no authentication."),
    ] = None
    username: Annotated[str | None, FieldMetadata("User name for SASL. Default: null, none.")] = None
    password: Annotated[Secret | None, FieldMetadata("Reference to the password for SASL. Default: null, none.")] = None
    tls: Annotated[Tls | None, FieldMetadata("TLS to the brokers; {} trusts the system. Default: null, no TLS.")] = None
    max_age_s: Annotated[
        float, FieldMetadata("Treat older lags as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0)
    ] = 60.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.bootstrap_servers:
            yield "bootstrap_servers", "must name at least one broker, such as kafka.llm:9092"
        if not all(map(SERVER.fullmatch, self.bootstrap_servers)):
            yield "bootstrap_servers", "must be HOST:PORT each, without a scheme"
        if not self.topic or not self.group:
            yield "topic", "and group must not be empty"
        if len({self.mechanism is None, self.username is None, self.password is None}) > 1:
            yield "mechanism", "username and password must be set together"

    def quantities(self) -> Mapping[str, float]:
        return {"visible": self.max_age_s}
