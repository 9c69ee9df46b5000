"""One turn of the predictive policy: from what is seen to a need, by engines, by a queue's deadline, or by activity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import ACTIVE
from policies.model import Evidence, Fresh, PolicyName, Recommendation, SignalName
from policies.recommend.predictive.backlog_clearing import BacklogNeed, ComingReplicas, WaitingWork, backlog_need
from policies.recommend.predictive.engine_load import READ, SURGE, EngineLoad, ReplicaCapacity, engine_load
from policies.recommend.predictive.latency_model import (
    LatencyObservation,
    LearnedLatency,
    LoadLimit,
    load_limit,
    observed_latencies,
    slo_limits_s,
)
from policies.recommend.predictive.memory import PredictiveMemory
from policies.recommend.predictive.need import Need
from policies.recommend.predictive.queue_deadline import DeadlineNeed, QueueSlo, QueueState, deadline_need
from policies.recommend.predictive.service_time import response_time_s, service_time_when_full_s, traffic_has_ended
from policies.recommend.predictive.slo_correction import SloCorrection
from policies.recommend.predictive.slo_margin import SloMargin
from policies.recommend.predictive.supply_timeline import SupplyTimeline
from policies.recommend.readiness import filled_share
from policies.signals.demand import no_opinion, signal_names, work_of_share
from policies.signals.demand_hold import demand_to_hold
from policies.signals.gpu_activity_fallback import UTILIZATION, by_activity
from policies.signals.latency_quantities import QUANTITIES

if TYPE_CHECKING:
    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import PolicyContext
    from policies.recommend.predictive.parameters import PredictiveParameters

PEAKS: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Quantiles of the largest demand that are told to the allocator."""
KV_TARGET: Final = 0.9
"""Mean share of the KV cache to fill: engines preempt when one runs full, and replicas differ."""
CAUTION: Final = 0.5
"""Standard deviations that a limit is believed to be lower than learnt: the first replicas are bought in doubt."""
INTERVAL_S, LEAD_TIME_S, SHARE, LATENESS_RATIO = 15.0, 120.0, 0.99, 19.0
"""Where no workload says otherwise, as the specification has it."""
SHORT: Final = 0.02
"""A queue's need beyond the size that is no more than noise in what a message takes. Share."""
LENGTHS_S: Final = 300.0
"""The work of a request is averaged over so long: longer than a burst, shorter than a drift of lengths."""
LONGEST_EACH_S: Final = 86_400.0
"""Of a replica, for one request: none takes a day, and what is computed with it stays finite. Seconds."""
SPARE: Final = 2.0
"""Answers' times to spare for what is left when a cooldown begins: how long one takes is an average."""
KV: Final = "kv_cache_usage"
IDLE: Final = 0.05
"""GPUs busy for less of the time do no work, as in `gpu_utilization`."""


def slo_share(spec: WorkloadSpec | None) -> float:
    """Return the share of requests that the promise is of."""
    return spec.slo.share if spec is not None and spec.slo is not None else SHARE


