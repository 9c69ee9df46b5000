"""The quantities that sources report of each latency with an SLO, and what an engine does before they are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """The quantities that tell of one latency, and what an engine does before that is known.

    `mean` and `late` are its mean (s) and the share beyond the promise; `p95` its 95th percentile (s), for sources that
    have no mean. `idle_s` is what an idle engine takes, `spread` the tail's, at the most `most`.
    """

    mean: str
    late_share: str
    p95: str
    idle_s: float
    spread: float
    most: float


TTFT, ITL = "ttft_s", "itl_s"
LATENCIES: Final[Mapping[str, LatencyMetric]] = {
    TTFT: LatencyMetric("ttft_mean_s", "ttft_late_share", "ttft_p95_s", 0.05, 0.7, 1.5),
    ITL: LatencyMetric("itl_mean_s", "itl_late_share", "itl_p95_s", 0.008, 0.15, 0.6),
}
"""By the promise that each belongs to. Priors: vLLM and Llama-3.1-8B on an H100, conversations (measured). A wait is
exponential, a spread of 1; averages over a request vary less."""
LATE: Final = frozenset(latency.late_share for latency in LATENCIES.values())
"""Quantities that hang on what is promised."""
QUANTITIES: Final = tuple(q for latency in LATENCIES.values() for q in (latency.mean, latency.late_share, latency.p95))
