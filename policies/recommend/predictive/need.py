"""The predictive policy's need of one tick, and its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.signals.latency_quantities import ITL, TTFT

if TYPE_CHECKING:
    from policies.recommend.predictive.backlog_clearing import BacklogNeed
    from policies.recommend.predictive.latency_model import LoadLimit
    from policies.recommend.predictive.queue_deadline import DeadlineNeed
    from policies.recommend.predictive.slo_correction import SloCorrection
    from policies.recommend.predictive.slo_margin import SloMargin

TITLES: Final = {TTFT: "TTFT", ITL: "ITL"}


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
        """Return the reason.

        It names the quantile of the forecast (0 to 1) and the lead time that the forecast covers.
        """
        limit, correction = self.limit, self.correction
        change = "and up to" if self.expected > self.work else "and forecast to be at most"
        forecast = f"{change} {self.expected:.1f} within {lead_s:.0f} s (P{100 * quantile:.0f})"
        limited_by = TITLES[limit.latency] if limit.latency else "saturation"
        parts = [
            f"load is {self.work:.1f} replicas now {forecast}",
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
        if self.margin.level < 1.0:
            more = self.margin.fill_factor - 1.0
            fill = f", replicas filled {more:.0%} more" if more > 0.005 else ""
            parts.append(
                f"forecast margin lowered to {max(0.0, self.margin.level):.0%}{fill}:"
                f" {self.margin.late_share:.2%} of recent requests violated the SLO"
            )
        if abs(correction.correction - 1.0) > 0.005:
            parts.append(
                f"size multiplied by {correction.correction:.2f}:"
                f" {correction.late_share:.2%} of recent requests violated the SLO"
            )
        return "; ".join(parts)
