"""Exports each workload's last tick, and counts over its ticks, as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import prometheus_client as prom
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from policies.model import Absent, Fresh, Outcome, Reading, Result, SloState, Stale, Tick, WorkloadName
from policies.model.error_budget import window_text
from policies.model.tick import PUBLISHED
from scaler.telemetry.gauges import Labels, Samples, gauge, route_series

LATENESS_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
STATES: Final = ("fresh", "partial", "stale", "absent")


class Metrics:
    """The daemon's metrics. `observe` adds a tick, and `forget` removes a workload."""

    def __init__(self, version: str) -> None:
        self.registry = prom.CollectorRegistry()
        self.registry.register(_Ticks(self))
        self.last: dict[WorkloadName, Tick] = {}
        self.counts: dict[str, Counter[Labels]] = {
            "ticks": Counter(),
            "read_errors": Counter(),
            "resizes": Counter(),
            "rules": Counter(),
            "splits": Counter(),
        }
        build = prom.Gauge(
            "forescale_build_info", "Constant 1, labeled with the version.", ["version"], registry=self.registry
        )
        build.labels(version).set(1)
        self._lateness = prom.Histogram(
            "forescale_tick_lateness_seconds",
            "Delay between the due time of a tick and its start.",
            buckets=LATENESS_BUCKETS_S,
            registry=self.registry,
        )
        self._took = prom.Histogram(
            "forescale_tick_duration_seconds",
            "Duration of a tick, including reads and writes.",
            registry=self.registry,
        )
        self.config_valid = prom.Gauge(
            "forescale_config_valid",
            "1 if the configuration on disk is the one in use, else 0.",
            registry=self.registry,
        )
        self.reloads = prom.Counter(
            "forescale_config_reloads",
            "Reloads of a changed configuration, by result.",
            ["result"],
            registry=self.registry,
        )
        self.journal_lost = prom.Gauge(
            "forescale_journal_lost_records",
            "Journal records lost since the start: not written, or removed with their file.",
            registry=self.registry,
        )
        self.journal_damaged = prom.Gauge(
            "forescale_journal_damaged_lines",
            "Journal lines that could not be read at the start and were skipped.",
            registry=self.registry,
        )

    def observe(self, tick: Tick) -> None:
        self.last[tick.workload] = tick
        self.counts["ticks"][tick.workload,] += 1
        for source in tick.observation.source_errors:
            self.counts["read_errors"][tick.workload, "source", source] += 1
        for pool in tick.observation.pool_errors:
            self.counts["read_errors"][tick.workload, "pool", pool] += 1
        for route in tick.observation.route_errors:
            self.counts["read_errors"][tick.workload, "route", route] += 1
        for split in tick.route_outcomes:
            self.counts["splits"][tick.workload, split.route, split.result.value] += 1
        for step in tick.decision.steps:
            self.counts["rules"][tick.workload, step.rule] += 1
        for outcome in tick.outcomes:
            self.counts["resizes"][tick.workload, outcome.pool, outcome.result.value] += 1
        self._lateness.observe(tick.lateness_s)
        self._took.observe(tick.took_s)

    def forget(self, workload: WorkloadName) -> None:
        """Drop every series of a workload."""
        self.last.pop(workload, None)
        for counts in self.counts.values():
            for labels in [labels for labels in counts if labels[0] == workload]:
                del counts[labels]

    def exposition(self) -> bytes:
        return prom.generate_latest(self.registry)


