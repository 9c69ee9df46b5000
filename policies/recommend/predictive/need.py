"""The predictive policy's need of one tick, and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from policies.signals.latency_quantities import ITL, TTFT

if TYPE_CHECKING:
    from policies.recommend.predictive.backlog_clearing import BacklogNeed
    from policies.recommend.predictive.latency_model import LoadLimit
    from policies.recommend.predictive.queue_deadline import DeadlineNeed
    from policies.recommend.predictive.slo_correction import SloCorrection

TITLES: Final = {TTFT: "TTFT", ITL: "ITL"}


class PlannedSize(NamedTuple):
    """The size that the forecast needs, and what it provides for: `P95 of the demand`.

    The size is in replica equivalents.
    """

    replicas: float
    basis: str


@dataclass(frozen=True, slots=True)
class Need:
    """The parts of one tick's need, in replica equivalents.

    `rate` is the need of the arriving work, `work` the larger of it and of the need of the KV cache, `expected` the
    size that the forecast needs, for what `basis` says. `limit` is the load that fills a replica. `unmeasured` names
    SLOs without readings.
    """

    work: float
    rate: float
    limit: LoadLimit
    backlog: BacklogNeed
    queue: DeadlineNeed | None
    expected: float
    basis: str
    correction: SloCorrection
    unmeasured: tuple[str, ...]

    def reason(self, lead_s: float) -> str:
        """Return the reason, with the lead time that the forecast covers (seconds)."""
        limit, correction = self.limit, self.correction
        forecast = f", {self.expected:.1f} within {lead_s:.0f} s ({self.basis})" if self.basis else ""
        limited_by = TITLES[limit.latency] if limit.latency else "saturation"
        parts = [
            f"needs {self.work:.1f} replicas now{forecast}",
            f"replicas filled to {limit.load:.0%} of configured throughput, limited by {limited_by}",
        ]
        if self.work > self.rate:
            parts.append(f"the KV cache sets the load; the tokens alone need {self.rate:.1f} replicas")
        if limit.unattainable:
            parts.append(f"{TITLES[limit.unattainable]} misses its SLO at any size and is ignored")
        if self.unmeasured:
            unmeasured = " or ".join(TITLES[key] for key in self.unmeasured)
            parts.append(f"no source reports {unmeasured}, so the learned capacity stays unchanged")
        if self.backlog.extra_replicas:
            parts.append(self.backlog.reason)
        if self.queue is not None and self.queue.due_work_s:
            parts.append(self.queue.reason)
        if abs(correction.correction - 1.0) > 0.005:
            parts.append(
                f"size multiplied by {correction.correction:.2f}:"
                f" {correction.late_share:.2%} of recent requests violated the SLO"
            )
        return "; ".join(parts)