def capacity_at(allowed: LoadLimit) -> float:
    """Return what a replica is trusted to carry of what it may, in the prior's saturations."""
    return allowed.load * (1.0 - min(0.3, CAUTION * allowed.uncertain))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One turn of the policy: its parameters, what it sees, what of that is fresh, and what it handed on."""

    policy: PredictiveParameters
    name: PolicyName
    context: PolicyContext
    values: Mapping[SignalName, float]
    memory: PredictiveMemory

    def by_engines(self, used: tuple[SignalName, ...], evidence: Evidence, problems: str) -> Recommendation:
        """Return the need by all that engines tell."""
        policy, context = self.policy, self.context
        worth = ReplicaCapacity(policy.prompt_tokens_per_s, policy.generation_tokens_per_s, policy.rate_window_s)
        load = engine_load(context, used[: len(READ)], self.values, worth, self._queue)
        prompt, generated = (self.values[signal] for signal in used[3:5])
        before = self.memory.latencies(prompt / generated if generated > 0 else 0.0)
        told = observed_latencies(context, policy.source, before)
        learnt = self._learned(load, before, told)
        allowed = load_limit(learnt, self._slo_limits_s, self._share)
        carries = capacity_at(allowed)
        each_s = self._service_time_s(load, carries)
        rate = load.coming / carries
        answers_s = self._response_time_s(load)
        queued = None if self.visible is None else self._deadline_need(self.visible, each_s, answers_s)
        memory = self.memory.with_engines(each_s, answers_s, learnt)
        if queued is not None and self._deadline_allows_waiting:
            recommendation = self._by_deadline(queued, evidence, used, memory)
            busy = recommendation.active or load.in_work > 0
            return replace(
                recommendation, work=rate, active=busy and not self._traffic_has_ended(load, queued, answers_s)
            )
        work = max(rate, self._kv_cache_need(load))
        peaks = context.history.forecast(self.name).peaks(self._lead_s, PEAKS)
        foreseen = policy.use_forecast and bool(np.isfinite(peaks).all())
        margin = self._margin(told)
        untold = tuple(key for key in self._slo_limits_s if key not in told)
        quantile = self._quantile(margin)
        expected = float(np.interp(quantile, PEAKS, peaks)) if foreseen else work
        expected = max(expected, self._held_demand())
        waits = self._backlog(load, rate, each_s)
        need = Need(work, rate, allowed, waits, queued, expected, self._slo_correction(told, learnt), margin, untold)
        correction = need.correction.correction
        utilization = policy.utilization * margin.fill_factor
        factor = correction / utilization
        if waits.extra:
            correction = max(1.0, correction)
        most = max(expected, work + waits.extra, queued.replicas if queued else 0.0)
        replicas = self._slowly_released(most, work + waits.extra if waits.extra else 0.0, correction, utilization)
        return Recommendation(
            self.name,
            replicas,
            evidence,
            load.in_work + load.requests_per_s + (queued.waiting if queued else 0.0) > 0,
            need.words(quantile, self._lead_s) + (f" ({problems})" if problems else ""),
            used,
            retained_signals=(
                *used,
                *(signal for signal in signal_names(policy.source, QUANTITIES) if signal in context.readings),
            ),
            memory=memory.with_slo(need.correction, margin).with_need(replicas).recorded,
            work=work,
            peaks=tuple(zip(PEAKS, (peaks * factor).tolist(), strict=True)) if foreseen else (),
            latency_driven=replicas * (1.0 - 1.0 / correction) if told and correction > 1.0 else None,
        )

    def by_queue(self, visible: float, used: tuple[SignalName, ...], problems: str) -> Recommendation:
        """Return what can be said without the engines: what waits in the queue, at what a message took before."""
        found = self._deadline_need(visible, self._last_service_time_s, self._last_response_time_s)
        recommendation = self._by_deadline(found, Evidence.PARTIAL, used, self.memory)
        return replace(
            recommendation, reason=f"the engines tell nothing ({problems or 'none is ready'}); {recommendation.reason}"
        )

    def by_activity(self, used: tuple[SignalName, ...], problems: str) -> Recommendation:
        """Return what the GPUs say, where nobody else says anything; nothing where they are not read either."""
        problems = problems or "no replica is ready"
        signal = SignalName(f"{self.policy.gpu_activity}.{UTILIZATION}")
        ready, busy = self.context.ready, self.context.readings.get(signal)
        if self.policy.gpu_activity is None or not ready or not isinstance(busy, Fresh):
            return no_opinion(self.name, used, problems, self.memory.recorded)
        last_need = float(self.context.desired or ready) if self.memory.need is None else self.memory.need
        found = by_activity(busy.value, ready, last_need)
        return Recommendation(
            self.name,
            found.replicas,
            Evidence.PARTIAL,
            busy.value > IDLE,
            f"neither engines nor a queue tell anything ({problems}); {found.reason}",
            (*used, signal),
            memory=self.memory.with_need(last_need).recorded,
        )

    def _by_deadline(
        self, found: DeadlineNeed, evidence: Evidence, used: tuple[SignalName, ...], memory: PredictiveMemory
    ) -> Recommendation:
        """Return what keeps a queue's deadline, without a forecast."""
        replicas, active = self._past_tolerance(found.replicas / self.policy.utilization), found.waiting > 0
        return Recommendation(
            self.name,
            replicas,
            evidence,
            active,
            found.reason,
            used,
            retained_signals=used,
            memory=memory.with_need(replicas).recorded,
        )

    def _past_tolerance(self, replicas: float) -> float:
        """Return the need, raised to the first size that the tolerance lets through where it is short.

        What is due cannot wait until the shortage is as large as the tolerance.
        """
        size, spec = float(self.context.desired or 0), self.context.spec
        if spec is None or replicas <= size * (1.0 + SHORT):
            return replicas
        return max(replicas, math.floor(size * (1.0 + spec.tolerance)) + 1.0)

    def filled(self, recommendation: Recommendation) -> float | None:
        """How full the ready replicas are; None where the queue decides, by its deadline or because engines are silent.

        Engines before a queue with a far deadline are always full: they take in as much as they hold.
        """
        if self.visible is not None and (recommendation.work is None or self._deadline_allows_waiting):
            return None
        work = None if recommendation.work is None else recommendation.work / self.policy.utilization
        return filled_share(work, self.context, self.policy.source)

    # --- what the workload says

    @property
    def _share(self) -> float:
        return slo_share(self.context.spec)

    @property
    def _allowed_share(self) -> float:
        """Of the requests, so many may be late."""
        return max(1e-4, 1.0 - self._share)

    @property
    def _slo_limits_s(self) -> dict[str, float]:
        return slo_limits_s(self.context.spec)

    def _quantile(self, margin: SloMargin) -> float:
        """Return the newsvendor's quantile, or as much of it as the SLO needs.

        It is the cost of lateness over the cost of lateness and idleness: a ratio of 19 gives 19 / (19 + 1) =
        0.95 (Arrow, Harris and Marschak 1951).
        """
        if self.policy.quantile is not None:
            return self.policy.quantile
        ratio = self.context.spec.slo_violation_cost_ratio if self.context.spec else LATENESS_RATIO
        return margin.quantile(ratio / (1.0 + ratio))

    @property
    def _interval_s(self) -> float:
        return self.context.spec.interval_s if self.context.spec else INTERVAL_S

    @property
    def _lead_s(self) -> float:
        """From now to when a replica asked for now serves: the slowest pool's P90, and the turn until it is seen."""
        pools = self.context.spec.pools.items() if self.context.spec else ()
        markets = self.context.history.pool_memories
        serving = ((name, pool.lead_time_s) for name, pool in pools if pool.tier == "serving")
        leads = [markets.of(name).lead_times.usual_s(prior_s) for name, prior_s in serving]
        return max(leads, default=LEAD_TIME_S) + self._interval_s

    # --- parts of the need

    def _learned(
        self, load: EngineLoad, before: Mapping[str, LearnedLatency], told: Mapping[str, LatencyObservation]
    ) -> Mapping[str, LearnedLatency]:
        if not self.policy.learn_capacity:
            return before
        forget = min(0.5, self._interval_s / self.policy.learning_decay_s)
        return load.teach(before, told, self._slo_limits_s, forget, self._interval_s)

    def _service_time_s(self, load: EngineLoad, carries: float) -> float:
        """Return what a request takes of a replica: slowly averaged, as lengths scatter. Seconds."""
        now_s, over_s = self._measured_service_time_s(load) / carries, LENGTHS_S
        if (
            self.visible
            and load.requests_per_s
            and self._queue_state(self.visible, self.policy.rate_window_s).backed_up
        ):
            now_s, over_s = load.ready / load.requests_per_s, self.policy.rate_window_s
        before_s = self._last_service_time_s or now_s
        after_s = before_s + min(1.0, self._interval_s / over_s) * (now_s - before_s) if now_s > 0 else before_s
        return min(after_s, LONGEST_EACH_S)

    def _response_time_s(self, load: EngineLoad) -> float:
        """Return how long engines take to answer a request of the queue, slowly averaged while they are full.

        Seconds.
        """
        before_s = self._last_response_time_s
        now_s = response_time_s(load) if self.visible and load.steady else 0.0
        if not before_s or not now_s:
            return before_s or now_s
        return before_s + min(1.0, self._interval_s / LENGTHS_S) * (now_s - before_s)

    def _traffic_has_ended(self, load: EngineLoad, found: DeadlineNeed, answers_s: float) -> bool:
        """Return whether traffic has ended and what is left is answered before the cooldown ends.

        The cooldown then need not wait for it. Once it has begun, the queue must be empty when it ends.
        """
        worked = self.context.history.column(ACTIVE)[-1:].any()
        if self.visible is None or found.clears_in_s < (SPARE if worked else 0.0) * answers_s:
            return False
        held = (self._queue, *signal_names(self.policy.source, READ[:2]))
        return traffic_has_ended(self.context, load, held, self.visible + load.in_work)

    def _measured_service_time_s(self, load: EngineLoad) -> float:
        if self.visible is None:
            return load.each
        running = SignalName(f"{self.policy.source}.{READ[0]}")
        return service_time_when_full_s(self.context, load, running, self.values[running], self._interval_s)

    @property
    def _last_response_time_s(self) -> float:
        return self.memory.response_time_s

    @property
    def _last_service_time_s(self) -> float:
        known_s = self.memory.service_time_s
        return (self.policy.message_service_s or 0.0) if known_s is None else known_s

    def _kv_cache_need(self, load: EngineLoad) -> float:
        usage = self.values.get(SignalName(f"{self.policy.source}.{KV}"), 0.0)
        return work_of_share(usage, round(load.ready), KV_TARGET)

    @property
    def _queue(self) -> SignalName:
        return SignalName(f"{self.policy.queue}.visible")

    @property
    def visible(self) -> float | None:
        return self.values.get(self._queue)

    @property
    def _next_s(self) -> float:
        """How long the next of the replicas under way may still take; a lead time where none is. Seconds."""
        since = self.context.pending_since()
        return max(0.0, since[0] + self._lead_s - self.context.at) if since else self._lead_s

    @property
    def _deadline_allows_waiting(self) -> bool:
        """Whether help comes before a message's deadline does: then what waits is all that need be known."""
        return self.policy.queue_deadline_s - self._last_response_time_s > self._lead_s + self.policy.backlog_clear_s

    def _queue_state(self, visible: float, window_s: float) -> QueueState:
        return QueueState.of(self.context, self._queue, visible, self.context.at - window_s)

    def _deadline_need(self, visible: float, each_s: float, answers_s: float) -> DeadlineNeed:
        """Return what the queue's deadline needs."""
        context, policy = self.context, self.policy
        hands = SupplyTimeline.of(context, self._lead_s)
        age = context.readings.get(SignalName(f"{policy.queue}.oldest_age_s"))
        age_s = age.value if isinstance(age, Fresh) else 0.0
        queued = self._queue_state(visible, policy.queue_deadline_s)
        return deadline_need(
            queued, each_s, hands, QueueSlo(policy.queue_deadline_s - answers_s, policy.backlog_clear_s), age_s
        )

    def _backlog(self, load: EngineLoad, rate: float, each_s: float) -> BacklogNeed:
        """Return what waits in engines, where it is more than a moment's."""
        waiting = load.lasting if load.lasting > SURGE * load.ready else 0.0
        ready, size, spec = float(self.context.ready or 0), float(self.context.desired or 0), self.context.spec
        stay_s, ratio = (spec.scale_down.window_s, spec.slo_violation_cost_ratio) if spec else (60.0, LATENESS_RATIO)
        help_ = ComingReplicas(self._lead_s, self._next_s, stay_s, ratio)
        return backlog_need(WaitingWork(waiting, each_s), rate, ready, size, help_)

    def _held_demand(self) -> float:
        fine = self.context.history.forecast(self.name).series.fine
        return demand_to_hold(
            fine.window(round(self.policy.demand_hold_s / self._interval_s)), max(1, round(60.0 / self._interval_s))
        )

    def _slowly_released(self, most: float, busy: float, correction: float, utilization: float) -> float:
        """Return the need, and on the way down what the others carry without that replica, filled half as far beyond 1.

        While a backlog stands, no less than the work that `busy` replicas clear, none of them filled beyond 1.
        """
        size = self.context.desired
        need = most * correction / utilization
        if size is None or need >= size:
            return need
        return min(float(size), max(need, busy, most * correction / math.sqrt(max(1.0, utilization))))

    def _margin(self, told: Mapping[str, LatencyObservation]) -> SloMargin:
        """Return what of the margin is needed.

        All of it where the quantile is given, or while a promise is not measured.
        """
        if self.policy.quantile is not None or not self.policy.slo_correction:
            return SloMargin()
        promised = self._slo_limits_s
        late = {key: one.late_share for key, one in told.items() if key in promised and one.late_share is not None}
        share = max(late.values(), default=None) if late.keys() == promised.keys() else None
        return self.memory.slo_margin.after(share, self._allowed_share, self._interval_s)

    def _slo_correction(
        self, told: Mapping[str, LatencyObservation], learnt: Mapping[str, LearnedLatency]
    ) -> SloCorrection:
        if not self.policy.slo_correction:
            return SloCorrection()
        promised = self._slo_limits_s
        missed = [
            one.late_share if one.late_share is not None else learnt[key].tail.late_share(promised[key], one.mean_s)
            for key, one in told.items()
            if key in promised
        ]
        before, period_s = self.memory.slo_correction, self.policy.slo_correction_time_s
        return before.after(max(missed, default=None), self._allowed_share, self._interval_s, period_s)
