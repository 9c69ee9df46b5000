"""The latencies that are promised: what tells of each, what was learnt of it, and the load where the promise ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.model import Fresh, SignalName
from policies.recommend.predictive.latency_load_model import LoadLine
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.signals.latency_quantities import ITL, LATENCIES

if TYPE_CHECKING:
    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import PolicyContext

P95: Final = 0.95
"""What lies below a 95th percentile. Share."""
FILLED: Final = 0.9
"""Share of the saturation that is filled where no latency says less: queues grow without bound near 1."""
HOPELESS: Final = 0.2
"""A promise that leaves less than this share of the saturation is not bought: nearly idle replicas miss it."""


BY_MIX: Final = 0.065
"""The spread of a request's time per token, over the root of prompt tokens to a generated one: which prompts are taken
in while it is answered is a matter of chance, and of few where answers are short. On an H100, conversations of 5 prompt
tokens to a generated one had 0.08 and 0.14, code of 70 had 0.5 and more."""
LEAST: Final = 0.05
"""What the mix alone says of a spread is no less."""


@dataclass(frozen=True, slots=True)
class LatencyObservation:
    """What a turn tells of one latency: its mean, and the share beyond the promise (None: nobody tells)."""

    mean_s: float
    late_share: float | None


@dataclass(frozen=True, slots=True)
class LearnedLatency:
    """What is known of one latency: its mean by the load, and its tail by the mean."""

    line: LoadLine
    tail: LatencyTail

    @staticmethod
    def from_memory(key: str, memory: Mapping[str, float], mix: float = 0.0) -> LearnedLatency:
        """As it was handed on; the prior where it was not. `mix` is prompt tokens to a generated one, 0: not known."""
        prior = LATENCIES[key]
        spread = prior.spread
        if key == ITL and mix > 0.0:
            spread = max(LEAST, min(prior.max_spread, BY_MIX * math.sqrt(mix)))
        return LearnedLatency(
            LoadLine.from_memory(key, memory, prior.idle_s),
            LatencyTail.from_memory(key, memory, spread, prior.max_spread),
        )

    def memory(self, key: str) -> dict[str, float]:
        return {**self.line.memory(key), **self.tail.memory(key)}

    def limit(self, promise_s: float, share: float) -> float:
        """Return the load at which `share` of the requests keep the promise, in the prior's saturations."""
        return self.line.limit(self.tail.mean_s(promise_s, share))

    def late_share(self, promise_s: float, load: float) -> float:
        """Return the share of the requests that misses the promise at a load."""
        pace = self.line.pace * (1.0 - load / self.line.saturation)
        return self.tail.late_share(promise_s, 1.0 / pace) if pace > 0 else 1.0


@dataclass(frozen=True, slots=True)
class LoadLimit:
    """The load that a replica may carry, in the prior's saturations.

    `latency` is the promise that sets it (empty: none does), `unsure` its standard deviation as a share, `relaxed`
    what it would be if no latency were promised, `hopeless` the promise that no number of replicas keeps.
    """

    load: float
    latency: str
    uncertain: float
    relaxed: float
    unattainable: str = ""


def load_limit(learnt: Mapping[str, LearnedLatency], promised_s: Mapping[str, float], share: float) -> LoadLimit:
    """Return the least load at which a promise is kept to no more than `share` of the requests."""
    relaxed = FILLED * min((known.line.saturation for known in learnt.values()), default=1.0)
    found = LoadLimit(relaxed, "", 0.0, relaxed)
    for key, promise_s in promised_s.items():
        known = learnt[key]
        load = known.limit(promise_s, share)
        if load < HOPELESS * known.line.saturation:
            found = LoadLimit(found.load, found.latency, found.uncertain, relaxed, key)
        elif load < found.load:
            found = LoadLimit(load, key, known.line.unsure(load), relaxed, found.unattainable)
    return found


def recall_latencies(memory: Mapping[str, float], mix: float = 0.0) -> dict[str, LearnedLatency]:
    """Return what a policy's memory holds of each latency.

    The priors where it holds nothing (`LearnedLatency.recalled`).
    """
    return {key: LearnedLatency.from_memory(key, memory, mix) for key in LATENCIES}


def slo_limits_s(spec: WorkloadSpec | None) -> dict[str, float]:
    """Return what is promised of each latency. Seconds."""
    slo = spec.slo if spec is not None else None
    found = {key: getattr(slo, key, None) for key in LATENCIES}
    return {key: limit_s for key, limit_s in found.items() if limit_s is not None}


def observed_latencies(
    context: PolicyContext, source: str | None, learnt: Mapping[str, LearnedLatency]
) -> dict[str, LatencyObservation]:
    """Return what a source tells, fresh and whole. Where it tells no mean, that is drawn from the 95th percentile."""
    found = {}
    for key, known in learnt.items():
        latency = LATENCIES[key]
        mean_s, p95_s = (_fresh(context, source, quantity) for quantity in (latency.mean, latency.p95))
        if not mean_s and p95_s:
            mean_s = known.tail.mean_s(p95_s, P95)
        if mean_s:
            found[key] = LatencyObservation(mean_s, _fresh(context, source, latency.late_share))
    return found


def _fresh(context: PolicyContext, source: str | None, quantity: str) -> float | None:
    match context.readings.get(SignalName(f"{source}.{quantity}")):
        case Fresh(value, _, missing) if value >= 0 and math.isfinite(value) and not missing:
            return value
    return None
