"""Settings of notices to people: their destinations, and which events each of them receives."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias, get_args

from policies.model.field_metadata import FieldMetadata
from policies.model.names import NAME
from scaler.config.secret import Secret

NoticeEvent: TypeAlias = Literal["slo", "reads", "capacity", "budget", "override"]
EVENTS: Final[tuple[NoticeEvent, ...]] = get_args(NoticeEvent)


@dataclass(frozen=True, kw_only=True)
class NoticeDestination:
    """A place that receives notices: a chat channel, a pager, a mailbox or a webhook."""

    url: Annotated[
        Secret,
        FieldMetadata(
            "Reference to the URL, in the notation of the library Apprise: a Slack or Teams webhook as it is,"
            " pagerduty://INTEGRATION_KEY@API_KEY, mailtos://USER:PASSWORD@HOST?to=ADDRESS, jsons://HOST/PATH. It"
            " contains secrets. It is read for each message."
        ),
    ]
    events: Annotated[
        tuple[NoticeEvent, ...],
        FieldMetadata(
            "Events to send. slo: an SLO is at risk or violated. reads: a source or pool cannot be read for 2 minutes."
            " capacity: a quota error or a stock-out. budget: a budget limits the size for 5 minutes. override: a"
            " manual override has ended and is still configured. Default: all of them."
        ),
    ] = EVENTS

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.events:
            yield "events", f"must name at least one of {', '.join(EVENTS)}"


@dataclass(frozen=True, kw_only=True)
class NoticesSpec:
    """Notices to people about conditions of workloads.

    A condition is sent at its start, again while it lasts, and at its end.
    """

    destinations: Annotated[
        Mapping[str, NoticeDestination],
        FieldMetadata(
            "Destinations by name. Default: none, which turns notices off. They need the extra notices, and forescale"
            " notify tries them."
        ),
    ] = field(default_factory=dict)
    repeat_s: Annotated[
        float,
        FieldMetadata(
            "Time after which a condition that lasts is sent again. The default of 14400 is four hours. Seconds.",
            ge=600,
            le=2_592_000,
        ),
    ] = 14_400.0
    dashboard_url: Annotated[
        str | None,
        FieldMetadata(
            "URL of the dashboard as people reach it, which each notice contains. Default: null, no link.",
            example="https://forescale.example.com/",
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        for name in self.destinations:
            if not re.match(NAME.regex, name):
                yield "destinations", f"{name!r} is not a name: use {NAME.words}"
        if self.dashboard_url is not None and not re.fullmatch(r"https?://[^\s/?#@]+[^\s@]*", self.dashboard_url):
            yield "dashboard_url", "must be an http:// or https:// URL without user information"
