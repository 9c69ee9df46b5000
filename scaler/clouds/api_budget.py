"""Calls to clouds: a budget per API shared by all workloads, one deadline, one repetition, and a count of what came.

Each API of an account has a bucket of tokens. Reads leave a part of it to writes, and give way for a while when the
cloud says that we ask too much; writes do not. A read whose connection broke is tried once more; a write is not, unless
its caller says that repeating it does no harm. The SDKs' own retries are turned off: retries upon retries multiply.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from scaler.clock import stopwatch_s
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable

if TYPE_CHECKING:
    from scaler.ports import Context

T = TypeVar("T")
CALL_SHARE: Final = 0.8
"""The share of a turn's deadline that one call may take, so that its error, which names the call, comes first."""
RESERVE_SHARE: Final = 0.25
"""Of a bucket, for writes alone: polling must not keep us from buying capacity."""
THROTTLED_S: Final = 5.0
"""How long reads give way after a throttle that names no time: limits are a second's or a minute's worth of calls."""
LONGEST_S: Final = 60.0
"""The longest that reads give way: readings would be stale after it, and scale-in is blocked then."""
REPEAT_WITHIN_S: Final = 0.25
"""The second try comes after a random part of this, so that thousands of workloads do not come back at once."""
BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
RESULTS: Final = {
    Throttled: "throttled",
    Unavailable: "unavailable",
    OutOfCapacity: "out_of_capacity",
    OutOfQuota: "out_of_quota",
    Conflict: "conflict",
    Misconfigured: "misconfigured",
}


@dataclass(frozen=True, slots=True)
class Api:
    """A cloud's API and what it grants one caller: `per_s` calls a second in the long run, `burst` at once."""

    name: str
    per_s: float
    burst: int


@dataclass(slots=True)
class DurationHistogram:
    """How long calls took: counts by `BOUNDS_S` and beyond, and the sum. Seconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def record(self, took_s: float) -> None:
        self.counts[sum(took_s > bound for bound in BOUNDS_S)] += 1
        self.sum_s += took_s


class Bucket:
    """The tokens of one API in one account."""

    def __init__(self, api: Api, now: float) -> None:
        self._api = api
        self._tokens = float(api.burst)
        self._at = now
        self._open_at = now

    def wait_s(self, now: float, *, write: bool) -> float:
        """Return the seconds until a call may go; 0 takes its token."""
        passed_s = now - self._at
        if passed_s < 0:  # the wall clock was set back
            self._open_at += passed_s
        self._tokens = min(float(self._api.burst), self._tokens + max(0.0, passed_s) * self._api.per_s)
        self._at = now
        kept = 0.0 if write else min(RESERVE_SHARE * self._api.burst, self._api.burst - 1.0)
        short = 1.0 + kept - self._tokens
        shut_s = 0.0 if write else self._open_at - now
        wait_s = max(0.0, short / self._api.per_s, shut_s)
        if wait_s == 0:
            self._tokens -= 1
        return wait_s

    def close_reads(self, now: float, wait_s: float) -> None:
        """Make reads give way for `wait_s` seconds, at most `LONGEST_S`."""
        self._open_at = max(self._open_at, now + min(wait_s, LONGEST_S))


class Calls:
    """All buckets, and what came of calls: `results` by API, operation and result, `times` by API and operation."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self.results: Counter[tuple[str, str, str]] = Counter()
        self.times: defaultdict[tuple[str, str], DurationHistogram] = defaultdict(DurationHistogram)
        self.rng = rng or random.Random()  # noqa: S311 - it spreads retries, no more
        self._buckets: dict[tuple[str, Hashable], Bucket] = {}

    def bucket(self, api: Api, scope: Hashable, now: float) -> Bucket:
        """Return the bucket of `api` in the account and region `scope`."""
        return self._buckets.setdefault((api.name, scope), Bucket(api, now))

    def record(self, api: Api, operation: str, error: PortError | None, took_s: float) -> None:
        self.results[api.name, operation, "ok" if error is None else RESULTS[type(error)]] += 1
        self.times[api.name, operation].record(took_s)


class Channel:
    """One API in the account and region `scope`, as an adapter calls it. `operation`s are named as permissions are."""

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
        """Return the answer of `attempt`, within budget and deadline. Raises port errors.

        `repeat`: whether it is tried once more after a broken connection; None: reads are, writes are not.
        `deadline_s`: `CALL_SHARE` of the context's where None.
        """
        limit_s = self._deadline_s if deadline_s is None else deadline_s
        began = stopwatch_s()
        try:
            return await self._once(operation, attempt, write, limit_s)
        except Unavailable as e:
            passing = type(e) is Unavailable and e.retry_after_s is None
            if not passing or not (not write if repeat is None else repeat):
                raise
            pause_s = self._calls.rng.uniform(0, REPEAT_WITHIN_S)
            left_s = limit_s - (stopwatch_s() - began) - pause_s
            if left_s <= 0:
                raise
        await asyncio.sleep(pause_s)
        return await self._once(operation, attempt, write, left_s)

    async def _once(self, operation: str, attempt: Callable[[], Awaitable[T]], write: bool, limit_s: float) -> T:
        began = stopwatch_s()
        error: PortError | None = None
        try:
            async with asyncio.timeout(limit_s):
                await self._wait_for_budget(operation, limit_s, write=write)
                return await attempt()
        except TimeoutError as e:
            error = Unavailable(f"{operation}: no answer within {limit_s:.3g} s")
            raise error from e
        except PortError as e:
            error = e
            if isinstance(e, Throttled):
                if e.retry_after_s is None:
                    e.retry_after_s = THROTTLED_S
                self._bucket.close_reads(self._clock.now(), e.retry_after_s)
            raise
        finally:
            self._calls.record(self.api, operation, error, stopwatch_s() - began)

    async def _wait_for_budget(self, operation: str, limit_s: float, *, write: bool) -> None:
        """Wait until the budget lets the call go.

        Raises `Throttled` where that is beyond the deadline.
        """
        waited_s = 0.0
        while wait_s := self._bucket.wait_s(self._clock.now(), write=write):
            if waited_s + wait_s > limit_s:
                granted = f"{self.api.per_s:g} a second, {self.api.burst} at once"
                raise Throttled(f"{operation}: our own budget for {self.api.name} is spent ({granted})", wait_s)
            pause_s = wait_s if write else wait_s * self._calls.rng.uniform(1.0, 1.5)
            waited_s += pause_s
            await asyncio.sleep(pause_s)
