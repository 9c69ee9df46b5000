"""Suspicion of false zeros.

A source that reports 0 for everything at once is suspected, as throttled services report such zeros.

A single tick cannot tell false zeros from an idle service, but the history can. Zeros are false if the same amount of
work stands before and after them. After that, the zeros of this source must last longer before they count: the more
false zeros there were and the longer they lasted, the longer. A rate over minutes also fades for as long as its window,
so a rate that is gone within one tick is suspected at once. Every other source is believed at once.

A suspected zero becomes an absent reading, and a policy without readings never lowers a size.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from policies.model import Absent, Fresh
from policies.model.spec import FALSE_ZERO_LOOKBACK_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Observation, Reading, SignalName

MIN_WORK: Final = 10.0
"""Minimum work at which a drop to zero within one tick is implausible: a Poisson count with a mean of 10 is 0 with a
probability of e^-10, 1 in 22,000. Requests or messages."""
MAX_WORK_RATIO: Final = 2.0
"""Work before and after the zeros within this factor is the same work; a new batch is seldom of the same size."""
MAX_FALSE_ZERO_S: Final = 300.0
"""Zeros that last longer than this are a pause in the traffic, not false zeros. Seconds."""
MAX_SUSPICION_S: Final = 900.0
"""Maximum time for which zeros are suspected: an idle workload must be able to scale to zero. Seconds."""
MEMORY_S: Final = FALSE_ZERO_LOOKBACK_S - MAX_SUSPICION_S
"""False zeros are remembered for this time. The last `MAX_FALSE_ZERO_S` count alone if their share is higher."""
MAX_RUN_CHANCE: Final = 1e-6
"""Zeros are believed once a run of false zeros of their length is less likely than this: one tick in a million is one
in 174 days at an interval of 15 s."""
DURATION_FACTOR: Final = 2.0
"""Zeros must last this many times as long as the longest recent run of false zeros."""
FADE_S: Final = 120.0
"""A rate that fades was at least twice as high within this time, since rates span a minute or two. Seconds."""
MAX_GAP_TICKS: Final = 2.5
"""No rate fades to 0 within this many ticks, jitter included."""
RATE_SUFFIX: Final = "_per_s"


@dataclass(frozen=True, slots=True)
class FalseZeroRun:
    """A run of false zeros: when it ended, and how many ticks and seconds it lasted."""

    at: float
    ticks: int
    duration_s: float


@dataclass(frozen=True, slots=True)
class FalseZeroRate:
    """The number of false zeros among the ticks of a source."""

    false_zeros: int
    ticks: int

    @property
    def share(self) -> float:
        """Estimated share of false zeros, by Laplace's rule of succession.

        Example: 1 of 20 gives (1 + 1) / (20 + 2) = 0.091.
        """
        return (self.false_zeros + 1) / (self.ticks + 2)


@dataclass(frozen=True, slots=True)
class SuspicionLimits:
    """The scale-down window and the tick interval of a workload. Seconds."""

    window_s: float
    interval_s: float


@dataclass(slots=True)
class SourceActivity:
    """The recent readings of one source.

    `at` and `work` are the times and total work of the ticks with work, oldest first; `zeros_since` and `zero_ticks`
    the start and length of the zeros since then; `false_zeros` the runs of zeros that proved false.
    """

    at: array[float] = field(default_factory=lambda: array("d"))
    work: array[float] = field(default_factory=lambda: array("d"))
    false_zeros: list[FalseZeroRun] = field(default_factory=list)
    zeros_since: float | None = None
    zero_ticks: int = 0

    def note(self, at: float, work: float) -> None:
        """Add a tick. The work before a run of zeros is kept until the run ends."""
        if work == 0.0:
            self.zeros_since = at if self.zeros_since is None else self.zeros_since
            self.zero_ticks += 1
            return
        if self.zeros_since is not None:
            if self._is_usual(work) and at - self.zeros_since <= MAX_FALSE_ZERO_S:
                self.false_zeros.append(FalseZeroRun(at, self.zero_ticks, at - self.zeros_since))
            self.zeros_since, self.zero_ticks = None, 0
        self.at.append(at)
        self.work.append(work)
        old = bisect_left(self.at, at - MEMORY_S)
        del self.at[:old], self.work[:old]
        while self.false_zeros and self.false_zeros[0].at < at - MEMORY_S:
            del self.false_zeros[0]

    def shift(self, step_s: float) -> None:
        """Move all recorded times by `step_s`, as the wall clock moved."""
        self.at = array("d", (at + step_s for at in self.at))
        self.false_zeros = [FalseZeroRun(run.at + step_s, run.ticks, run.duration_s) for run in self.false_zeros]
        self.zeros_since = None if self.zeros_since is None else self.zeros_since + step_s

    def suspicion(self, at: float, limits: SuspicionLimits, *, rates: bool) -> str:
        """Return why zeros at this time are suspected; empty if they are believed.

        `rates` is whether the source also reports rates. Example: 1,000 tokens a second drop to 0 within one tick. With
        a scale-down window of 300 s, the zeros are suspected for 300 s.
        """
        since = at if self.zeros_since is None else self.zeros_since
        if not self.at or self.work[-1] < MIN_WORK or since - self.at[-1] > MAX_FALSE_ZERO_S:
            return ""
        history_s, reason = self._recent_false_zero(since, limits.interval_s)
        sudden = rates and self._is_sudden(since, limits.interval_s)
        after_s = min(MAX_SUSPICION_S, max(history_s, max(limits.window_s, MAX_FALSE_ZERO_S) if sudden else 0.0))
        if at - since >= after_s:
            return ""
        cause = reason if history_s == after_s or not sudden else "rates fade over minutes, not within one tick"
        return f"suspected false zero, ignored for {after_s:.0f} s: every reading dropped to 0 at once; {cause}"

    def _is_usual(self, work: float) -> bool:
        before = self.work[-1] if self.work else 0.0
        return min(before, work) >= MIN_WORK and max(before, work) <= MAX_WORK_RATIO * min(before, work)

    def _recent_false_zero(self, since: float, interval_s: float) -> tuple[float, str]:
        """Return the minimum duration of zeros after earlier false zeros, and the reason.

        Zeros that begin at `since` must last this long in seconds. Without recent false zeros it is 0.

        Example: 1 of the 20 ticks of the last 300 s was a false zero that lasted 15 s. The estimated share is
        (1 + 1) / (20 + 2) = 0.091. A run of ln(1e-6) / ln(0.091) = 5.8 false zeros is as rare as `MAX_RUN_CHANCE`, so
        at an interval of 15 s zeros must last 86 s. Twice the longest run is less, 30 s.
        """
        spans = (self._false_zero_rate(since - span_s) for span_s in (MEMORY_S, MAX_FALSE_ZERO_S))
        rates = [rate for rate in spans if rate is not None]
        if not rates:
            return 0.0, ""
        worst = max(rates, key=lambda rate: rate.share)
        longest_s = max(run.duration_s for run in self.false_zeros if run.at >= since - MEMORY_S)
        reason = f"{worst.false_zeros} of {worst.ticks} recent ticks were false zeros, for up to {longest_s:.0f} s"
        return max(math.log(MAX_RUN_CHANCE) / math.log(worst.share) * interval_s, DURATION_FACTOR * longest_s), reason

    def _false_zero_rate(self, after: float) -> FalseZeroRate | None:
        """Return the rate of false zeros since `after`; None without any."""
        ticks = sum(run.ticks for run in self.false_zeros if run.at >= after)
        return FalseZeroRate(ticks, ticks + len(self.at) - bisect_left(self.at, after)) if ticks else None

    def _is_sudden(self, since: float, interval_s: float) -> bool:
        """Return whether the work disappeared within one tick and did not fade before."""
        highest = max(self.work[bisect_left(self.at, self.at[-1] - FADE_S) :])
        return since - self.at[-1] <= MAX_GAP_TICKS * interval_s and self.work[-1] >= highest / 2.0


class ZeroSuspicion:
    """The suspicion of false zeros for each source: a function of the recorded ticks alone."""

    def __init__(self) -> None:
        self._activity: dict[str, SourceActivity] = {}

    def note(self, observation: Observation) -> None:
        """Add a tick."""
        for source, work in _work(observation).items():
            if source in self._activity or work:
                self._activity.setdefault(source, SourceActivity()).note(observation.at, work)

    def shift(self, step_s: float) -> None:
        """Move all recorded times by `step_s`, as the wall clock moved."""
        for activity in self._activity.values():
            activity.shift(step_s)

    def suspected(self, observation: Observation, limits: SuspicionLimits) -> dict[str, str]:
        """Return the sources whose zeros are suspected, each with its reason."""
        readings = observation.readings
        busy = {source_of(signal) for signal, r in readings.items() if isinstance(r, Fresh) and r.value}
        if self._activity.keys() <= busy:
            return {}
        reasons = {}
        for source, signals in _fresh_signals(observation).items():
            if source in self._activity and source not in busy:
                rates = any(signal.endswith(RATE_SUFFIX) for signal in signals)
                if reason := self._activity[source].suspicion(observation.at, limits, rates=rates):
                    reasons[source] = reason
        return reasons


def without_suspected_zeros(
    readings: Mapping[SignalName, Reading[float]], suspected: Mapping[str, str]
) -> Mapping[SignalName, Reading[float]]:
    """Return the readings with those of suspected sources replaced by `Absent`."""
    if not suspected:
        return readings
    return {
        signal: Absent(suspected[source]) if (source := source_of(signal)) in suspected else reading
        for signal, reading in readings.items()
    }


@lru_cache(maxsize=4096)
def source_of(signal: SignalName) -> str:
    """Return the source that a signal is read from."""
    return signal.partition(".")[0]


def _fresh_signals(observation: Observation) -> dict[str, list[SignalName]]:
    """Return the signals of each source with a fresh value; a source without any is left out."""
    by_source: dict[str, list[SignalName]] = {}
    for signal, reading in observation.readings.items():
        if isinstance(reading, Fresh):
            by_source.setdefault(source_of(signal), []).append(signal)
    return by_source


def _work(observation: Observation) -> dict[str, float]:
    """Return the sum of the fresh values of each source.

    A value up to 1 may be a mean share, so it counts for each ready replica.

    Example: 12 requests running and a utilization of 0.5 on 4 ready replicas give 12 + 4 * 0.5 = 14.
    """
    ready = sum(r.value.ready for r in observation.pools.values() if not isinstance(r, Absent))
    work: dict[str, float] = {}
    for signal, reading in observation.readings.items():
        if isinstance(reading, Fresh):
            source, value = source_of(signal), reading.value
            work[source] = work.get(source, 0.0) + (value if value > 1.0 else value * ready)
    return work
