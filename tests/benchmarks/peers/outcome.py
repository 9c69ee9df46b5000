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
        """The larger of the two means' differences, as a share of the other's."""
        return max(abs(self.ttft_s / other.ttft_s - 1), abs(self.e2e_s / other.e2e_s - 1))


def processor_s() -> float:
    """Processor time of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def timed(work: Callable[[], object]) -> float:
    """Processor time that the work took. Seconds."""
    start_s = processor_s()
    work()
    return processor_s() - start_s


def outcome_of(time_s: float, rows: Sequence[tuple[float, float, float]]) -> Outcome:
    """From (arrival, first token, finish) of each request, in seconds."""
    n = len(rows)
    ttft_s, e2e_s = sum(first - arrival for arrival, first, _ in rows), sum(end - arrival for arrival, _, end in rows)
    return Outcome(time_s, n, ttft_s / n, e2e_s / n)
