"""The latencies with an SLO.

For each, the module has its readings, the learned model, and the load at which the SLO is just kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.model import Fresh
from policies.recommend.predictive.latency_load_model import LoadLine
from policies.recommend.predictive.latency_tail import LatencyTail
from policies.signals.demand import signal_names
from policies.signals.latency_quantities import ITL, LATENCIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import PolicyContext

DEFAULT_SLO_SHARE: Final = 0.99
"""The default of the specification, for a context without an SLO. Share."""
P95: Final = 0.95
"""Share of the requests below a 95th percentile."""
DEFAULT_LOAD: Final = 0.9
"""Load to fill if no SLO allows less, as a share of the saturation: queues grow without bound near 1."""
MIN_USEFUL_LOAD: Final = 0.2
"""An SLO that allows less than this share of the saturation is unattainable: nearly idle replicas miss it."""
ITL_SPREAD_PER_MIX: Final = 0.065
"""Prior ITL spread per root of prompt tokens per output token. An ITL depends on the prompts that are prefilled
meanwhile: a matter of chance, and of few prompts if answers are short. Measured on an H100: conversations with 5 prompt
tokens per output token had 0.08 and 0.14, code with 70 had 0.5 and more. The formula gives 0.065 * sqrt(5) = 0.15 and
0.54."""
CAUTION_SIGMAS: Final = 0.5
"""A load limit counts as this many standard deviations below its estimate, since the first estimates are uncertain."""
MIN_ITL_SPREAD: Final = 0.05
"""Smallest prior spread that follows from the mix of tokens."""


@dataclass(frozen=True, slots=True)
class LatencyObservation:
    """The readings of one latency in one tick: its mean and the late share.

    The late share is None if no source reports it.
    """

    mean_s: float
    late_share: float | None


@dataclass(frozen=True, slots=True)
class LearnedLatency:
    """The learned model of one latency: its mean by the load, and its tail by the mean."""

    line: LoadLine
    tail: LatencyTail

    @staticmethod
    def from_memory(key: str, memory: Mapping[str, float], mix: float = 0.0) -> LearnedLatency:
        """Return the recorded model, or the prior.

        `mix` is prompt tokens per output token, 0 if unknown.
        """
        prior = LATENCIES[key]
        spread = prior.spread
        if key == ITL and mix > 0.0:
            spread = max(MIN_ITL_SPREAD, min(prior.max_spread, ITL_SPREAD_PER_MIX * math.sqrt(mix)))
        return LearnedLatency(
            LoadLine.from_memory(key, memory, prior.idle_s),
            LatencyTail.from_memory(key, memory, spread, prior.max_spread),
        )

    def memory(self, key: str) -> dict[str, float]:
        return {**self.line.memory(key), **self.tail.memory(key)}

    def limit(self, limit_s: float, share: float) -> float:
        """Return the load per replica at which `share` of the requests keep the SLO.

        Example: 99 % stay within 50 ms at a mean ITL of 32.5 ms (see `LatencyTail.mean_s`). With 20 ms on an idle
        engine and a saturation of 1.0, that is a load of 1.0 * (1 - 20 / 32.5) = 0.38.
        """
        return self.line.limit(self.tail.mean_s(limit_s, share))

    def late_share(self, limit_s: float, load: float) -> float:
        """Return the share of the requests that misses the SLO at a load."""
        return float(self.late_shares(limit_s, np.array(load)))

    def late_shares(self, limit_s: float, loads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of the requests that misses the SLO at each load: 1 above saturation."""
        pace = self.line.pace * (1.0 - loads / self.line.saturation)
        late = np.exp(-np.maximum(0.0, self.tail.exponent(limit_s * pace)))
        return np.where(pace > 0.0, late, 1.0)


@dataclass(frozen=True, slots=True)
class LoadLimit:
    """The load that a replica may carry, as a multiple of the prior saturation.

    `latency` is the SLO that sets the limit (empty if none does). `uncertain` is the standard deviation of the limit as
    a share of it. `without_slo` is the limit without an SLO. `unattainable` is an SLO that no number of replicas keeps.
    """

    load: float
    latency: str
    uncertain: float
    without_slo: float
    unattainable: str = ""


