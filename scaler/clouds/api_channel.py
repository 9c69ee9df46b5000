"""Calls to one cloud API, within its budget, with one deadline and at most one retry.

A read whose connection broke is retried once. A write is retried only where its caller declares it idempotent. The
SDKs' own retries are off, because nested retries multiply.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, TypeVar

from scaler.clock import stopwatch_s
from scaler.clouds.api_budget import Api
from scaler.leases.fence import check_write
from scaler.ports import (
    Conflict,
    Context,
    Fenced,
    Misconfigured,
    OutOfCapacity,
    OutOfQuota,
    PortError,
    Throttled,
    Unavailable,
)

T = TypeVar("T")
CALL_SHARE: Final = 0.8
"""Share of a tick's deadline for one call, so that its error, which names the call, comes before the tick's."""
WAIT_SHARE: Final = 0.8
"""Maximum share of a call's time limit that it waits for its budget, so that the call itself has time."""
MAX_WAIT_FACTOR: Final = 1.5
"""Maximum of the random factor of a read's wait, so that reads do not all continue at once."""
THROTTLED_S: Final = 5.0
"""Pause of reads after a throttle without a Retry-After: APIs count calls per second or minute. Seconds."""
MAX_RETRY_PAUSE_S: Final = 0.25
"""Maximum of the random pause before the retry, so that thousands of workloads do not retry at once. Seconds."""
RESULTS: Final = {
    Throttled: "throttled",
    Unavailable: "unavailable",
    OutOfCapacity: "out_of_capacity",
    OutOfQuota: "out_of_quota",
    Conflict: "conflict",
    Misconfigured: "misconfigured",
    Fenced: "fenced",
}


class Channel:
    """One API in the account and region `scope`, as an adapter calls it.

    `operation` names the permission it needs.
    """

    def __init__(self, context: Context, api: Api, scope: Hashable) -> None:
        self.api = api
        self._calls = context.calls
        self._clock = context.clock
        self._bucket = context.calls.bucket(api, scope, context.clock.now())
        self._deadline_s = CALL_SHARE * context.deadline_s

    async def call(
        self,
        operation: str,
        attempt: Callable[[], Awaitable[T]],
        *,
        write: bool = False,
        repeat: bool | None = None,
        deadline_s: float | None = None,
    ) -> T:
        """Return the response of `attempt`, within budget and deadline. Raises port errors.

        `repeat`: whether to retry after a broken connection; None retries reads only.
        `deadline_s`: None means `CALL_SHARE` of the context's deadline.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        started_s = stopwatch_s()
        try:
            return await self._once(operation, attempt, write, limit_s)
        except Unavailable as e:
            transient = type(e) is Unavailable and e.retry_after_s is None
            if not transient or not (not write if repeat is None else repeat):
                raise
            pause_s = self._calls.rng.uniform(0, MAX_RETRY_PAUSE_S)
            remaining_s = limit_s - (stopwatch_s() - started_s) - pause_s
            if remaining_s <= 0:
                raise
        await asyncio.sleep(pause_s)
        return await self._once(operation, attempt, write, remaining_s)

    async def _once(self, operation: str, attempt: Callable[[], Awaitable[T]], write: bool, limit_s: float) -> T:
        started_s = stopwatch_s()
        error: PortError | None = None
        try:
            await self._wait_for_budget(operation, WAIT_SHARE * limit_s, write=write)
            if write:
                check_write()
            async with asyncio.timeout(limit_s - (stopwatch_s() - started_s)):
                return await attempt()
        except TimeoutError as e:
            error = Unavailable(f"{operation}: no response within {limit_s:.3g} s")
            raise error from e
        except PortError as e:
            error = e
            if isinstance(e, Throttled):
                if e.retry_after_s is None:
                    e.retry_after_s = THROTTLED_S
                self._bucket.close_reads(self._clock.now(), e.retry_after_s)
            raise
        finally:
            result = "ok" if error is None else RESULTS[type(error)]
            self._calls.record(self.api, operation, result, stopwatch_s() - started_s)

    async def _wait_for_budget(self, operation: str, limit_s: float, *, write: bool) -> None:
        """Wait for a token of the budget. Raises `Throttled` where the wait exceeds `limit_s`."""
        started_s = stopwatch_s()
        while wait_s := self._bucket.wait_s(self._clock.now(), write=write):
            if math.isinf(wait_s):
                problem = "this daemon holds no valid lease of a shard with workloads"
                raise Unavailable(
                    f"{operation}: {problem}, so no part of the rate limit for {self.api.name} is its own"
                )
            remaining_s = limit_s - (stopwatch_s() - started_s)
            if wait_s > remaining_s:
                raise Throttled(f"{operation}: {self._throttle_cause(write=write)}", wait_s)
            longest_s = wait_s if write else min(MAX_WAIT_FACTOR * wait_s, remaining_s)
            await asyncio.sleep(self._calls.rng.uniform(wait_s, longest_s))

    def _throttle_cause(self, *, write: bool) -> str:
        if not write and self._bucket.are_reads_closed(self._clock.now()):
            return f"reads of {self.api.name} pause after a throttled call"
        rate = f"{self.api.per_s:g} calls/s, burst {self.api.burst}"
        return f"the daemon's rate limit for {self.api.name} is reached ({rate})"
