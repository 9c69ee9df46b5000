"""One tick of the predictive policy: need by engines, a queue's deadline, or GPU activity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import ACTIVE
from policies.model import Evidence, Fresh, PolicyName, Recommendation, SignalName
from policies.recommend.predictive.backlog_clearing import BacklogNeed, BacklogSupply, WaitingWork, backlog_need
from policies.recommend.predictive.engine_load import AVERAGE_S, ENGINE_QUANTITIES, SURGE, EngineLoad, engine_load
from policies.recommend.predictive.latency_model import (
    LatencyObservation,
    LearnedLatency,
    LoadLimit,
    capacity_at,
    estimated_late_share,
    load_limit,
    observed_latencies,
    slo_limits_s,
    slo_share,
)
from policies.recommend.predictive.memory import PredictiveMemory
from policies.recommend.predictive.need import Need, PlannedSize
from policies.recommend.predictive.queue_deadline import (
    DeadlineNeed,
    QueueSlo,
    QueueState,
    deadline_need,
    raised_past_tolerance,
)
from policies.recommend.predictive.service_time import mean_response_time_s, service_time_when_full_s, traffic_has_ended
from policies.recommend.predictive.slo_correction import SloCorrection
from policies.recommend.predictive.slo_margin import SloMargin
from policies.recommend.predictive.slo_size import SloPlan, has_whole_replicas, largest_quantile, surge_size
from policies.recommend.predictive.supply_timeline import SupplyTimeline
from policies.recommend.readiness import filled_share
from policies.signals.demand import no_opinion, signal_names, work_of_share
from policies.signals.demand_hold import demand_to_hold
from policies.signals.gpu_activity_fallback import UTILIZATION, activity_need
from policies.signals.latency_quantities import QUANTITIES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.forecast.quantile_forecast import QuantileForecast
    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.parameters import PredictiveParameters

PEAK_LEVELS: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Quantiles of the largest demand that a recommendation reports to the allocator."""
KV_TARGET: Final = 0.9
"""Mean share of the KV cache to fill: an engine preempts requests when its cache is full, and replicas differ."""
DEFAULT_INTERVAL_S, DEFAULT_LEAD_TIME_S, DEFAULT_COST_RATIO = 15.0, 120.0, 19.0
"""The defaults of the specification, for a context without one."""
MAX_SERVICE_TIME_S: Final = 86_400.0
"""Maximum service time of a request, so that results stay finite. Seconds."""
SPARE_RESPONSE_TIMES: Final = 2.0
"""Response times to spare when a cooldown begins, since a response time is an average."""
KV_CACHE: Final = "kv_cache_usage"
IDLE_UTILIZATION: Final = 0.05
"""GPUs with a lower utilization are idle: the default activation of the policy `gpu_utilization`. Share."""


