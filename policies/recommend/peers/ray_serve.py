"""Ray Serve's request autoscaler as a policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from policies.model import Evidence, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import PolicyContext
from policies.recommend.peers.history_queries import JITTER_S, agreed_s, totals
from policies.signals.demand import fresh_values, no_opinion, quantity_problems, signal_names, whole_replicas

SOURCE = "The source to read; null: the only one that offers what is read."


@dataclass(frozen=True, kw_only=True)
class RayServe:
    """Ray Serve's autoscaling_config as a policy: ongoing requests per replica, and delays both ways.

    min_replicas and max_replicas are the workload's. Ray decides every 0.1 s on metrics that come every 10 s.

    Source: ray-project/ray 2.60, ``python/ray/serve/autoscaling_policy.py``, ``python/ray/serve/config.py``. A change
    is made once it was wanted for the whole delay; then, or when the direction turns, the delay begins anew. The
    original counts loop iterations, this counts the time seen. It drops what a silent replica last told, so that lost
    metrics look like less work; here that blocks shrinking.
    """

    shapes: ClassVar[bool] = False
    activates: ClassVar[bool] = True
    settles: ClassVar[bool] = True

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    quantities: Annotated[tuple[str, ...], FieldMetadata("Ongoing requests, queued and running, added up.")] = (
        "running",
        "waiting",
    )
    target_ongoing_requests: Annotated[float, FieldMetadata("Ongoing requests per replica. Requests.", gt=0)] = 2.0
    upscale_delay_s: Annotated[float, FieldMetadata("Grow once wanted for so long. Seconds.", ge=0)] = 30.0
    downscale_delay_s: Annotated[float, FieldMetadata("Shrink once wanted for so long. Seconds.", ge=0)] = 600.0
    downscale_to_zero_delay_s: Annotated[
        float | None, FieldMetadata("The same from one to zero; null: downscale_delay_s. Seconds.", ge=0, example=600)
    ] = None
    upscaling_factor: Annotated[float, FieldMetadata("Share of the difference to make up when growing.", gt=0)] = 1.0
    downscaling_factor: Annotated[float, FieldMetadata("Share of the difference to make up when shrinking.", gt=0)] = (
        1.0
    )
    look_back_period_s: Annotated[
        float, FieldMetadata("The window the requests are aggregated over. Seconds.", gt=0)
    ] = 30.0
    aggregation: Annotated[
        Literal["mean", "max", "min"], FieldMetadata("How, over that window (aggregation_function).")
    ] = "mean"

    @property
    def lookback_s(self) -> float:
        return self.look_back_period_s

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from quantity_problems(self.quantities)

    def needs(self) -> tuple[str, ...]:
        return self.quantities

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.quantities)
        values, evidence, wrong = fresh_values(used, view.readings)
        old = view.history.memory(name)
        ready, size = view.ready, view.desired
        if evidence is Evidence.BLIND or ready is None or size is None:
            return no_opinion(name, used, wrong or "the number of replicas is not known", old)
        window = totals(view, values, self.look_back_period_s)
        ongoing = float(getattr(window, self.aggregation)())
        reason = f"{ongoing:g} ongoing at {self.target_ongoing_requests:g} per replica"
        if wrong:
            reason += f", at least ({wrong})"
        raw = self._scaled(ongoing, ready, size)
        replicas, direction, for_s = size, 0.0, 0.0
        if ready == 0:
            replicas = raw
        elif raw != size:
            direction = 1.0 if raw > size else -1.0
            for_s = agreed_s(view, name, direction, evidence, first_s=0.0)
            delay_s = self._delay_s(direction, size)
            reason += f"; wanted for {for_s:g} s of {delay_s:g} s"
            if for_s >= delay_s - JITTER_S:
                replicas = raw if direction > 0 or size == 1 else max(1, raw)
                direction = 0.0
        memory = {"direction": direction, "agreed_s": for_s}
        return Recommendation(
            name,
            float(replicas),
            evidence,
            ongoing > 0,
            reason,
            used,
            unstabilized=float(raw),
            retained_signals=used,
            memory=memory,
        )

    def _scaled(self, ongoing: float, ready: int, size: int) -> int:
        """What the requests want, with the factors applied to the difference from the replicas ready.

        With none ready nothing can be averaged: any work asks for one replica (times the factor), at once.
        """
        if ready == 0:
            return max(whole_replicas(self.upscaling_factor), size) if ongoing > 0 else size
        wanted = ongoing / self.target_ongoing_requests
        factor = self.upscaling_factor if wanted > ready else self.downscaling_factor
        scaled = whole_replicas(ready + factor * (wanted - ready))
        return scaled - 1 if whole_replicas(wanted) < ready == scaled else max(0, scaled)

    def _delay_s(self, direction: float, size: int) -> float:
        if direction > 0:
            return self.upscale_delay_s
        if size == 1 and self.downscale_to_zero_delay_s is not None:
            return self.downscale_to_zero_delay_s
        return self.downscale_delay_s
