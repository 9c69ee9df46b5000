"""The quantities and the priors of each latency with an SLO.

Sources report the quantities.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LatencyMetric:
    """The quantities and the priors of one latency.

    `mean` is the quantity of its mean (seconds), `late_share` that of the share of requests beyond the SLO, and `p95`
    that of the 95th percentile (seconds), for sources without a mean. `idle_s` is the prior latency of an idle engine,
    `spread` the prior spread of its tail (see `latency_tail.py`) and `max_spread` the largest spread.
    """

    mean: str
    late_share: str
    p95: str
    idle_s: float
    spread: float
    max_spread: float


TTFT, ITL = "ttft_s", "itl_s"
LATENCIES: Final[Mapping[str, LatencyMetric]] = {
    TTFT: LatencyMetric("ttft_mean_s", "ttft_late_share", "ttft_p95_s", 0.05, 0.7, 1.5),
    ITL: LatencyMetric("itl_mean_s", "itl_late_share", "itl_p95_s", 0.008, 0.15, 0.6),
}
"""The latencies by the SLO setting that limits them. The priors were measured with vLLM and Llama-3.1-8B on an H100,
conversations. A waiting time is exponential, with a spread of 1; an average over a request varies less."""
E2E_MEAN, E2E_LATE_SHARE, E2E_P95 = "e2e_mean_s", "e2e_late_share", "e2e_p95_s"
"""The quantities of a request's duration, from arrival to the last token. It has no prior: it depends on the length of
the answer, so that no policy models it."""
LATE_SHARE_BY_LIMIT: Final[Mapping[str, str]] = {
    **{limit: latency.late_share for limit, latency in LATENCIES.items()},
    "e2e_s": E2E_LATE_SHARE,
}
"""The share of requests beyond each limit of an SLO, by its setting."""
LATE_SHARES: Final = frozenset(LATE_SHARE_BY_LIMIT.values())
"""Quantities that depend on the SLO."""
QUANTITIES: Final = tuple(q for latency in LATENCIES.values() for q in (latency.mean, latency.late_share, latency.p95))
"""Quantities of the modelled latencies."""
