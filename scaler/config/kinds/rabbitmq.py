"""RabbitMQ: queues, by the HTTP API of its management plugin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.http_access import BASE_URL, Access

QUANTITIES: Final = {"visible": "messages_ready", "in_flight": "messages_unacknowledged"}
"""RabbitMQ's name of each quantity."""


@dataclass(frozen=True, kw_only=True)
class RabbitMq:
    """A RabbitMQ queue, quorum or classic, read from the management plugin."""

    url: Annotated[
        str,
        FieldMetadata(
            "Base URL of the management plugin's HTTP API, with its path prefix if it has one.",
            pattern=BASE_URL,
            example="http://rabbitmq.llm:15672",
        ),
    ]
    queue: Annotated[
        str,
        FieldMetadata(
            "Name of the queue.", pattern=Pattern(r"^[ -~]{1,255}$", "1 to 255 ASCII characters"), example="prompts"
        ),
    ]
    vhost: Annotated[
        str,
        FieldMetadata(
            "Virtual host of the queue. Default: /, RabbitMQ's own.",
            pattern=Pattern(r"^[ -~]{1,255}$", "1 to 255 ASCII characters"),
        ),
    ] = "/"
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older counts as stale. The default of 60 is four ticks of 15 s. RabbitMQ updates its counts every"
            " 5 s. Seconds.",
            gt=0,
        ),
    ] = 60.0
    access: Annotated[
        Access,
        FieldMetadata(
            "Credentials and trusted certificates. The user needs the tag monitoring, or management and read access"
            " to the virtual host. Default: no credentials."
        ),
    ] = field(default_factory=Access)

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(QUANTITIES, self.max_age_s)
