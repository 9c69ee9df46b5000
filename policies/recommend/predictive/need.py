"""The predictive policy's need of one tick, and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.recommend.predictive.backlog_clearing import BacklogNeed
    from policies.recommend.predictive.latency_model import LoadLimit
    from policies.recommend.predictive.queue_deadline import DeadlineNeed
    from policies.recommend.predictive.slo_correction import SloCorrection
    from policies.recommend.predictive.slo_margin import SloMargin


@dataclass(frozen=True, slots=True)
class Need:
    """The parts of one tick's need, in replica equivalents.

    `rate` is the need of the arriving work, `work` the larger of it and of the need of the KV cache, `expected` the
    quantile of the forecast. `limit` is the load that fills a replica. `unmeasured` names SLOs without readings.
    """

    work: float
    rate: float
    limit: LoadLimit
    backlog: BacklogNeed
    queue: DeadlineNeed | None
    expected: float
    correction: SloCorrection
    margin: SloMargin
    unmeasured: tuple[str, ...]

    def reason(self, quantile: float, lead_s: float) -> str:
        """Return the reason, with the quantile of the forecast (0 to 1) and the lead time that it covers."""
        limit, correction = self.limit, self.correction
        limited_by = f"by {limit.latency}" if limit.latency else "by throughput"
        parts = [
            f"{self.work:.2f} replicas' worth now, each filled to {limit.load:.0%} of the engine given, {limited_by}"
        ]
        if self.work > self.rate:
            parts.append(f"the rate needs {self.rate:.2f}, the cache the rest")
        if limit.unattainable:
            parts.append(f"{limit.unattainable} misses its promise at any size and is left out")
        if self.unmeasured:
            parts.append(
                f"no source tells {' or '.join(self.unmeasured)}, which is promised: what is known of it stays"
            )
        if self.backlog.extra_replicas:
            parts.append(self.backlog.reason)
        if self.queue is not None and self.queue.due_work_s:
            parts.append(self.queue.reason)
        parts.append(f"at most {self.expected:.2f} within {lead_s:.0f} s (P{100 * quantile:.0f})")
        if self.margin.level < 1.0:
            fill = f", replicas {self.margin.fill_factor - 1:.0%} fuller" if self.margin.fill_factor > 1.005 else ""
            parts.append(f"a margin of {max(0.0, self.margin.level):.0%}{fill}, for {self.margin.late_share:.2%} late")
        if abs(correction.correction - 1.0) > 0.005:
            parts.append(f"{correction.correction:.2f} times that, for {correction.late_share:.2%} lately late")
        return "; ".join(parts)
