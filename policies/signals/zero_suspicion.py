"""Zeros that may be lies: a source that says 0 of everything at once, as throttled services do.

One look cannot tell it from an idle service. Its past can. A source is caught when it says 0 throughout between two
turns of like work, and then its zeros have to last the longer, the oftener and the longer it lied. A rate over minutes
fades as slowly as its window is long: one that is gone from one turn to the next is a lie at the first sight. Any other
source is believed at once. While a zero is doubted it is absent: what is blind never lowers a size.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from policies.model import Absent, Fresh
from policies.model.spec import FALSE_ZERO_LOOKBACK_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import Observation, Reading, SignalName

PLENTY: Final = 10.0
"""Of less, nothing may be left a turn later by chance: of so many requests in work, once in 20,000 turns."""
ALIKE: Final = 2.0
"""Work before and after within this factor is the same work: another batch is seldom so like the last one."""
SOON_S: Final = 300.0
"""Zeros that lasted longer before the same work was there again were a pause: as long as users stay away from one."""
LONGEST_S: Final = 900.0
"""No zero is doubted for longer: an idle workload must come to rest."""
LATELY_S: Final = FALSE_ZERO_LOOKBACK_S - LONGEST_S
"""Lies are remembered so long; the last `SOON_S` count by themselves where they were worse."""
SURE: Final = 1e-6
"""A run of lies as long as a zero has lasted must be less likely: about one turn in half a year."""
TWICE: Final = 2.0
"""So many times the longest lie lately: faults last about as long as they did."""
FADED_S: Final = 120.0
"""Rates that fade have been twice as high within so long: they are over a minute or two, mostly."""
GAP_TURNS: Final = 2.5
"""Turns, with their jitter, in which no rate fades to 0."""
RATE: Final = "_per_s"


@dataclass(frozen=True, slots=True)
class FalseZeroRun:
    """Zeros between two turns of like work: when they ended, how many turns and how many seconds they were."""

    at: float
    ticks: int
    lasted_s: float


@dataclass(frozen=True, slots=True)
class FalseZeroRate:
    """So many turns were lies of those that told anything."""

    false_zeros: int
    zeros: int

    @property
    def share(self) -> float:
        """The share of turns that are lies, by Laplace's rule of succession: few turns prove little."""
        return (self.false_zeros + 1) / (self.zeros + 2)


@dataclass(frozen=True, slots=True)
class SuspicionLimits:
    """What a workload asks of evidence: its scale-down window and its interval. Seconds."""

    window_s: float
    interval_s: float


