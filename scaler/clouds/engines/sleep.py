"""vLLM's sleep mode over HTTP: read an engine's state, wake it, and put it to sleep.

The endpoints exist only where the engine runs with `--enable-sleep-mode` and `VLLM_SERVER_DEV_MODE=1`.
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
from scaler.clouds.response_validation import one_line, unavailable_if_malformed
from scaler.ports import Clock, Context, Misconfigured, PortError, Throttled, Unavailable

API: Final = Api("vllm", per_s=200.0, burst=800, is_divided=False)
"""An engine serves these calls from its own process; the budget bounds a defect of this daemon."""
SLEEP_LIMIT_S: Final = 120.0
"""Time limit of falling asleep, which copies the weights to host memory: 11 s for 16 GB on an H100. Seconds."""
WAKE_LIMIT_S: Final = 60.0
"""Time limit of waking, which copies them back: 0.6 s there. Seconds."""
MAX_BODY: Final = 2**16
"""Bytes of a response, which has some dozens."""
REMEDY: Final = "start vLLM with --enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"


class SleepMode:
    """Client of the engines of one pool."""

    def __init__(self, context: Context, session: aiohttp.ClientSession, access: Access, read_limit_s: float) -> None:
        self._clock: Clock = context.clock
        self._channel = Channel(context, API, session)
        self._session = session
        self._access = access
        self._read_limit_s = read_limit_s

    async def is_asleep(self, engine: URL) -> bool:
        """Return whether the engine sleeps. Raises port errors."""
        what = f"GET {engine / 'is_sleeping'}"
        content = await self._call("is_sleeping", "GET", engine / "is_sleeping", self._read_limit_s)
        with unavailable_if_malformed(f"{what}: is_sleeping"):
            asleep = decode_json(what, content)["is_sleeping"]
        if not isinstance(asleep, bool):
            raise Unavailable(f"{what}: malformed response: is_sleeping is {one_line(repr(asleep))}, not true or false")
        return asleep

    async def is_healthy(self, engine: URL) -> bool:
        """Return whether the engine accepts requests."""
        try:
            await self._call("health", "GET", engine / "health", self._read_limit_s)
        except PortError:
            return False
        return True

    async def wake(self, engine: URL) -> None:
        """Wake the engine; return when it is awake. Raises port errors."""
        await self._call("wake_up", "POST", engine / "wake_up", WAKE_LIMIT_S)

    async def sleep(self, engine: URL) -> None:
        """Put the engine to sleep, with its weights in host memory; return when it sleeps.

        Raises port errors.
        """
        await self._call("sleep", "POST", (engine / "sleep").with_query(level="1"), SLEEP_LIMIT_S)

    async def _call(self, operation: str, method: str, url: URL, limit_s: float) -> bytes:
        attempt = partial(self._attempt, method, url, limit_s)
        return await self._channel.call(operation, attempt, write=method == "POST", deadline_s=limit_s)

    async def _attempt(self, method: str, url: URL, limit_s: float) -> bytes:
        what, limit = f"{method} {url}", aiohttp.ClientTimeout(total=limit_s)
        with http_errors(what):
            async with self._session.request(
                method, url, headers=self._access.request_headers(), timeout=limit, allow_redirects=False
            ) as response:
                content = await read_body(what, response, MAX_BODY)
        if response.status != 200:
            raise _refusal(what, response.status, response.headers, content, self._clock.now())
        return content


def _refusal(what: str, status: int, headers: Mapping[str, Any], content: bytes, now: float) -> PortError:
    """Return the port error for a status other than 200."""
    if status == 404:
        return Misconfigured(f"{what}: HTTP 404: {REMEDY}")
    refusal = http_client.refusal(what, status, headers, content, now)
    if status == 429 and isinstance(refusal, Unavailable):
        return Throttled(str(refusal), refusal.retry_after_s)
    return refusal
