"""Redis, and servers with the same protocol: lists and streams as queues."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.tls import HOST, Tls
from scaler.config.secret import Secret


@dataclass(frozen=True, kw_only=True)
class Redis:
    """A list or a stream in Redis 6.2 or newer, or in Valkey."""

    host: Annotated[str, FieldMetadata("Host name of the server.", pattern=HOST, example="redis.llm")]
    port: Annotated[int, FieldMetadata("Port of the server. Default: 6379, Redis's own.", ge=1, le=65535)] = 6379
    database: Annotated[int, FieldMetadata("Number of the database. Default: 0, Redis's own.", ge=0, le=65535)] = 0
    username: Annotated[
        str | None, FieldMetadata("User name; requires password. Default: null, Redis's default user.")
    ] = None
    password: Annotated[
        Secret | None, FieldMetadata("Reference to the password. Default: null, no authentication.")
    ] = None
    tls: Annotated[Tls | None, FieldMetadata("TLS to the server; {} trusts the system. Default: null, no TLS.")] = None
    list_key: Annotated[
        str | None,
        FieldMetadata(
            "Key of the list that holds the waiting messages. Redis deletes an empty list, so a key that does not"
            " exist has 0 messages: check its spelling. Default: null; set stream_key instead.",
            example="prompts",
        ),
    ] = None
    processing_key: Annotated[
        str | None,
        FieldMetadata(
            "Key of the list to which consumers move the messages that they work on (LMOVE). Its length is reported"
            " as in_flight. Default: null, none."
        ),
    ] = None
    stream_key: Annotated[
        str | None, FieldMetadata("Key of the stream that holds the messages. Default: null; set list_key instead.")
    ] = None
    group: Annotated[
        str | None,
        FieldMetadata(
            "Consumer group of the stream. Messages that it has not read are visible, those that it has read and not"
            " acknowledged are in_flight. Default: null: all messages in the stream are visible."
        ),
    ] = None
    oldest_age: Annotated[
        bool,
        FieldMetadata(
            "Also report the age of the stream's oldest visible message, from its ID. Requires IDs that Redis"
            " generates (XADD with *). Default: false, since producers may use their own IDs."
        ),
    ] = False
    max_age_s: Annotated[
        float, FieldMetadata("Treat older counts as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0)
    ] = 60.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if bool(self.list_key) == bool(self.stream_key):
            yield "", "requires either list_key or stream_key, and not both"
        if self.processing_key is not None and not self.list_key:
            yield "processing_key", "requires list_key; a stream's group reports its messages in flight itself"
        if self.group is not None and not self.stream_key:
            yield "group", "requires stream_key: a list has no consumer groups"
        if self.oldest_age and not self.stream_key:
            yield "oldest_age", "requires stream_key: a list does not record when its messages came"
        if self.username is not None and self.password is None:
            yield "username", "requires password"

    def quantities(self) -> Mapping[str, float]:
        optional = {"in_flight": self.processing_key or self.group, "oldest_age_s": self.oldest_age}
        return dict.fromkeys(["visible", *(q for q, enabled in optional.items() if enabled)], self.max_age_s)