@dataclass(slots=True)
class SourceActivity:
    """What one source told lately: turns with work (when, and how much in all), the zeros since, and its lies."""

    at: array[float] = field(default_factory=lambda: array("d"))
    work: array[float] = field(default_factory=lambda: array("d"))
    false_zeros: deque[FalseZeroRun] = field(default_factory=deque)
    since: float | None = None
    zeros: int = 0

    def note(self, at: float, work: float) -> None:
        """Add a turn. What came before the zeros that it ends, or goes on with, is kept until they have ended."""
        if work == 0.0:
            self.since = at if self.since is None else self.since
            self.zeros += 1
            return
        if self.since is not None:
            if self._is_usual(work) and at - self.since <= SOON_S:
                self.false_zeros.append(FalseZeroRun(at, self.zeros, at - self.since))
            self.since, self.zeros = None, 0
        self.at.append(at)
        self.work.append(work)
        old = bisect_left(self.at, at - LATELY_S)
        del self.at[:old], self.work[:old]
        while self.false_zeros and self.false_zeros[0].at < at - LATELY_S:
            self.false_zeros.popleft()

    def shift(self, step_s: float) -> None:
        """Move its past by `step_s`."""
        self.at = array("d", (at + step_s for at in self.at))
        self.false_zeros = deque(FalseZeroRun(lie.at + step_s, lie.ticks, lie.lasted_s) for lie in self.false_zeros)
        self.since = None if self.since is None else self.since + step_s

    def suspicion(self, at: float, limits: SuspicionLimits, *, rates: bool) -> str:
        """Why a zero told `at` is not believed; empty where it is. `rates`: whether it tells rates too."""
        since = at if self.since is None else self.since
        if not self.at or self.work[-1] < PLENTY or since - self.at[-1] > SOON_S:
            return ""
        caught_s, words = self._recent_false_zero(since, limits.interval_s)
        sudden = rates and self._is_sudden(since, limits.interval_s)
        after_s = min(LONGEST_S, max(caught_s, max(limits.window_s, SOON_S) if sudden else 0.0))
        if at - since >= after_s:
            return ""
        why = words if caught_s == after_s or not sudden else "rates do not fade so fast"
        return f"everything is 0 and was not a turn before, which is doubted for {after_s:.0f} s: {why}"

    def _is_usual(self, work: float) -> bool:
        before = self.work[-1] if self.work else 0.0
        return min(before, work) >= PLENTY and max(before, work) <= ALIKE * min(before, work)

    def _recent_false_zero(self, since: float, interval_s: float) -> tuple[float, str]:
        """How long zeros that began at `since` have to last for the lies before them, and the words for these."""
        odds = [found for span_s in (LATELY_S, SOON_S) if (found := self._false_zero_rate(since - span_s)) is not None]
        if not odds:
            return 0.0, ""
        worst = max(odds, key=lambda found: found.share)
        longest_s = max(lie.lasted_s for lie in self.false_zeros if lie.at >= since - LATELY_S)
        words = (
            f"{worst.false_zeros} of {worst.zeros} turns lately were such, for up to {longest_s:.0f} s, and taken back"
        )
        return max(math.log(SURE) / math.log(worst.share) * interval_s, TWICE * longest_s), words

    def _false_zero_rate(self, after: float) -> FalseZeroRate | None:
        """How often it lied `after`; None where it was not caught."""
        lied = sum(lie.ticks for lie in self.false_zeros if lie.at >= after)
        return FalseZeroRate(lied, lied + len(self.at) - bisect_left(self.at, after)) if lied else None

    def _is_sudden(self, since: float, interval_s: float) -> bool:
        """Whether the work was gone from one turn to the next, not fading before."""
        lately = max(self.work[bisect_left(self.at, self.at[-1] - FADED_S) :])
        return since - self.at[-1] <= GAP_TURNS * interval_s and self.work[-1] >= lately / 2.0


class ZeroSuspicion:
    """How far the zeros of each source are to be believed: a function of the turns noted."""

    def __init__(self) -> None:
        self._activity: dict[str, SourceActivity] = {}

    def note(self, seen: Observation) -> None:
        """Add a turn."""
        for source, values in _fresh(seen).items():
            work = _work(values, seen)
            if source in self._activity or work:
                self._activity.setdefault(source, SourceActivity()).note(seen.at, work)

    def shift(self, step_s: float) -> None:
        """Move the past by `step_s`, as the wall clock was."""
        for told in self._activity.values():
            told.shift(step_s)

    def suspected(self, seen: Observation, limits: SuspicionLimits) -> dict[str, str]:
        """The sources whose zeros are not believed, and why."""
        found = {}
        for source, values in _fresh(seen).items():
            if source in self._activity and not any(values.values()):
                rates = any(signal.endswith(RATE) for signal in values)
                if why := self._activity[source].suspicion(seen.at, limits, rates=rates):
                    found[source] = why
        return found


def without_suspected_zeros(
    readings: Mapping[SignalName, Reading[float]], doubted: Mapping[str, str]
) -> Mapping[SignalName, Reading[float]]:
    """The readings with those of doubted sources absent."""
    if not doubted:
        return readings
    return {
        signal: Absent(doubted[source]) if (source := source_of(signal)) in doubted else reading
        for signal, reading in readings.items()
    }


def source_of(signal: SignalName) -> str:
    """The source that a signal is read from."""
    return signal.partition(".")[0]


def _fresh(seen: Observation) -> dict[str, dict[SignalName, float]]:
    """What each source told this turn; sources that told nothing are left out."""
    found: dict[str, dict[SignalName, float]] = {}
    for signal, reading in seen.readings.items():
        if isinstance(reading, Fresh):
            found.setdefault(source_of(signal), {})[signal] = reading.value
    return found


def _work(values: Mapping[SignalName, float], seen: Observation) -> float:
    """All that a source told, added up. What is at most 1 may be a share: it counts for each ready replica."""
    ready = sum(r.value.ready for r in seen.pools.values() if not isinstance(r, Absent))
    return sum(value if value > 1.0 else value * ready for value in values.values())
