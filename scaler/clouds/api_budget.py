"""Budgets of cloud API calls, shared by all workloads, and counters of their results.

Each API of an account has a token bucket. Reads leave a share of it to writes, and pause after the cloud throttled a
call; writes do neither.

Several daemons with leases divide the budget of an account by the shards that they hold. Example: a daemon that holds
4 of 16 shards with workloads sends at most 10 * 4 / 16 = 2.5 calls a second to an API with a limit of 10. A daemon
without a valid lease sends none.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Final

RESERVE_SHARE: Final = 0.25
"""Share of a bucket reserved for writes: polling must not keep the daemon from buying capacity."""
MAX_READ_PAUSE_S: Final = 60.0
"""Maximum pause of reads: readings are stale after it, and stale readings block scale-in. Seconds."""
BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Api:
    """A cloud API and its rate limit for one caller.

    The limit is `per_s` calls a second in the long run, and `burst` calls at once. `is_divided`: whether several
    daemons share it, as that of an account. A server that limits each client by itself, as Kubernetes does, has one for
    each.
    """

    name: str
    per_s: float
    burst: int
    is_divided: bool = True


@dataclass(slots=True)
class DurationHistogram:
    """Durations of calls: one count per bound in `BOUNDS_S` and one beyond them, and their sum.

    Seconds.
    """

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sum_s: float = 0.0

    def record(self, took_s: float) -> None:
        self.counts[sum(took_s > bound for bound in BOUNDS_S)] += 1
        self.sum_s += took_s


class Bucket:
    """The token bucket of one API in one account.

    Example: `Api("x", per_s=10, burst=60)` reserves 0.25 * 60 = 15 tokens for writes. At 15.5 tokens a write goes at
    once. A read needs 15 + 1 tokens, so it waits (16 - 15.5) / 10 = 0.05 s.
    """

    def __init__(self, api: Api, now: float, part: Callable[[], float] = lambda: 1.0) -> None:
        self._api = api
        self._part = part
        self._tokens = float(api.burst) * part()
        self._refilled_at = now
        self._reads_open_at = now

    def wait_s(self, now: float, *, write: bool) -> float:
        """Return the seconds until a call may go; 0 takes its token.

        Infinity is the answer to a daemon without shards.
        """
        elapsed_s = now - self._refilled_at
        if elapsed_s < 0:  # the wall clock was set back
            self._reads_open_at += elapsed_s
        part = self._part()
        per_s, burst = self._api.per_s * part, max(1.0, self._api.burst * part)
        self._tokens = min(burst, self._tokens + max(0.0, elapsed_s) * per_s)
        self._refilled_at = now
        if per_s <= 0:
            return math.inf
        reserved = 0.0 if write else min(RESERVE_SHARE * burst, burst - 1.0)
        missing = 1.0 + reserved - self._tokens
        read_pause_s = 0.0 if write else self._reads_open_at - now
        wait_s = max(0.0, missing / per_s, read_pause_s)
        if wait_s == 0:
            self._tokens -= 1
        return wait_s

    def close_reads(self, now: float, wait_s: float) -> None:
        """Pause reads for `wait_s` seconds, at most `MAX_READ_PAUSE_S`."""
        self._reads_open_at = max(self._reads_open_at, now + min(wait_s, MAX_READ_PAUSE_S))

    def are_reads_closed(self, now: float) -> bool:
        """Return whether reads pause after a throttled call."""
        return now < self._reads_open_at


class Calls:
    """All buckets, and the results and durations of calls.

    `results` has the keys (API, operation, result). `times` (durations) has the keys (API, operation).
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self.results: Counter[tuple[str, str, str]] = Counter()
        self.times: defaultdict[tuple[str, str], DurationHistogram] = defaultdict(DurationHistogram)
        self.rng = rng or random.Random()  # noqa: S311 - spreads retries only
        self.part: Callable[[], float] = lambda: 1.0
        """Returns the part of each budget that this daemon may use now."""
        self._buckets: dict[tuple[str, Hashable], Bucket] = {}

    def bucket(self, api: Api, scope: Hashable, now: float) -> Bucket:
        """Return the bucket of `api` in the account and region `scope`."""
        part = (lambda: self.part()) if api.is_divided else (lambda: 1.0)  # noqa: PLW0108 - `part` is set later
        return self._buckets.setdefault((api.name, scope), Bucket(api, now, part))

    def record(self, api: Api, operation: str, result: str, took_s: float) -> None:
        self.results[api.name, operation, result] += 1
        self.times[api.name, operation].record(took_s)
