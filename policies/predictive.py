"""The predictive policy: what the work may come to by the time that a replica asked for now would serve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import numpy as np

from policies.activity import QUANTITY, by_activity
from policies.backlog import Backlog, Help, Waits, backlog
from policies.capacity import LATENCIES, Fit, Limit, limit, missed_share, tail_s
from policies.collapse import held
from policies.demand import gather, no_opinion, share_work, signals
from policies.engine_load import READ, SURGE, EngineLoad, Worth, engine_load, impossible, latency
from policies.model import Evidence, Fresh, PolicyName, Recommendation, SignalName
from policies.rules import Rule
from policies.supervise import Supervisor
from policies.threshold import SOURCE
from policies.view import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.spec import WorkloadSpec

PEAKS: Final = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Quantiles of the largest demand that are told to the allocator."""
KV_TARGET: Final = 0.9
"""Mean share of the KV cache to fill: engines preempt when one runs full, and replicas differ."""
CAUTION: Final = 0.5
"""Standard deviations that a limit is believed to be lower than learnt: the first replicas are bought in doubt."""
INTERVAL_S, LEAD_TIME_S, SHARE, LATENESS_RATIO = 15.0, 120.0, 0.99, 19.0
"""Where no workload says otherwise, as the specification has it."""
LENGTHS_S: Final = 300.0
"""The work of a request is averaged over so long: longer than a burst, shorter than a drift of lengths."""
TTFT: Final = "ttft_p95_s"
KV: Final = "kv_cache_usage"
NEEDED: Final = "needed"
"""What the policy remembers as the need by engines, in replicas' worth of work."""
IDLE: Final = 0.05
"""GPUs busy for less of the time do no work, as in `gpu_utilization`."""


