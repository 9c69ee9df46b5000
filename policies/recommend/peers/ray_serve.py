"""Ray Serve's request autoscaler as a policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE
from policies.recommend.peers.averaging import NO_MOVE, AveragingPolicy, PeerSize, PeerTick, delayed_move
from policies.recommend.peers.history_queries import totals
from policies.recommend.peers.memory import record
from policies.signals.demand import quantity_problems, whole_replicas


@dataclass(frozen=True, kw_only=True)
class RayServe(AveragingPolicy):
    """Ray Serve's autoscaling_config: ongoing requests per replica, with delays both ways.

    min_replicas and max_replicas are the workload's. Ray decides every 0.1 s on metrics that come every 10 s.

    Source: ray-project/ray 2.60, ``python/ray/serve/autoscaling_policy.py``, ``python/ray/serve/config.py``. A change
    is made once it was recommended for the whole delay; then, or when the direction changes, the delay starts again.
    The original compares times of day, and this policy adds observed time, so that a gap does not count. The original
    drops the last value of a silent replica, so that lost metrics look like less work; here lost metrics block
    scale-in.
    """

    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    quantities: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Quantities whose sum is the number of ongoing requests. The default adds running and waiting requests."
        ),
    ] = (
        "running",
        "waiting",
    )
    target_ongoing_requests: Annotated[
        float,
        FieldMetadata(
            "Ongoing requests per replica. The default of 2 is Ray Serve's; raise it for LLM engines, which batch"
            " requests. Requests.",
            gt=0,
        ),
    ] = 2.0
    upscale_delay_s: Annotated[
        float,
        FieldMetadata(
            "Time for which a scale-out must be recommended before it is made. The default of 30 is Ray Serve's;"
            " lower it if load rises faster. Seconds.",
            ge=0,
        ),
    ] = 30.0
    downscale_delay_s: Annotated[
        float,
        FieldMetadata(
            "Time for which a scale-in must be recommended before it is made. The default of 600 is Ray Serve's;"
            " lower it to save cost. Seconds.",
            ge=0,
        ),
    ] = 600.0
    downscale_to_zero_delay_s: Annotated[
        float | None,
        FieldMetadata("Delay from one replica to zero. null means downscale_delay_s. Seconds.", ge=0, example=600),
    ] = None
    upscaling_factor: Annotated[
        float,
        FieldMetadata(
            "Share of the missing replicas to add in one step. The default of 1 adds all of them. Share.", gt=0
        ),
    ] = 1.0
    downscaling_factor: Annotated[
        float,
        FieldMetadata(
            "Share of the excess replicas to remove in one step. The default of 1 removes all of them. Share.", gt=0
        ),
    ] = 1.0
    look_back_period_s: Annotated[
        float,
        FieldMetadata(
            "Window over which ongoing requests are aggregated. The default of 30 is Ray Serve's. Seconds.", gt=0
        ),
    ] = 30.0
    aggregation: Annotated[
        Literal["mean", "max", "min"],
        FieldMetadata(
            "aggregation_function: statistic over that window. The default of mean smooths short peaks; max follows"
            " them."
        ),
    ] = "mean"

    @property
    def lookback_s(self) -> float:
        return self.look_back_period_s

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from quantity_problems(self.quantities)

    def needs(self) -> tuple[str, ...]:
        return self.quantities

    def size(self, tick: PeerTick) -> PeerSize:
        ready, size = tick.ready, tick.desired
        window = totals(tick.context, tick.values, self.look_back_period_s)
        ongoing = float(getattr(window, self.aggregation)())
        reason = f"{ongoing:g} ongoing requests at {self.target_ongoing_requests:g} per replica"
        proposal = self._scaled(ongoing, ready, size)
        replicas, move = size, NO_MOVE
        if ready == 0:
            replicas = proposal
        elif proposal != size:
            move = delayed_move(tick, proposal - size, self._delay_s(proposal - size, size), first_s=0.0)
            if move.is_due:
                replicas = proposal if proposal > size or size == 1 else max(1, proposal)
        return PeerSize(float(replicas), float(proposal), ongoing > 0, reason + move.reason, record(move.memory))

    def _scaled(self, ongoing: float, ready: int, size: int) -> int:
        """Return the proposal for the requests.

        The factors are applied to the difference from the ready replicas. Without a ready replica there is no average:
        any work proposes one replica (times the factor) at once. Example: 64 requests at 8 per replica, 2 ready and a
        factor of 0.5 give 2 + 0.5 * (8 - 2) = 5.
        """
        if ready == 0:
            return max(whole_replicas(self.upscaling_factor), size) if ongoing > 0 else size
        desired = ongoing / self.target_ongoing_requests
        factor = self.upscaling_factor if desired > ready else self.downscaling_factor
        scaled = whole_replicas(ready + factor * (desired - ready))
        return scaled - 1 if whole_replicas(desired) < ready == scaled else max(0, scaled)

    def _delay_s(self, change: int, size: int) -> float:
        if change > 0:
            return self.upscale_delay_s
        if size == 1 and self.downscale_to_zero_delay_s is not None:
            return self.downscale_to_zero_delay_s
        return self.downscale_delay_s
