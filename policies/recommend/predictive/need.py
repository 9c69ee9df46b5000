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
    """What one turn comes to, in replicas' worth of work, and the words for it."""

    work: float
    rate: float
    allowed: LoadLimit
    backlog: BacklogNeed
    queue: DeadlineNeed | None
    expected: float
    correction: SloCorrection
    margin: SloMargin
    unmeasured: tuple[str, ...]

    def words(self, quantile: float, lead_s: float) -> str:
        allowed, supervisor = self.allowed, self.correction
        by = f"by {allowed.latency}" if allowed.latency else "by throughput"
        told = [f"{self.work:.2f} replicas' worth now, each filled to {allowed.load:.0%} of the engine given, {by}"]
        if self.work > self.rate:
            told.append(f"the rate needs {self.rate:.2f}, the cache the rest")
        if allowed.unattainable:
            told.append(f"{allowed.unattainable} misses its promise at any size and is left out")
        if self.unmeasured:
            told.append(f"no source tells {' or '.join(self.unmeasured)}, which is promised: what is known of it stays")
        if self.backlog.extra:
            told.append(self.backlog.reason)
        if self.queue is not None and self.queue.due_work_s:
            told.append(self.queue.reason)
        told.append(f"at most {self.expected:.2f} within {lead_s:.0f} s (P{100 * quantile:.0f})")
        if self.margin.level < 1.0:
            fuller = f", replicas {self.margin.fill_factor - 1:.0%} fuller" if self.margin.fill_factor > 1.005 else ""
            told.append(f"a margin of {max(0.0, self.margin.level):.0%}{fuller}, for {self.margin.late_share:.2%} late")
        if abs(supervisor.correction - 1.0) > 0.005:
            told.append(f"{supervisor.correction:.2f} times that, for {supervisor.late_share:.2%} lately late")
        return "; ".join(told)
