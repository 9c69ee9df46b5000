"""Redis lists and streams: waiting messages, messages in flight, and the oldest one's age.

A list's length is exact. Redis deletes an empty list, so a missing key reads as 0. A missing stream or consumer
group is an error.

A group's lag counts the messages that it has not read. Redis reports none where it cannot count them, as after messages
were deleted before the group read them. Then the first of these messages are counted, up to a limit, and a count at the
limit is a lower bound. Such a lag returns once the group has read to the end of the stream. A new group has read
nothing: its lag is all that came after the ID with which it was created.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, SSLConnection
from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    InvalidResponse,
    MovedError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from policies.model import Absent, Fresh
from scaler.clouds.http_client import DEADLINE_SHARE
from scaler.clouds.response_validation import one_line, validated
from scaler.config.kinds.redis import Redis
from scaler.config.secret import Secret
from scaler.ports import Context, Misconfigured, PortError, Unavailable
from scaler.sources.sanitize import sanitize

CONNECTIONS: Final = 8
"""Connections per server: a read takes about a millisecond, so they carry thousands of workloads."""
MAX_COUNTED: Final = 100
"""Messages counted where Redis reports no lag: 1 MB with prompts of 10 KB."""
TRANSIENT: Final = (
    RedisConnectionError, RedisTimeoutError, ClusterDownError, TryAgainError, InvalidResponse, OSError,
)  # fmt: skip
TRANSIENT_WORDS: Final = ("max number of clients", "LOADING", "BUSY ")
"""Beginnings of refusals that pass with time and have no class of their own, after ``ERR``."""


async def open_redis(spec: Redis, context: Context) -> RedisSource:
    """Open the source. Raises `Misconfigured`."""
    return RedisSource(spec, context, await _client(spec, context))


class RedisSource:
    """The source's port."""

    def __init__(self, spec: Redis, context: Context, client: Client) -> None:
        self._spec = spec
        self._clock = context.clock
        self._client = client
        self._limit_s = DEADLINE_SHARE * context.deadline_s
        self._server = f"Redis at {spec.host}:{spec.port}"

    @validated("Redis")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._read()
        except (RedisError, OSError) as e:  # TimeoutError is an OSError
            raise self._port_error(e) from e

    async def _read(self) -> Mapping[str, Fresh[float] | Absent]:
        at = self._clock.now()  # the counts are no older than this
        spec = self._spec
        if spec.stream_key is not None:
            if spec.group is not None:
                return await self._group_readings(spec.stream_key, spec.group, at)
            return await self._stream_readings(spec.stream_key, at)
        keys = {"visible": spec.list_key, "in_flight": spec.processing_key}
        return {q: sanitize(q, await self._client.llen(key), at) for q, key in keys.items() if key is not None}

    async def _stream_readings(self, key: str, at: float) -> Mapping[str, Fresh[float] | Absent]:
        stream = await self._client.xinfo_stream(key)
        readings = {"visible": sanitize("visible", stream["length"], at)}
        if self._spec.oldest_age:
            first = stream["first-entry"]
            readings["oldest_age_s"] = sanitize("oldest_age_s", await self._age_s(first[0] if first else None), at)
        return readings

    async def _group_readings(self, key: str, name: str, at: float) -> Mapping[str, Fresh[float] | Absent]:
        groups = {_text(group["name"]): group for group in await self._client.xinfo_groups(key)}
        if name not in groups:
            raise Misconfigured(f"{self._server}: stream {key!r} has no consumer group {name!r}{_others(groups)}")
        group = groups[name]
        lag, missing = group.get("lag"), ""  # Redis 6 reports no lag
        unread: Any = ()
        if lag is None or (self._spec.oldest_age and lag > 0):
            after = f"({_text(group['last-delivered-id'])}"
            unread = await self._client.xrange(key, min=after, count=MAX_COUNTED if lag is None else 1)
        if lag is None:
            lag = len(unread)
            missing = f"Redis reports no lag, and {lag} messages or more wait" if lag == MAX_COUNTED else ""
        readings = {
            "visible": sanitize("visible", lag, at, missing),
            "in_flight": sanitize("in_flight", group["pending"], at),
        }
        if self._spec.oldest_age:
            readings["oldest_age_s"] = sanitize("oldest_age_s", await self._age_s(unread[0][0] if unread else None), at)
        return readings

    async def _age_s(self, message_id: object) -> float:
        """Return the age of a message by the server's clock; 0 for none. Seconds.

        An ID begins with the time in milliseconds, as in `1764550800123-0`.
        """
        if message_id is None:
            return 0.0
        seconds, microseconds = await self._client.time()
        return max(0.0, seconds + microseconds / 1e6 - int(_text(message_id).partition("-")[0]) / 1e3)

    def _port_error(self, error: Exception) -> PortError:
        """Return the port error of a refusal or of a failed connection."""
        if isinstance(error, TimeoutError | RedisTimeoutError):
            return Unavailable(f"{self._server}: no response within {self._limit_s:.3g} s")
        text = f"{self._server}: {one_line(error)}"
        if isinstance(error, MovedError):
            return Misconfigured(f"{text}: this is a Redis Cluster; set host to the node that holds the key")
        if isinstance(error, AuthenticationError | AuthorizationError):
            return Misconfigured(f"{text}; check username and password")
        if isinstance(error, ResponseError) and "no such key" in str(error):
            return Misconfigured(
                f"{self._server}: there is no stream {self._spec.stream_key!r}; create it, or fix the key"
            )
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return Misconfigured(f"{text}; set tls.ca_file")
        words = str(error).removeprefix("ERR ")
        return (Unavailable if isinstance(error, TRANSIENT) or words.startswith(TRANSIENT_WORDS) else Misconfigured)(
            text
        )


class _Credentials(CredentialProvider):
    """User name and password, read at each connection."""

    def __init__(self, username: str | None, password: Secret) -> None:
        self._username = username
        self._password = password

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._password.read()
        return (password,) if self._username is None else (self._username, password)


async def _client(spec: Redis, context: Context) -> Client:
    """Return the client that all sources of a server and user share. Raises `Misconfigured`."""
    settings: dict[str, Any] = {"host": spec.host, "port": spec.port, "db": spec.database}
    if spec.password is not None:
        settings["credential_provider"] = _Credentials(spec.username, spec.password)
    if spec.tls is not None:
        spec.tls.context()  # an unusable file is reported at the start
        settings |= {
            "connection_class": SSLConnection,
            "ssl_ca_certs": spec.tls.ca_file,
            "ssl_certfile": spec.tls.certificate_file,
            "ssl_keyfile": spec.tls.key_file,
        }

    @asynccontextmanager
    async def opening() -> AsyncIterator[Client]:
        pool = BlockingConnectionPool(
            max_connections=CONNECTIONS, timeout=None, retry=Retry(NoBackoff(), 0), **settings
        )
        client = Client.from_pool(pool)
        try:
            yield client
        finally:
            await client.aclose()

    key = ("redis", spec.host, spec.port, spec.database, spec.username, spec.password, spec.tls)
    return await context.shared(key, opening)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _others(groups: Mapping[str, object]) -> str:
    """Return a hint at the groups that exist."""
    return f"; it has {', '.join(sorted(groups)[:5])}" if groups else "; create it (XGROUP CREATE)"