class _Ticks(Collector):
    """The series of each workload. An unknown value has no sample: missing is not zero."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        ticks, counts = list(self._metrics.last.values()), self._metrics.counts
        yield gauge(
            "demand_replicas", "Largest need of all policies.", (), (((t.workload,), t.decision.demand) for t in ticks)
        )
        yield gauge(
            "current_replicas",
            "Current size: the desired replicas of all pools, as the platforms report them.",
            (),
            (((t.workload,), t.decision.current) for t in ticks),
        )
        yield gauge("ready_replicas", "Ready replicas.", (), (((t.workload,), t.decision.ready) for t in ticks))
        yield gauge("target_replicas", "Decided size.", (), (((t.workload,), t.decision.target) for t in ticks))
        yield gauge(
            "cost_usd_per_hour",
            "Cost of the pools at their targets; no sample if a price is unknown.",
            (),
            (((t.workload,), t.decision.cost_usd_per_hour) for t in ticks),
        )
        yield gauge(
            "abandoned_replicas",
            "Requested replicas that did not arrive and no longer count as supply.",
            ("pool",),
            (((t.workload, pool), float(n)) for t in ticks for pool, n in t.decision.abandoned.items()),
        )
        yield gauge(
            "published_replicas",
            "Published size of a pool that another autoscaler resizes; no sample while it is withheld.",
            ("pool",),
            _published(ticks, lambda o: None if o.result is Result.WITHHELD else o.after),
        )
        yield gauge(
            "applied_replicas",
            "Size of a pool that another autoscaler resizes, as that one has applied it.",
            ("pool",),
            _published(ticks, lambda o: o.before),
        )
        yield gauge(
            "policy_replicas",
            "Replicas that each policy recommends.",
            ("policy",),
            (((t.workload, r.policy), r.replicas) for t in ticks for r in t.decision.recommendations),
        )
        yield gauge("reading", "Last value of each signal, fresh or stale.", ("signal",), _readings(ticks))
        yield gauge("reading_age_seconds", "Age of each signal's last value.", ("signal",), _ages(ticks))
        yield gauge("reading_state", "1 for the current state of each signal.", ("signal", "state"), _states(ticks))
        yield gauge(
            "blind",
            "1 if a policy or a pool lacks fresh readings, which prevents scale-in.",
            (),
            (((t.workload,), float(not t.decision.may_scale_in)) for t in ticks),
        )
        yield gauge(
            "slo_burn_rate",
            "Share of late requests in a window over the share that the SLO allows; no sample if not measured.",
            ("window",),
            _burn_rates(ticks),
        )
        yield gauge(
            "slo_budget_remaining",
            "Share of the error budget that remains in its window, negative if overspent; no sample if not measured.",
            (),
            (((t.workload,), b.remaining) for t in ticks if (b := t.observation.error_budget) is not None),
        )
        yield gauge("slo_state", "1 for the current state of the SLO.", ("state",), _slo_states(ticks))
        yield gauge(
            "epoch",
            "Epoch of the lease of the workload's shard; no sample without high availability.",
            (),
            (((t.workload,), t.epoch) for t in ticks),
        )
        yield gauge(
            "last_tick_timestamp_seconds",
            "Time of the last tick's decision.",
            (),
            (((t.workload,), t.at) for t in ticks),
        )
        yield gauge(
            "granted",
            "GPUs and USD per hour that the fleet limits let the workload hold, and replicas that it may remove.",
            ("of",),
            _granted(ticks),
        )
        yield from route_series(ticks)
        yield _counter("ticks", "Ticks.", (), counts["ticks"])
        yield _counter("read_errors", "Failed reads, by source, pool or route.", ("of", "name"), counts["read_errors"])
        yield _counter("rules", "Ticks in which a rule had an effect, by rule.", ("rule",), counts["rules"])
        yield _counter(
            "resizes", "Targets of pools, by the result of the write.", ("pool", "result"), counts["resizes"]
        )
        yield _counter("splits", "Splits of routes, by the result of the write.", ("route", "result"), counts["splits"])


def _published(ticks: Iterable[Tick], size: Callable[[Outcome], int | None]) -> Samples:
    for t in ticks:
        for outcome in t.outcomes:
            if outcome.result in PUBLISHED:
                yield (t.workload, outcome.pool), size(outcome)


def _granted(ticks: Iterable[Tick]) -> Samples:
    for t in ticks:
        grant = t.observation.grant
        if grant is not None:
            for of in ("gpus", "usd_per_hour", "removable"):
                quota = getattr(grant, of)
                yield (t.workload, of), None if quota is None else quota.most


def _burn_rates(ticks: Iterable[Tick]) -> Samples:
    for t in ticks:
        budget = t.observation.error_budget
        if budget is not None:
            for window_s in budget.windows:
                yield (t.workload, window_text(window_s)), budget.burn_rate(window_s)


def _slo_states(ticks: Iterable[Tick]) -> Samples:
    for t in ticks:
        budget = t.observation.error_budget
        if budget is not None:
            for state in SloState:
                yield (t.workload, state.value), float(state is budget.state)


def _readings(ticks: Iterable[Tick]) -> Samples:
    for t in ticks:
        for signal, reading in t.observation.readings.items():
            if not isinstance(reading, Absent):
                yield (t.workload, signal), reading.value


def _ages(ticks: Iterable[Tick]) -> Samples:
    for t in ticks:
        for signal, reading in t.observation.readings.items():
            if not isinstance(reading, Absent):
                yield (t.workload, signal), max(0.0, t.at - reading.measured_at)


def _states(ticks: Iterable[Tick]) -> Samples:
    for t in ticks:
        for signal, reading in t.observation.readings.items():
            current = state_of(reading)
            for state in STATES:
                yield (t.workload, signal, state), float(state == current)


def state_of(reading: Reading[float]) -> str:
    """Return the state of a reading, one of `STATES`."""
    match reading:
        case Fresh(_, _, missing):
            return "partial" if missing else "fresh"
        case Stale():
            return "stale"
        case Absent():
            return "absent"


def _counter(name: str, doc: str, labels: Labels, counts: Counter[Labels]) -> Metric:
    family = CounterMetricFamily(f"forescale_{name}", doc, labels=("workload", *labels))
    for values, count in counts.items():
        family.add_metric(values, count)
    return family