@dataclass(frozen=True)
class Evaluation:
    """One tick of the policy: its parameters, context, the fresh `values` in it, and memory."""

    policy: PredictiveParameters
    name: PolicyName
    context: PolicyContext
    values: Mapping[SignalName, float]
    memory: PredictiveMemory

    def need_from_engines(self, used: tuple[SignalName, ...], evidence: Evidence, problems: str) -> Recommendation:
        """Return the need that follows from the engines' readings, and the queue's if there is one.

        `latency_driven` is the part that the SLO correction adds: 1.0 of 6.0 replicas at a correction of 1.2.
        """
        policy, context = self.policy, self.context
        load = engine_load(context, used[: len(ENGINE_QUANTITIES)], self.values, policy.capacity, self._queue)
        prompt, generated = (self.values[signal] for signal in used[3:5])
        before = self.memory.latencies(prompt / generated if generated > 0 else 0.0)
        observed = observed_latencies(context, policy.source, before)
        learned = self._learned(load, before, observed)
        limit = load_limit(learned, self._slo_limits_s, self._slo_share, policy.max_saturation)
        replica_load = capacity_at(limit)
        service_s, response_s = self._service_time_s(load, replica_load), self._response_time_s(load)
        rate = load.arriving / replica_load
        queue = None if self.visible is None else self._deadline_need(self.visible, service_s, response_s)
        memory = self.memory.with_engines(service_s, response_s, learned)
        if queue is not None and self._deadline_allows_waiting:
            recommendation = self._by_deadline(queue, evidence, used, memory)
            active = recommendation.active or load.in_work > 0
            return replace(
                recommendation, work=rate, active=active and not self._traffic_has_ended(load, queue, response_s)
            )
        work = max(rate, self._kv_cache_need(load))
        forecast = context.history.forecast(self.name)
        peaks = forecast.peaks(self._lead_s, PEAK_LEVELS)
        has_forecast = policy.use_forecast and bool(np.isfinite(peaks).all())
        margin = self._margin
        unmeasured = tuple(key for key in self._slo_limits_s if key not in observed)
        planned = self._planned_size(forecast, peaks, learned, limit, margin) if has_forecast else PlannedSize(work, "")
        expected = max(planned.replicas, self._held_demand())
        backlog = self._backlog(load, rate, service_s)
        slo = self._slo_correction(observed, learned)
        need = Need(work, rate, limit, backlog, queue, expected, planned.basis, slo, unmeasured)
        correction = slo.correction
        factor = correction / policy.utilization
        if backlog.extra_replicas:
            correction = max(1.0, correction)
        largest = max(
            expected, work + backlog.extra_replicas, surge_size(context.spec, work), queue.replicas if queue else 0.0
        )
        clearing = work + backlog.extra_replicas if backlog.extra_replicas else 0.0
        replicas = self._limited_release(largest, clearing, correction, policy.utilization)
        latencies = (signal for signal in signal_names(policy.source, QUANTITIES) if signal in context.readings)
        return Recommendation(
            self.name,
            replicas,
            evidence,
            load.in_work + load.requests_per_s + (queue.waiting if queue else 0.0) > 0,
            need.reason(self._lead_s) + (f" ({problems})" if problems else ""),
            used,
            retained_signals=(*used, *latencies),
            memory=memory.with_slo(slo, margin).with_need(replicas).recorded,
            work=work,
            peaks=tuple(zip(PEAK_LEVELS, (peaks * factor).tolist(), strict=True)) if has_forecast else (),
            latency_driven=replicas * (1.0 - 1.0 / correction) if observed and correction > 1.0 else None,
        )

    def need_from_queue(self, visible: float, used: tuple[SignalName, ...], problems: str) -> Recommendation:
        """Return the need without the engines' readings.

        It is the need of the queue's messages at their last known service time.
        """
        queue = self._deadline_need(visible, self._last_service_time_s, self.memory.response_time_s)
        recommendation = self._by_deadline(queue, Evidence.PARTIAL, used, self.memory)
        return replace(
            recommendation, reason=f"engines report nothing ({problems or 'none is ready'}); {recommendation.reason}"
        )

    def need_from_gpu_activity(self, used: tuple[SignalName, ...], problems: str) -> Recommendation:
        """Return the need from GPU utilization, without other readings.

        If utilization is not read either, return no opinion.
        """
        problems = problems or "no replica is ready"
        signal = SignalName(f"{self.policy.gpu_activity}.{UTILIZATION}")
        ready, utilization = self.context.ready, self.context.readings.get(signal)
        if self.policy.gpu_activity is None or not ready or not isinstance(utilization, Fresh):
            return no_opinion(self.name, used, problems, self.memory.recorded)
        last_need = float(self.context.desired or ready) if self.memory.need is None else self.memory.need
        need = activity_need(utilization.value, ready, last_need)
        return Recommendation(
            self.name,
            need.replicas,
            Evidence.PARTIAL,
            utilization.value > IDLE_UTILIZATION,
            f"neither engines nor queue report anything ({problems}); {need.reason}",
            (*used, signal),
            memory=self.memory.with_need(last_need).recorded,
        )

    def _by_deadline(
        self, queue: DeadlineNeed, evidence: Evidence, used: tuple[SignalName, ...], memory: PredictiveMemory
    ) -> Recommendation:
        """Return the recommendation that keeps a queue's deadline, without a forecast."""
        size, spec = float(self.context.desired or 0), self.context.spec
        replicas = queue.replicas / self.policy.utilization
        if spec is not None:
            replicas = raised_past_tolerance(replicas, size, spec.tolerance)
        return Recommendation(
            self.name,
            replicas,
            evidence,
            queue.waiting > 0,
            queue.reason,
            used,
            retained_signals=used,
            memory=memory.with_need(replicas).recorded,
        )

    def filled(self, recommendation: Recommendation) -> float | None:
        """Return how full the ready replicas are.

        It is None if the queue decides, by its deadline or without the engines. Engines on a queue with a distant
        deadline are always full: they admit as many messages as they can hold.
        """
        if self.visible is not None and (recommendation.work is None or self._deadline_allows_waiting):
            return None
        work = None if recommendation.work is None else recommendation.work / self.policy.utilization
        return filled_share(work, self.context, self.policy.source)

    @property
    def _slo_share(self) -> float:
        return slo_share(self.context.spec)

    @property
    def _allowed_late_share(self) -> float:
        return max(1e-4, 1.0 - self._slo_share)

    @cached_property
    def _slo_limits_s(self) -> Mapping[str, float]:
        return slo_limits_s(self.context.spec)

    def _planned_size(
        self,
        forecast: QuantileForecast,
        peaks: NDArray[np.float64],
        learned: Mapping[str, LearnedLatency],
        limit: LoadLimit,
        margin: SloMargin,
    ) -> PlannedSize:
        """Return the size that the forecast needs, at most that of the largest demand's quantile.

        Without an attainable SLO, and with a configured quantile, it is that of the quantile.
        """
        allowed, spec, quantile = self._allowed_late_share, self.context.spec, self.policy.quantile
        limits_s = {key: limit_s for key, limit_s in self._slo_limits_s.items() if key != limit.unattainable}
        cost_ratio = spec.slo_violation_cost_ratio if spec is not None else DEFAULT_COST_RATIO
        highest = largest_quantile(cost_ratio, allowed) if quantile is None else quantile
        largest = PlannedSize(float(np.interp(highest, PEAK_LEVELS, peaks)), f"P{100 * highest:g} of the demand")
        if quantile is not None or not limits_s:
            return largest
        saturation, share = self.policy.max_saturation, margin.planned_share(allowed)
        plan = SloPlan(learned, limits_s, capacity_at(limit), saturation, allowed, share, has_whole_replicas(spec))
        size = plan.size_in(forecast, self._lead_s)
        return PlannedSize(size, f"{plan.planned_share:.2%} late requests") if size < largest.replicas else largest

    @property
    def _interval_s(self) -> float:
        return self.context.spec.interval_s if self.context.spec else DEFAULT_INTERVAL_S

    @cached_property
    def _lead_s(self) -> float:
        """Time until a replica requested now serves. Seconds.

        It is the P90 of the slowest pool and one tick, for example 150 + 15 = 165 s.
        """
        pools = self.context.spec.pools.items() if self.context.spec else ()
        memories = self.context.history.pool_memories
        serving = ((name, pool.lead_time_s) for name, pool in pools if pool.tier == "serving")
        leads = [memories.of(name).lead_times.usual_s(prior_s) for name, prior_s in serving]
        return max(leads, default=DEFAULT_LEAD_TIME_S) + self._interval_s

    # --- parts of the need

    def _learned(
        self, load: EngineLoad, before: Mapping[str, LearnedLatency], observed: Mapping[str, LatencyObservation]
    ) -> Mapping[str, LearnedLatency]:
        """Return the latency models after this tick; each tick forgets 15 / 3600 = 0.4 % by default."""
        if not self.policy.learn_capacity:
            return before
        forget = min(0.5, self._interval_s / self.policy.learning_decay_s)
        return load.learned_latencies(before, observed, self._slo_limits_s, forget, self._interval_s)

    def _service_time_s(self, load: EngineLoad, replica_load: float) -> float:
        """Return the replica-seconds of a request, as a moving average. Seconds.

        Example: 0.2 s so far and 0.3 s in a tick of 15 s give 0.2 + 15 / 300 * (0.3 - 0.2) = 0.205 s.
        """
        now_s, over_s = self._measured_service_time_s(load) / replica_load, AVERAGE_S
        window_s = self.policy.capacity.window_s
        if self.visible and load.requests_per_s and self._queue_state(self.visible, window_s).is_backed_up:
            now_s, over_s = load.ready / load.requests_per_s, window_s
        before_s = self._last_service_time_s or now_s
        after_s = before_s + min(1.0, self._interval_s / over_s) * (now_s - before_s) if now_s > 0 else before_s
        return min(after_s, MAX_SERVICE_TIME_S)

    def _response_time_s(self, load: EngineLoad) -> float:
        """Return a message's time in an engine, averaged over steady ticks with a queue. Seconds."""
        before_s = self.memory.response_time_s
        now_s = mean_response_time_s(load) if self.visible and load.is_steady else 0.0
        if not before_s or not now_s:
            return before_s or now_s
        return before_s + min(1.0, self._interval_s / AVERAGE_S) * (now_s - before_s)

    def _traffic_has_ended(self, load: EngineLoad, queue: DeadlineNeed, response_s: float) -> bool:
        """Return whether traffic has ended and the queue is empty in time.

        The remaining messages must be answered before the cooldown ends. Then the cooldown may begin before the queue
        is empty. Once it has begun, the queue must be empty when it ends.
        """
        was_active = self.context.history.column(ACTIVE)[-1:].any()
        if self.visible is None or queue.slack_s < (SPARE_RESPONSE_TIMES if was_active else 0.0) * response_s:
            return False
        gauges = (self._queue, *signal_names(self.policy.source, ENGINE_QUANTITIES[:2]))
        return traffic_has_ended(self.context, load, gauges, self.visible + load.in_work)

    def _measured_service_time_s(self, load: EngineLoad) -> float:
        if self.visible is None:
            return load.work_per_request
        running = SignalName(f"{self.policy.source}.{ENGINE_QUANTITIES[0]}")
        return service_time_when_full_s(self.context, load, running, self.values[running], self._interval_s)

    @property
    def _last_service_time_s(self) -> float:
        known_s = self.memory.service_time_s
        return (self.policy.message_service_s or 0.0) if known_s is None else known_s

    def _kv_cache_need(self, load: EngineLoad) -> float:
        """Return the replicas that hold the KV cache at its target.

        Example: 5 replicas at 96 % need 5 * 0.96 / 0.9 = 5.3.
        """
        usage = self.values.get(SignalName(f"{self.policy.source}.{KV_CACHE}"), 0.0)
        return work_of_share(usage, round(load.ready), KV_TARGET)

    @cached_property
    def _queue(self) -> SignalName:
        return SignalName(f"{self.policy.queue}.visible")

    @property
    def visible(self) -> float | None:
        return self.values.get(self._queue)

    @property
    def _next_ready_s(self) -> float:
        """Time until the next pending replica serves, or a lead time if none is pending. Seconds.

        Example: 120 s less 90 s of waiting are 30 s.
        """
        since = self.context.pending_since()
        return max(0.0, since[0] + self._lead_s - self.context.at) if since else self._lead_s

    @property
    def _deadline_allows_waiting(self) -> bool:
        """Whether a replica requested now serves before a message of now is due.

        Then no forecast is needed. Example: 900 s of deadline less 5 s of response time are more than 165 s of lead
        time and 60 s to clear.
        """
        return self.policy.queue_deadline_s - self.memory.response_time_s > self._lead_s + self.policy.backlog_clear_s

    def _queue_state(self, visible: float, window_s: float) -> QueueState:
        return QueueState.of(self.context, self._queue, visible, self.context.at - window_s)

    def _deadline_need(self, visible: float, service_s: float, response_s: float) -> DeadlineNeed:
        """Return the need of the queue's deadline, less the time that an engine takes to answer."""
        policy, age = self.policy, self.context.readings.get(SignalName(f"{self.policy.queue}.oldest_age_s"))
        timeline = SupplyTimeline.of(self.context, self._lead_s)
        slo = QueueSlo(policy.queue_deadline_s - response_s, policy.backlog_clear_s)
        state = self._queue_state(visible, policy.queue_deadline_s)
        return deadline_need(state, service_s, timeline, slo, age.value if isinstance(age, Fresh) else 0.0)

    def _backlog(self, load: EngineLoad, rate: float, service_s: float) -> BacklogNeed:
        """Return the need of requests that wait in the engines.

        They count if more than `SURGE` per replica wait for two ticks.
        """
        if load.sustained_waiting <= SURGE * load.ready:
            return BacklogNeed(0.0)
        ready, size, spec = float(self.context.ready or 0), float(self.context.desired or 0), self.context.spec
        window_s, ratio = (
            (spec.scale_down.window_s, spec.slo_violation_cost_ratio) if spec else (60.0, DEFAULT_COST_RATIO)
        )
        supply = BacklogSupply(self._lead_s, self._next_ready_s, window_s, ratio)
        return backlog_need(WaitingWork(load.sustained_waiting, service_s), rate, ready, size, supply)

    def _held_demand(self) -> float:
        fine = self.context.history.forecast(self.name).series.fine
        held_ticks, minute_ticks = round(self.policy.demand_hold_s / self._interval_s), round(60.0 / self._interval_s)
        return demand_to_hold(fine.window(held_ticks), max(1, minute_ticks))

    def _limited_release(self, demand: float, clearing: float, correction: float, utilization: float) -> float:
        """Return the need of a demand, and release replicas only to half of a utilization above 1.

        `clearing` is the work of a backlog, and no replica is filled beyond 1 for it. Example: at a size of 10 and a
        utilization of 1.21, a demand of 9.9 needs 9.9 / 1.21 = 8.2. The release stops at 9.9 / sqrt(1.21) = 9.0.
        """
        size = self.context.desired
        need = demand * correction / utilization
        if size is None or need >= size:
            return need
        return min(float(size), max(need, clearing, demand * correction / math.sqrt(max(1.0, utilization))))

    @property
    def _margin(self) -> SloMargin:
        """The margin after this tick. It does not change without the SLO correction."""
        before = self.memory.slo_margin
        return before.after(self.context.error_budget, self._interval_s) if self.policy.slo_correction else before

    def _slo_correction(
        self, observed: Mapping[str, LatencyObservation], learned: Mapping[str, LearnedLatency]
    ) -> SloCorrection:
        """Return the correction after this tick. An unmeasured late share follows from the tail."""
        if not self.policy.slo_correction:
            return SloCorrection()
        share = estimated_late_share(observed, learned, self._slo_limits_s)
        before, period_s = self.memory.slo_correction, self.policy.slo_correction_time_s
        return before.after(share, self._allowed_late_share, self._interval_s, period_s)
