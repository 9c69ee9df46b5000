"""Outcome of a simulator for a load, and its processor time."""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`time_s` is processor time; the means are over all requests."""

    time_s: float
    requests: int
    ttft_s: float
    e2e_s: float

    @property
    def rate(self) -> float:
        return self.requests / self.time_s

    def off(self, other: Outcome) -> float:
        """Return the larger relative difference of the two means."""
        return max(abs(self.ttft_s / other.ttft_s - 1), abs(self.e2e_s / other.e2e_s - 1))


def processor_s() -> float:
    """Return the processor time of this process. Seconds."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(work: Callable[[], object]) -> float:
    """Return the processor time of the work. Seconds."""
    start_s = processor_s()
    work()
    return processor_s() - start_s


def outcome_of(time_s: float, rows: Sequence[tuple[float, float, float]]) -> Outcome:
    """Return the outcome of requests given as (arrival, first token, finish) in seconds."""
    n = len(rows)
    ttft_s, e2e_s = sum(first - arrival for arrival, first, _ in rows), sum(end - arrival for arrival, _, end in rows)
    return Outcome(time_s, n, ttft_s / n, e2e_s / n)