@dataclass(frozen=True, kw_only=True)
class Predictive:
    """The work that is coming, ahead by the measured time that a replica takes to serve."""

    shapes: ClassVar[bool] = False
    settles: ClassVar[bool] = False

    source: Annotated[str | None, Rule(SOURCE, example="prometheus")] = None
    queue: Annotated[
        str | None,
        Rule(
            "The source of a queue before the engines: its visible messages, and how old the oldest is.", example="sqs"
        ),
    ] = None
    activity: Annotated[
        str | None,
        Rule(
            "The last resort where neither engines nor a queue tell anything: a source of the GPUs' `utilization`. It"
            " may raise the size once, to half as much again as was needed before, and never lowers it.",
            example="scrape",
        ),
    ] = None
    deadline_s: Annotated[
        float, Rule("A queue's messages are to be in work so long after they were sent, at the most. Seconds.", gt=0)
    ] = 300.0
    prompt_tokens_per_s: Annotated[
        float,
        Rule(
            "Prompt tokens that a replica takes at the most, before it has been learnt; the default is a Llama-3.1-8B's"
            " on an H100. Tokens a second.",
            gt=0,
            le=1e7,
        ),
    ] = 40_000.0
    generation_tokens_per_s: Annotated[
        float,
        Rule("Tokens that a replica generates at the most, in full batches, likewise. Tokens a second.", gt=0, le=1e7),
    ] = 9_000.0
    utilization: Annotated[
        float,
        Rule(
            "Share to fill of what a replica may carry within the promise; above 1 eats into the forecast's margin.",
            gt=0,
            le=2,
        ),
    ] = 1.0
    quantile: Annotated[
        float | None,
        Rule("Quantile of the largest demand to be ready for; null: by the workload's lateness_ratio.", gt=0, lt=1),
    ] = None
    rate_window_s: Annotated[float, Rule("What the source's rates span: its window_s. Seconds.", gt=0, le=3600)] = 120.0
    drain_s: Annotated[
        float, Rule("A queue's backlog is to be gone so long after help has come, or a lead time. Seconds.", gt=0)
    ] = 60.0
    hold_s: Annotated[
        float,
        Rule(
            "Demand that collapses within a minute is held for so long, lest it come back; 0: never. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 900.0
    foresee: Annotated[bool, Rule("Whether a forecast may raise the demand; else what is there now counts.")] = True
    learn: Annotated[bool, Rule("Whether what a replica carries is learnt; else it is what is given here.")] = True
    bursts: Annotated[bool, Rule("Whether bursts too short for a rate are told by the TTFT.")] = True
    supervise: Annotated[bool, Rule("Whether measured lateness corrects the size slowly.")] = True
    supervise_period_s: Annotated[float, Rule("How slowly. Seconds.", ge=60, le=86_400)] = 7200.0
    forget_s: Annotated[float, Rule("What was learnt of the engines fades by e in so long. Seconds.", ge=60)] = 3600.0

    @property
    def lookback_s(self) -> float:
        return self.rate_window_s + 60.0

    @property
    def activates(self) -> bool:
        return self.queue is not None

    def needs(self) -> tuple[str, ...]:
        return READ

    def needs_also(self) -> Mapping[str, tuple[str, ...]]:
        """What it reads of other sources than `source`."""
        also = {self.queue: ("visible",)} if self.queue is not None else {}
        if self.activity is not None:
            also[self.activity] = (*also.get(self.activity, ()), QUANTITY)
        return also

    def past_needs(self) -> tuple[str, ...]:
        return READ[3:]

    def past_work(
        self, values: Mapping[str, NDArray[np.float64]], spec: WorkloadSpec | None, memory: Mapping[str, float]
    ) -> NDArray[np.float64]:
        """The mean rates' part of the work: bursts and the cache do not show in means over minutes."""
        fits = {q: Fit.recalled(q, memory, idle_s) for q, (_, idle_s) in LATENCIES.items()}
        worth = Worth(self.prompt_tokens_per_s, self.generation_tokens_per_s, self.rate_window_s)
        rates = (np.where(np.isfinite(v) & (v >= 0.0), v, np.nan) for v in (values[q] for q in self.past_needs()))
        return worth.load(*rates) / carried(limit(fits, promised_s(spec), share(spec)))

    def recommend(self, name: PolicyName, view: View) -> Recommendation:
        engines, queued = signals(self.source, READ), signals(self.queue, ("visible",)) if self.queue else ()
        used = (*engines, *queued, *(signal for signal in signals(self.source, (KV,)) if signal in view.readings))
        values, evidence, wrong = gather(used, view.readings)
        old = view.history.memory(name)
        if not wrong and impossible(view, engines, values, self.rate_window_s):
            wrong = "everything fell to zero within a part of what the rates span: no engine does that"
            return no_opinion(name, used, wrong, old)
        if view.ready is None:
            return no_opinion(name, used, wrong or "the number of ready replicas is not known", old)
        turn = Turn(self, name, view, values, old)
        if view.ready and all(signal in values for signal in engines):
            return turn.by_engines(used, evidence, wrong)
        return turn.by_activity(used, wrong) if turn.visible is None else turn.by_queue(turn.visible, used, wrong)


def share(spec: WorkloadSpec | None) -> float:
    """The share of requests that the promise is of."""
    return spec.slo.share if spec is not None and spec.slo is not None else SHARE


def promised_s(spec: WorkloadSpec | None) -> dict[str, float]:
    """The latency promised, by the quantity that tells it."""
    slo = spec.slo if spec is not None else None
    found = {quantity: getattr(slo, key, None) for quantity, (key, _) in LATENCIES.items()}
    return {quantity: limit_s for quantity, limit_s in found.items() if limit_s is not None}


def carried(allowed: Limit) -> float:
    """What a replica is trusted to carry of what it may, in the prior's saturations."""
    return allowed.load * (1.0 - min(0.3, CAUTION * allowed.unsure))


@dataclass(frozen=True, slots=True)
class Need:
    """What one turn comes to, in replicas' worth of work, and the words for it."""

    work: float
    rate: float
    allowed: Limit
    queued: Backlog
    expected: float
    supervisor: Supervisor

    def words(self, quantile: float, lead_s: float) -> str:
        allowed, supervisor = self.allowed, self.supervisor
        by = f"by {allowed.latency}" if allowed.latency else "by throughput"
        told = [f"{self.work:.2f} replicas' worth now, each filled to {allowed.load:.0%} of the engine given, {by}"]
        if self.work > self.rate:
            told.append(f"the mean rate needs {self.rate:.2f}, bursts or the cache the rest")
        if allowed.hopeless:
            told.append(f"{allowed.hopeless} misses its promise at any size and is left out")
        if self.queued.extra:
            told.append(self.queued.reason)
        told.append(f"at most {self.expected:.2f} within {lead_s:.0f} s (P{100 * quantile:.0f})")
        if abs(supervisor.correction - 1.0) > 0.005:
            told.append(f"{supervisor.correction:.2f} times that, for {supervisor.late_share:.2%} lately late")
        return "; ".join(told)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the policy: its parameters, what it sees, what of that is fresh, and what it handed on."""

    policy: Predictive
    name: PolicyName
    view: View
    values: Mapping[SignalName, float]
    old: Mapping[str, float]

    def by_engines(self, used: tuple[SignalName, ...], evidence: Evidence, wrong: str) -> Recommendation:
        """The need by all that engines tell."""
        policy, view = self.policy, self.view
        worth = Worth(policy.prompt_tokens_per_s, policy.generation_tokens_per_s, policy.rate_window_s)
        load = engine_load(view, used[: len(READ)], self.values, worth)
        late = {q: s for q in LATENCIES if (s := latency(view, policy.source, q)) is not None}
        fits = self._taught(load, late)
        allowed = limit(fits, self._promised, self._share)
        carries = carried(allowed)
        each_s = self._each_s(load.each / carries)
        rate = load.coming / carries
        work = max(rate, self._burst(load, fits, allowed, late), self._kv(load))
        peaks = view.history.outlook(self.name).peaks(self._lead_s, PEAKS)
        known = policy.foresee and bool(np.isfinite(peaks).all())
        expected = float(np.interp(self._quantile, PEAKS, peaks)) if known else work
        expected = max(expected, self._before_collapse())
        need = Need(work, rate, allowed, self._backlog(load, rate, each_s), expected, self._supervised(late, fits))
        correction = need.supervisor.correction
        factor = correction / policy.utilization
        if need.queued.extra:
            correction = max(1.0, correction)
        replicas = self._held(max(expected, work + need.queued.extra), correction)
        memory = {key: value for q, fit in fits.items() for key, value in fit.memory(q).items()}
        return Recommendation(
            self.name,
            replicas,
            evidence,
            load.in_work + need.queued.queued > 0,
            need.words(self._quantile, self._lead_s) + (f" ({wrong})" if wrong else ""),
            used,
            keeps=(*used, *(SignalName(f"{policy.source}.{quantity}") for quantity in late)),
            memory={**memory, **need.supervisor.memory(), "each_s": each_s, NEEDED: replicas},
            work=work,
            peaks=tuple(zip(PEAKS, (peaks * factor).tolist(), strict=True)) if known else (),
            because_late=replicas * (1.0 - 1.0 / correction) if late and correction > 1.0 else None,
        )

    def by_queue(self, visible: float, used: tuple[SignalName, ...], wrong: str) -> Recommendation:
        """What can be said without the engines: the queue's backlog at what a message took before."""
        each_s, ready = self.old.get("each_s", 0.0), float(self.view.ready or 0)
        size = float(self.view.desired or 0)
        found = backlog(Waits(0.0, visible, each_s), 0.0, ready, size, self._help())
        reason = f"the engines tell nothing ({wrong or 'none is ready'}); {found.reason or 'the queue is empty'}"
        return Recommendation(
            self.name, found.extra, Evidence.PARTIAL, visible > 0, reason, used, keeps=used, memory=self.old
        )

    def by_activity(self, used: tuple[SignalName, ...], wrong: str) -> Recommendation:
        """What the GPUs say, where nobody else says anything; nothing where they are not read either."""
        wrong = wrong or "no replica is ready"
        signal = SignalName(f"{self.policy.activity}.{QUANTITY}")
        ready, busy = self.view.ready, self.view.readings.get(signal)
        if self.policy.activity is None or not ready or not isinstance(busy, Fresh):
            return no_opinion(self.name, used, wrong, self.old)
        known = self.old.get(NEEDED, float(self.view.desired or ready))
        found = by_activity(busy.value, ready, known)
        reason, memory = f"neither engines nor a queue tell anything ({wrong}); {found.reason}", {NEEDED: known}
        used = (*used, signal)
        return Recommendation(
            self.name, found.replicas, Evidence.PARTIAL, busy.value > IDLE, reason, used, memory={**memory, **self.old}
        )

    # --- what the workload says

    @property
    def _share(self) -> float:
        return share(self.view.spec)

    @property
    def _promised(self) -> dict[str, float]:
        return promised_s(self.view.spec)

    @property
    def _quantile(self) -> float:
        """The newsvendor's: lateness over lateness and idleness (Arrow, Harris and Marschak 1951)."""
        if self.policy.quantile is not None:
            return self.policy.quantile
        ratio = self.view.spec.lateness_ratio if self.view.spec else LATENESS_RATIO
        return ratio / (1.0 + ratio)

    @property
    def _interval_s(self) -> float:
        return self.view.spec.interval_s if self.view.spec else INTERVAL_S

    @property
    def _lead_s(self) -> float:
        """From now to when a replica asked for now serves: the slowest pool's P90, and the turn until it is seen."""
        pools = self.view.spec.pools.items() if self.view.spec else ()
        markets = self.view.history.markets
        serving = ((name, pool.lead_time_s) for name, pool in pools if pool.tier == "serving")
        leads = [markets.of(name).lead_times.usual_s(prior_s) for name, prior_s in serving]
        return max(leads, default=LEAD_TIME_S) + self._interval_s

    # --- parts of the need

    def _taught(self, load: EngineLoad, late: Mapping[str, float]) -> dict[str, Fit]:
        fits = {q: Fit.recalled(q, self.old, idle_s) for q, (_, idle_s) in LATENCIES.items()}
        if not self.policy.learn:
            return fits
        return load.teach(fits, late, min(0.5, self._interval_s / self.policy.forget_s))

    def _each_s(self, now_s: float) -> float:
        """What a request takes of a replica: slowly averaged, as lengths scatter. Seconds."""
        if now_s <= 0:
            return self.old.get("each_s", 0.0)
        before_s = self.old.get("each_s", now_s)
        return before_s + min(1.0, self._interval_s / LENGTHS_S) * (now_s - before_s)

    def _burst(self, load: EngineLoad, fits: Mapping[str, Fit], allowed: Limit, late: Mapping[str, float]) -> float:
        promised_s = self._promised.get(TTFT)
        if promised_s is None or TTFT not in late or not self.policy.bursts:
            return 0.0
        allowed_s = tail_s(promised_s, self._share, fits[TTFT].idle_s)
        return load.burst(fits[TTFT], late[TTFT], allowed_s, allowed)

    def _kv(self, load: EngineLoad) -> float:
        usage = self.values.get(SignalName(f"{self.policy.source}.{KV}"), 0.0)
        return share_work(usage, round(load.ready), KV_TARGET)

    @property
    def visible(self) -> float | None:
        return self.values.get(SignalName(f"{self.policy.queue}.visible"))

    def _help(self) -> Help:
        """Replicas that are asked for now, and how long what waits in a queue may still wait for them."""
        spec, policy, lead_s = self.view.spec, self.policy, self._lead_s
        stay_s, ratio = (spec.scale_down.window_s, spec.lateness_ratio) if spec else (60.0, LATENESS_RATIO)
        markets = self.view.history.markets
        since = [at for name in (spec.pools if spec else ()) if (at := markets.of(name).lead_times.oldest) is not None]
        next_s = max(0.0, min(since) + lead_s - self.view.at) if since else lead_s
        age = self.view.readings.get(SignalName(f"{policy.queue}.oldest_age_s"))
        waited_s = age.value if isinstance(age, Fresh) else 0.0
        return Help(lead_s, next_s, stay_s, ratio, max(policy.drain_s, lead_s, policy.deadline_s - waited_s - lead_s))

    def _backlog(self, load: EngineLoad, rate: float, each_s: float) -> Backlog:
        """What waits in the queue, and in engines where it is more than a moment's."""
        waiting = load.lasting if load.lasting > SURGE * load.ready else 0.0
        ready, size = float(self.view.ready or 0), float(self.view.desired or 0)
        return backlog(Waits(waiting, self.visible or 0.0, each_s), rate, ready, size, self._help())

    def _before_collapse(self) -> float:
        fine = self.view.history.outlook(self.name).series.fine
        return held(fine.window(round(self.policy.hold_s / self._interval_s)), max(1, round(60.0 / self._interval_s)))

    def _held(self, most: float, correction: float) -> float:
        """The need, and on the way down what the others carry without that replica, filled half as far beyond 1."""
        utilization, size = self.policy.utilization, self.view.desired
        need = most * correction / utilization
        if size is None or need >= size:
            return need
        return min(float(size), max(need, most * correction / math.sqrt(max(1.0, utilization))))

    def _supervised(self, late: Mapping[str, float], fits: Mapping[str, Fit]) -> Supervisor:
        if not self.policy.supervise:
            return Supervisor()
        promised = self._promised
        missed = [missed_share(promised[q], p95_s, fits[q].idle_s) for q, p95_s in late.items() if q in promised]
        allowed_share, period_s = max(1e-4, 1.0 - self._share), self.policy.supervise_period_s
        before = Supervisor.recalled(self.old)
        return before.after(max(missed, default=None), allowed_share, self._interval_s, period_s)
