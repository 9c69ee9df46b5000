"""Tick -> Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from policies.model import Absent, Fresh, Outcome, Stale, Tick, WorkloadName

LATENESS_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
FRESHNESS: Final = ("fresh", "stale", "absent")


class Metrics:
    """The daemon's own registry; `observe` takes each turn, `forget` a workload that is configured no more."""

    def __init__(self, version: str) -> None:
        self.registry = CollectorRegistry()
        self._per_workload: list[Gauge | Counter] = []
        build = self._gauge("build_info", "Constant 1, labelled with the version.", "version")
        build.labels(version).set(1)
        self._demand = self._gauge("demand_replicas", "Largest need found, in replicas' worth of work.", "workload")
        self._current = self._gauge(
            "current_replicas", "Size found: what the platforms were last asked for.", "workload"
        )
        self._ready = self._gauge("ready_replicas", "Replicas that can serve.", "workload")
        self._target = self._gauge("target_replicas", "Size decided.", "workload")
        self._wants = self._gauge("policy_replicas", "What each policy wants.", "workload", "policy")
        self._reading = self._gauge("reading", "Last value of each signal, fresh or stale.", "workload", "signal")
        self._age = self._gauge("reading_age_seconds", "Age of each signal's last value.", "workload", "signal")
        self._freshness = self._gauge(
            "reading_state", "1 for the state each signal is in.", "workload", "signal", "state"
        )
        self._blind = self._gauge("blind", "1 when some policy lacks full evidence: no scale-in.", "workload")
        self._last = self._gauge("last_tick_timestamp_seconds", "When the last turn was decided.", "workload")
        self._ticks = self._counter("ticks_total", "Turns.", "workload")
        self._errors = self._counter("read_errors_total", "Reads that failed, by source or pool.", "workload", "name")
        self._writes = self._counter("resizes_total", "Targets by what came of them.", "workload", "pool", "result")
        self._lateness = Histogram(
            "forescale_tick_lateness_seconds",
            "How long after its due time a turn began.",
            buckets=LATENESS_BUCKETS_S,
            registry=self.registry,
        )
        self._took = Histogram(
            "forescale_tick_duration_seconds",
            "How long a turn took, reads and writes included.",
            registry=self.registry,
        )
        self.config_valid = self._gauge("config_valid", "1 when the configuration on disk is the one in use.")
        self.reloads = self._counter("config_reloads_total", "Changed configurations taken or refused.", "result")
        self.journal_lost = self._gauge("journal_lost_records", "Records that could not be written since the start.")

    def observe(self, tick: Tick) -> None:
        w, d = tick.workload, tick.decision
        for gauge, value in (
            (self._demand, d.demand),
            (self._current, d.current),
            (self._ready, d.ready),
            (self._target, d.target),
        ):
            if value is not None:  # a gauge keeps its last known value: missing is not zero
                gauge.labels(w).set(value)
        for r in d.recommendations:
            if r.replicas is not None:
                self._wants.labels(w, r.policy).set(r.replicas)
        for signal, reading in tick.observation.readings.items():
            state = _state(reading)
            for each in FRESHNESS:
                self._freshness.labels(w, signal, each).set(each == state)
            if not isinstance(reading, Absent):
                self._reading.labels(w, signal).set(reading.value)
                self._age.labels(w, signal).set(max(0.0, tick.at - reading.measured_at))
        self._blind.labels(w).set(not d.may_lower)
        self._last.labels(w).set(tick.at)
        self._ticks.labels(w).inc()
        for name in tick.observation.errors:
            self._errors.labels(w, name).inc()
        for outcome in tick.outcomes:
            self._count(w, outcome)
        self._lateness.observe(tick.lateness_s)
        self._took.observe(tick.took_s)

    def forget(self, workload: WorkloadName) -> None:
        """Drop every series of a workload."""
        for metric in self._per_workload:
            metric.remove_by_labels({"workload": workload})

    def add(self, name: str, doc: str, label: str, values: Callable[[], dict[str, float]]) -> None:
        """A gauge read when it is scraped."""
        self.registry.register(_Live(f"forescale_{name}", doc, label, values))

    def exposition(self) -> bytes:
        return generate_latest(self.registry)

    def _count(self, workload: WorkloadName, outcome: Outcome) -> None:
        self._writes.labels(workload, outcome.pool, outcome.result.value).inc()

    def _gauge(self, name: str, doc: str, *labels: str) -> Gauge:
        gauge = Gauge(f"forescale_{name}", doc, labels, registry=self.registry)
        if "workload" in labels:
            self._per_workload.append(gauge)
        return gauge

    def _counter(self, name: str, doc: str, *labels: str) -> Counter:
        counter = Counter(f"forescale_{name}", doc, labels, registry=self.registry)
        if "workload" in labels:
            self._per_workload.append(counter)
        return counter


class _Live(Collector):
    def __init__(self, name: str, doc: str, label: str, values: Callable[[], dict[str, float]]) -> None:
        self._name, self._doc, self._label, self._values = name, doc, label, values

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily(self._name, self._doc, labels=[self._label])
        for key, value in self._values().items():
            family.add_metric([key], value)
        return [family]


def _state(reading: Fresh[float] | Stale[float] | Absent) -> str:
    return {Fresh: "fresh", Stale: "stale", Absent: "absent"}[type(reading)]
