"""Budgets of calls to clouds, shared by all workloads, and a count of what came of the calls.

Each API of an account has a bucket of tokens. Reads leave a part of it to writes, and give way for a while when the
cloud says that we ask too much; writes do not.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final

RESERVE_SHARE: Final = 0.25
"""Of a bucket, for writes alone: polling must not keep us from buying capacity."""
LONGEST_S: Final = 60.0
"""The longest that reads give way: readings would be stale after it, and scale-in is blocked then."""
BOUNDS_S: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


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

    def record(self, api: Api, operation: str, result: str, took_s: float) -> None:
        self.results[api.name, operation, result] += 1
        self.times[api.name, operation].record(took_s)
