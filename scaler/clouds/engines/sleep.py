"""vLLM's sleep mode over HTTP: whether an engine sleeps, waking it, and putting it to sleep.

The endpoints are there only where the engine runs with `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import aiohttp
from yarl import URL

from scaler.clouds import http_client
from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.http_access import Access
from scaler.clouds.http_answers import decode_json, http_errors, read_body
from scaler.clouds.response_validation import one_line, understood
from scaler.ports import Clock, Context, Misconfigured, PortError, Throttled, Unavailable

API: Final = Api("vllm", per_s=200.0, burst=800)
"""An engine answers these from its own process; the budget is against a fault of ours."""
SLEEP_LIMIT_S: Final = 120.0
"""Falling asleep copies the weights to the host's memory: 11 s for 16 GB on an H100, and more in proportion."""
WAKE_LIMIT_S: Final = 60.0
"""Waking copies them back: 0.6 s there."""
MAX_BODY: Final = 2**16
"""Bytes of an answer, which has some dozens."""
MODE: Final = "start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"


class SleepMode:
    """The calls to the engines of one pool."""

    def __init__(self, context: Context, session: aiohttp.ClientSession, access: Access, look_s: float) -> None:
        self._clock: Clock = context.clock
        self._channel = Channel(context, API, session)
        self._session = session
        self._access = access
        self._look_s = look_s

    async def is_asleep(self, engine: URL) -> bool:
        """Whether it sleeps. Raises the port errors."""
        what = f"GET {engine / 'is_sleeping'}"
        content = await self._call("is_sleeping", "GET", engine / "is_sleeping", self._look_s)
        with understood(f"{what}: is_sleeping"):
            asleep = decode_json(what, content)["is_sleeping"]
        if not isinstance(asleep, bool):
            raise Unavailable(f"{what}: is_sleeping is {one_line(repr(asleep))}, neither true nor false")
        return asleep

    async def is_healthy(self, engine: URL) -> bool:
        """Whether it takes requests."""
        try:
            await self._call("health", "GET", engine / "health", self._look_s)
        except PortError:
            return False
        return True

    async def wake(self, engine: URL) -> None:
        """Wake it; returns when it is awake. Raises the port errors."""
        await self._call("wake_up", "POST", engine / "wake_up", WAKE_LIMIT_S)

    async def sleep(self, engine: URL) -> None:
        """Put it to sleep, its weights kept in the host's memory; returns when it sleeps. Raises the port errors."""
        await self._call("sleep", "POST", (engine / "sleep").with_query(level="1"), SLEEP_LIMIT_S)

    async def _call(self, operation: str, method: str, url: URL, limit_s: float) -> bytes:
        attempt = partial(self._attempt, method, url, limit_s)
        return await self._channel.call(operation, attempt, write=method == "POST", deadline_s=limit_s)

    async def _attempt(self, method: str, url: URL, limit_s: float) -> bytes:
        what, limit = f"{method} {url}", aiohttp.ClientTimeout(total=limit_s)
        with http_errors(what):
            async with self._session.request(
                method, url, headers=self._access.sent(), timeout=limit, allow_redirects=False
            ) as answer:
                content = await read_body(what, answer, MAX_BODY)
        if answer.status != 200:
            raise _refusal(what, answer.status, answer.headers, content, self._clock.now())
        return content


def _refusal(what: str, status: int, headers: Mapping[str, Any], content: bytes, now: float) -> PortError:
    """A status other than 200 by its remedy."""
    if status == 404:
        return Misconfigured(f"{what}: HTTP 404: {MODE}")
    refusal = http_client.refusal(what, status, headers, content, now)
    if status == 429 and isinstance(refusal, Unavailable):
        return Throttled(str(refusal), refusal.retry_after_s)
    return refusal
