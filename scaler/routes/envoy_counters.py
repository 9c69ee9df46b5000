"""Envoy's counters of a cluster, and the requests and failures that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from policies.model.route import BackendTraffic

STARTED: Final = ("upstream_rq_total", "upstream_rq_pending_failure_eject", "upstream_rq_pending_overflow")
"""Counters of attempts: with a connection, without one, and refused by a limit of the cluster."""
REPEATED: Final = "upstream_rq_retry"
NO_HOST: Final = "upstream_cx_none_healthy"
"""Counter of requests without any attempt: the cluster has no healthy host."""
ANSWERED_BADLY: Final = ("upstream_rq_5xx", "upstream_rq_429")
"""Counters of responses to clients that are failures."""
FAILED: Final = (*ANSWERED_BADLY, REPEATED)
"""Counters of failures: responses to clients, and attempts that were repeated."""


def traffic_of(grown: Callable[[str], float], latency_s: float | None = None) -> BackendTraffic:
    """Return the traffic of a cluster from the growth of its counters.

    Example: 3 requests, one of which needed 2 attempts, are 4 started attempts less 1 repeated one.
    """
    requests = max(0.0, sum(map(grown, STARTED)) - grown(REPEATED) + grown(NO_HOST))
    return BackendTraffic(requests, min(requests, sum(map(grown, FAILED))), latency_s)