def load_limit(
    learned: Mapping[str, LearnedLatency], limits_s: Mapping[str, float], share: float, max_saturation: float = math.inf
) -> LoadLimit:
    """Return the largest load at which `share` of the requests keep every attainable SLO.

    No saturation counts as more than `max_saturation`.

    Example: TTFT allows a load of 0.7 and ITL 0.38, the saturation is 1.0. The limit is 0.38, set by ITL. If ITL allows
    only 0.15, less than 0.2, it is unattainable, and TTFT sets the limit.
    """
    saturations = (known.line.saturation for known in learned.values())
    without_slo = DEFAULT_LOAD * min(max_saturation, min(saturations, default=1.0))
    limit = LoadLimit(without_slo, "", 0.0, without_slo)
    for key, limit_s in limits_s.items():
        known = learned[key]
        load = known.limit(limit_s, share)
        if load < MIN_USEFUL_LOAD * known.line.saturation:
            limit = LoadLimit(limit.load, limit.latency, limit.uncertain, without_slo, key)
        elif load < limit.load:
            limit = LoadLimit(load, key, known.line.uncertainty(load), without_slo, limit.unattainable)
    return limit


def capacity_at(limit: LoadLimit) -> float:
    """Return the load that counts as the capacity of a replica.

    It is the limit, less a part of its uncertainty. Example: a limit of 0.8 with an uncertainty of 20 % counts as
    0.8 * (1 - 0.5 * 0.2) = 0.72. At most 30 % are deducted.
    """
    return limit.load * (1.0 - min(0.3, CAUTION_SIGMAS * limit.uncertain))


def estimated_late_share(
    observed: Mapping[str, LatencyObservation], learned: Mapping[str, LearnedLatency], limits_s: Mapping[str, float]
) -> float | None:
    """Return the largest late share, by the learned tail if unmeasured; None without a reading."""
    shares = (
        learned[key].tail.late_share(limits_s[key], o.mean_s) if o.late_share is None else o.late_share
        for key, o in observed.items()
        if key in limits_s
    )
    return max(shares, default=None)


def recall_latencies(memory: Mapping[str, float], mix: float = 0.0) -> dict[str, LearnedLatency]:
    """Return the model of each latency from a policy's memory; the prior if it holds none."""
    return {key: LearnedLatency.from_memory(key, memory, mix) for key in LATENCIES}


def slo_share(spec: WorkloadSpec | None) -> float:
    """Return the share of requests that must keep the SLO."""
    return spec.slo.share if spec is not None and spec.slo is not None else DEFAULT_SLO_SHARE


def slo_limits_s(spec: WorkloadSpec | None) -> dict[str, float]:
    """Return the SLO of each modelled latency that has one. Seconds."""
    limits_s = {} if spec is None else spec.slo_limits_s
    return {key: limit_s for key, limit_s in limits_s.items() if key in LATENCIES}


def observed_latencies(
    context: PolicyContext, source: str | None, learned: Mapping[str, LearnedLatency]
) -> dict[str, LatencyObservation]:
    """Return the fresh and complete latency readings of a source.

    A missing mean is derived from the 95th percentile.

    Example: a p95 of 26 ms at a spread of 0.15 is a mean of 26 / (1 + 0.15 * (ln(20) - 1)) = 20 ms.
    """
    observations = {}
    for key, model in learned.items():
        latency = LATENCIES[key]
        mean_s, p95_s = (_fresh(context, source, quantity) for quantity in (latency.mean, latency.p95))
        if not mean_s and p95_s:
            mean_s = model.tail.mean_s(p95_s, P95)
        if mean_s:
            observations[key] = LatencyObservation(mean_s, _fresh(context, source, latency.late_share))
    return observations


def _fresh(context: PolicyContext, source: str | None, quantity: str) -> float | None:
    (signal,) = signal_names(source, (quantity,))
    reading = context.readings.get(signal)
    if isinstance(reading, Fresh) and not reading.missing and 0.0 <= reading.value < math.inf:
        return reading.value
    return None
