"""What engines have to do now: tokens computed, and requests that came and have not gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from policies.history.ticks import READY
from policies.model import SignalName
from policies.recommend.predictive.latency_model import LearnedLatency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.latency_model import LatencyObservation

Values = TypeVar("Values", float, "NDArray[np.float64]")
READ: Final = ("running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s")
MOST: Final = 3.0
"""Requests that come are at most so many times those that are answered, and at least so much less: beyond that the
difference of two gauges is noise on a rate near zero."""
SURGE: Final = 2.0
"""Requests waiting per replica that tell of a surge: an engine takes up fewer in its next step. What comes is then
judged by the last turns and not the window."""
SURGE_S: Final = 31.0
"""Two turns by default, and their jitter. Seconds."""
STEADY: Final = 20.0
"""Requests waiting per replica beyond which latencies are those of a queue, and teach nothing about engines."""
SETTLED_S: Final = 300.0
"""Requests that wait in an engine stay there: after one has come, a queue of before is long not shared evenly."""
WORKS: Final = 0.05
"""Below this share of what was believed to be its saturation a replica idles: that says nothing of what it carries."""
ENOUGH: Final = 200.0
"""Requests in a window at which its mean is worth a whole lesson."""


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """One turn's load. Loads are in a replica's saturations, over all replicas.

    `done` is what was computed in the rate window, `coming` what came in it; `lasting` is what waits now and waited a
    turn ago, `steady` whether the replicas were the same throughout, `backed_up` whether more than `STEADY` requests a
    replica waited throughout, `uneven` whether such a queue stood, lately, when a replica came.
    """

    done: float
    coming: float
    requests_per_s: float
    in_work: float
    waiting: float
    ready: float
    steady: bool
    lasting: float
    backed_up: bool
    uneven: bool
    window_s: float

    @property
    def each(self) -> float:
        """What a request takes of a replica's saturation, for a second; 0 where none was answered."""
        return self.done / self.requests_per_s if self.requests_per_s > 0 else 0.0

    def teach(
        self,
        learnt: Mapping[str, LearnedLatency],
        seen: Mapping[str, LatencyObservation],
        promised_s: Mapping[str, float],
        forget: float,
        took_s: float,
    ) -> dict[str, LearnedLatency]:
        """Return what is known after this turn of `took_s`: a steady one under some load teaches.

        As much as it had requests, and no more than it is of the window: what windows share is told once. Where
        requests waited throughout, engines did all they could, and latencies are those of the queue; but not where the
        queue is that of a few, and the others, which came later, have none.
        """
        per_replica = self.done / self.ready if self.ready > 0 else 0.0
        taught = dict(learnt)
        if not self.steady or self.uneven or per_replica <= WORKS:
            return taught
        new = min(1.0, took_s / self.window_s)
        requests = new * self.requests_per_s * self.window_s
        weight = new * min(1.0, self.requests_per_s * self.window_s / ENOUGH)
        for key, known in learnt.items():
            line, tail, told = known.line, known.tail, seen.get(key)
            if self.backed_up:
                line = line.saturated(per_replica, forget, weight)
            elif told is not None and self.waiting < STEADY * self.ready:
                line = line.learn(per_replica, told.mean_s, forget, weight)
                if told.late_share is not None and key in promised_s:
                    tail = tail.learn(promised_s[key], told.mean_s, told.late_share, requests, forget)
            taught[key] = LearnedLatency(line, tail)
        return taught


@dataclass(frozen=True, slots=True)
class ReplicaCapacity:
    """What a replica takes at saturation, if all were of one kind, and what the rates that tell of it span."""

    prompt_tokens_per_s: float
    generation_tokens_per_s: float
    window_s: float

    def load(self, prompt_tokens_per_s: Values, generation_tokens_per_s: Values) -> Values:
        """Token rates in replicas' saturations."""
        return prompt_tokens_per_s / self.prompt_tokens_per_s + generation_tokens_per_s / self.generation_tokens_per_s


def engine_load(
    context: PolicyContext,
    used: tuple[SignalName, ...],
    values: Mapping[SignalName, float],
    worth: ReplicaCapacity,
    queue: SignalName | None = None,
) -> EngineLoad:
    """Return the load by the signals of `READ` (named in `used`), all of which are in `values`.

    What came is what was done and what the requests in work grew by; those that wait in a `queue` before the engines,
    if it is in `values` too, are among them.
    """
    running, waiting, requests_per_s, prompt, generated = (values[signal] for signal in used)
    in_work = running + waiting
    held = (*used[:2], queue) if queue is not None and queue in values else used[:2]
    there = sum(values[signal] for signal in held)
    done, window_s = worth.load(prompt, generated), worth.window_s
    since = context.at - window_s - 1.0
    grown_per_s = _grown_per_s(context, held, there, since)
    if waiting > SURGE * (context.ready or 0):
        grown_per_s = max(grown_per_s, _grown_per_s(context, held, there, context.at - SURGE_S))
    ready = np.append(context.history.column(READY, since - 30.0), float(context.ready or 0))
    window = ready[2:] if ready.size > 3 else ready
    if (context.ready or 0) < min(float(np.nanmax(window)), context.desired or 0):
        grown_per_s = max(0.0, grown_per_s)  # the requests of replicas that were lost are gone, and not answered
    ratio = 1.0 + grown_per_s / requests_per_s if requests_per_s > 0 else 1.0
    return EngineLoad(
        done=done,
        coming=done * min(MOST, max(1.0 / MOST, ratio)),
        requests_per_s=requests_per_s,
        in_work=in_work,
        waiting=waiting,
        ready=float(np.nanmean(window)),
        steady=bool(np.nanmax(window) == np.nanmin(window)),
        lasting=min([waiting, *context.history.signal(used[1], context.at - SURGE_S)[1][-1:]]),
        backed_up=min([waiting, *context.history.signal(used[1], since)[1]]) > STEADY * float(np.nanmax(window)),
        uneven=_uneven(context, used[1], waiting),
        window_s=window_s,
    )


def _uneven(context: PolicyContext, signal: SignalName, waiting: float) -> bool:
    since = context.at - SETTLED_S
    ready = np.append(context.history.column(READY, since), float(context.ready or 0))
    most = max([waiting, *context.history.signal(signal, since)[1]])
    return bool((np.diff(ready) > 0).any() and most > STEADY * max(1.0, float(np.nanmin(ready))))


def _grown_per_s(context: PolicyContext, held: tuple[SignalName, ...], there: float, since: float) -> float:
    """Return the growth of the requests in work per second, since the first ticks of the span.

    `held` are the gauges that add up to them, `there` is their sum now.

    The larger of the first two is taken: a reading that says 0 for once is no growth afterwards.
    """
    found = [context.history.signal(signal, since) for signal in held]
    at, sizes = found[0][0], {values.size for _, values in found}
    if not at.size or len(sizes) > 1 or at[0] >= context.at:
        return 0.0
    return (there - float(np.sum([values[:2] for _, values in found], axis=0).max())) / (context.at - float(at[0]))
