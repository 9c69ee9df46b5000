"""The Knative Pod Autoscaler as a policy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np

from policies.history.ticks import CAPPED_NEED
from policies.model import Evidence
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE, PolicyContext
from policies.recommend.peers.averaging import AveragingPolicy, PeerSize, PeerTick
from policies.recommend.peers.history_queries import JITTER_S, elapsed_s, totals
from policies.recommend.peers.memory import KpaMemory, recall, record
from policies.signals.demand import quantity_problems


@dataclass(frozen=True, slots=True)
class Averages:
    """The replicas for the mean load of both windows, rounded up and not yet limited."""

    stable: int
    panic: int


@dataclass(frozen=True, kw_only=True)
class Kpa(AveragingPolicy):
    """The Knative Pod Autoscaler: a stable average, and a short one that decides in a panic.

    min-scale and max-scale are the workload's min_replicas and max_replicas. Knative decides every 2 s and samples
    every second: set interval_s to 2. At a longer interval than the panic window, that window is the last reading.

    Sources: knative/serving (August 2026), ``pkg/autoscaler/scaling/autoscaler.go``, ``config/core/configmaps/
    autoscaler.yaml``, ``pkg/reconciler/autoscaling/kpa/scaler.go``. While replicas start, few are ready and the load
    stays high, so a panic lasts and overshoots with engines that start for minutes (serving issue 13284). After a
    restart with more than one ready replica the original begins in a panic that retains them; so does this policy. At
    zero it needs a signal from the component that holds the requests, which is Knative's activator.

    Example: 100 requests per replica at a utilization of 70 % are 70. A mean of 240 needs ceil(240 / 70) = 4 replicas.
    If the mean of the panic window needs at least twice the ready replicas, a panic begins: with one ready, at 2.
    """

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    quantities: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Quantities to add up. The default is the requests in work, metric concurrency; set [requests_per_s] for"
            " metric rps."
        ),
    ] = ("running", "waiting")
    target: Annotated[
        float,
        FieldMetadata(
            "container-concurrency-target-default: load per replica. The default of 100 is Knative's; for metric rps,"
            " Knative has 200. The quantities' unit.",
            gt=0,
        ),
    ] = 100.0
    target_utilization: Annotated[
        float,
        FieldMetadata(
            "container-concurrency-target-percentage: share of the target to fill. The default of 0.7 is Knative's;"
            " lower it to leave room for bursts. Share.",
            gt=0,
            le=1,
        ),
    ] = 0.7
    stable_window_s: Annotated[
        float,
        FieldMetadata(
            "stable-window: window of the average outside a panic. The default of 60 is Knative's; raise it for"
            " steadier sizes. Seconds.",
            ge=6,
            le=3600,
        ),
    ] = 60.0
    panic_window_share: Annotated[
        float,
        FieldMetadata(
            "panic-window-percentage: length of the panic window as a share of stable_window_s. The default of 0.1 is"
            " Knative's. Share.",
            ge=0.01,
            le=1,
        ),
    ] = 0.1
    panic_threshold: Annotated[
        float,
        FieldMetadata(
            "panic-threshold-percentage: panic mode begins when the need in the panic window is this multiple of the"
            " ready replicas. The default of 2 is Knative's; lower it to react to smaller bursts. Share.",
            ge=1.1,
            le=10,
        ),
    ] = 2.0
    max_scale_up_rate: Annotated[
        float,
        FieldMetadata(
            "max-scale-up-rate: maximum size as a multiple of the ready replicas. The default of 1000 is Knative's."
            " Ratio.",
            gt=1,
        ),
    ] = 1000.0
    max_scale_down_rate: Annotated[
        float,
        FieldMetadata(
            "max-scale-down-rate: minimum size is the ready replicas divided by this. The default of 2 is Knative's."
            " Ratio.",
            gt=1,
        ),
    ] = 2.0
    activation_scale: Annotated[
        int,
        FieldMetadata(
            "activation-scale: minimum size while there is load. The default of 1 is Knative's. Replicas.", ge=1
        ),
    ] = 1
    scale_down_delay_s: Annotated[
        float,
        FieldMetadata(
            "scale-down-delay: scale in only to the largest recommendation of this window. The default of 0 is"
            " Knative's; set a window if the size oscillates. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 0.0
    scale_to_zero_grace_s: Annotated[
        float,
        FieldMetadata(
            "scale-to-zero-grace-period: keep one replica for this time without load before zero. The default of 30"
            " is Knative's; raise it if replicas start slowly. Seconds.",
            ge=0,
        ),
    ] = 30.0
    scale_to_zero_retention_s: Annotated[
        float,
        FieldMetadata(
            "scale-to-zero-pod-retention-period: as scale_to_zero_grace_s; the longer of both counts. The default of"
            " 0 is Knative's. Seconds.",
            ge=0,
        ),
    ] = 0.0

    @property
    def lookback_s(self) -> float:
        return max(self.stable_window_s, self.scale_down_delay_s)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from quantity_problems(self.quantities)

    def needs(self) -> tuple[str, ...]:
        return self.quantities

    def size(self, tick: PeerTick) -> PeerSize:
        context = tick.context
        per_replica = self.target * self.target_utilization
        stable = totals(context, tick.values, self.stable_window_s).mean()
        panic_window_s = self.stable_window_s * self.panic_window_share
        panic = totals(context, tick.values, panic_window_s).mean()
        averages = Averages(math.ceil(stable / per_replica), math.ceil(panic / per_replica))
        last = recall(KpaMemory, tick.memory)
        proposal, memory = self._scale(averages, context, last)
        delayed = context.history.column(CAPPED_NEED, context.at - self.scale_down_delay_s + JITTER_S)
        delayed = delayed[~np.isnan(delayed)] if self.scale_down_delay_s else delayed[:0]
        largest_delayed = int(np.max(delayed, initial=proposal))
        replicas, idle_s = self._scale_to_zero(largest_delayed, tick, last.idle_s)
        mode = "stable" if memory.panic_s is None else "panic"
        reason = (
            f"{mode} mode: mean load {stable:g} in {self.stable_window_s:g} s and {panic:g} in {panic_window_s:g} s,"
            f" at {per_replica:g} per replica"
        )
        return PeerSize(
            float(replicas), float(proposal), bool(stable > 0), reason, record(replace(memory, idle_s=idle_s))
        )

    def _scale(self, averages: Averages, context: PolicyContext, last: KpaMemory) -> tuple[int, KpaMemory]:
        """Return the size for the averages, and the memory with the panic's age and largest size.

        Example: outside a panic, 16 ready replicas and no load give floor(16 / 2) = 8, the limit of the scale-down
        rate.
        """
        ready = max(1, context.ready or 0)
        highest, lowest = math.ceil(self.max_scale_up_rate * ready), math.floor(ready / self.max_scale_down_rate)
        limited = [min(max(average, lowest), highest) for average in (averages.stable, averages.panic)]
        if self.activation_scale > 1:
            loads = (averages.stable, averages.panic)
            limited = [max(n, self.activation_scale) if load > 0 else n for n, load in zip(limited, loads, strict=True)]
        panic_s, largest = self._panic(context, last)
        if averages.panic / ready >= self.panic_threshold:
            panic_s = 0.0
        elif panic_s is not None and panic_s > self.stable_window_s + JITTER_S:
            panic_s = None
        if panic_s is None:
            return limited[0], KpaMemory(started=1.0)
        largest = max(largest, *limited)
        return largest, KpaMemory(1.0, panic_s, float(largest))

    @staticmethod
    def _panic(context: PolicyContext, last: KpaMemory) -> tuple[float | None, int]:
        """Return the state of the panic before this tick.

        It is the time since the load was last over the threshold (None outside a panic), and the panic's largest size.
        A first tick with more than one ready replica begins in a panic.
        """
        if last == KpaMemory():
            ready = context.ready or 0
            return (0.0, ready) if ready > 1 else (None, 0)
        if last.panic_s is None or last.panic_replicas is None:
            return None, 0
        return last.panic_s + elapsed_s(context), int(last.panic_replicas)

    def _scale_to_zero(self, proposal: int, tick: PeerTick, idle_s: float | None) -> tuple[int, float | None]:
        """Return one replica during the grace period, then zero, and the time without load.

        The time is None with load. Only time with full evidence counts.
        """
        if proposal > 0 or not tick.desired:
            return proposal, None
        counted_s = elapsed_s(tick.context) if tick.evidence is Evidence.FULL else 0.0
        idle_s = 0.0 if idle_s is None else idle_s + counted_s
        grace_s = max(self.scale_to_zero_grace_s, self.scale_to_zero_retention_s)
        return (0 if idle_s >= grace_s - JITTER_S else 1), idle_s
