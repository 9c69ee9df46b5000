"""SkyServe's request-rate autoscaler as a policy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

from policies.model import Absent, Fresh, PoolName
from policies.model.field_metadata import FieldMetadata
from policies.recommend.context import SOURCE, PolicyContext
from policies.recommend.peers.averaging import NO_MOVE, AveragingPolicy, PeerSize, PeerTick, delayed_move
from policies.recommend.peers.history_queries import elapsed_s, totals
from policies.recommend.peers.memory import MoveMemory, recall, record
from policies.signals.demand import whole_replicas


@dataclass(frozen=True, kw_only=True)
class SkyServeRequestRate(AveragingPolicy):
    """SkyServe's replica_policy: requests per second per replica, with long delays both ways.

    min_replicas and max_replicas are the workload's: the proposal is clipped to them before the delays. The guard
    applies max_replicas again to the size, `num_overprovision` included, which the original adds outside its bounds.
    SkyServe decides every 20 s, every 5 s at zero.

    Source: skypilot-org/skypilot 0.14.1, ``sky/serve/autoscalers.py``, ``RequestRateAutoscaler``; defaults in
    ``sky/serve/constants.py``. The original counts consecutive ticks (15 up, 60 down), and this policy the time that
    they span, the first tick included. The original divides by the whole window even before one has passed, so that a
    service starts too small; this policy uses the mean of the observed rates. The original counts the requests of its
    load balancer, so a silent one is no traffic; here a missing rate blocks scale-in. The engines report the rate of
    *completed* requests. Prefer a gateway's rate, since the completions of full engines do not grow with the load.

    With `spot_pool` and `on_demand_pool` it is ``FallbackRequestRateAutoscaler``: all replicas but the base on spot,
    and with dynamic_ondemand_fallback additional on-demand replicas for spot replicas that are not ready, but none for
    `num_overprovision`. Capacity is paid twice while spot replicas start, and the on-demand replicas are removed as
    these become ready.
    """

    target_qps_per_replica: Annotated[
        float,
        FieldMetadata(
            "Request rate that one replica handles. Measure it at the highest load that meets your SLO. Requests per"
            " second.",
            gt=0,
            example=2.5,
        ),
    ]
    source: Annotated[str | None, FieldMetadata(SOURCE, example="prometheus")] = None
    quantity: Annotated[
        str,
        FieldMetadata(
            "Quantity with the request rate. The default is the rate of completed requests if the source reads"
            " engines; prefer the rate of a gateway. Requests per second.",
            example="requests_per_s",
        ),
    ] = "requests_per_s"
    qps_window_s: Annotated[
        float,
        FieldMetadata(
            "Window over which the rate is averaged. The default of 60 is SkyServe's. Seconds.", gt=0, le=3600
        ),
    ] = 60.0
    upscale_delay_s: Annotated[
        float,
        FieldMetadata(
            "Time for which a scale-out must be recommended before it is made. The default of 300 is SkyServe's;"
            " lower it if load rises faster. Seconds.",
            ge=0,
        ),
    ] = 300.0
    downscale_delay_s: Annotated[
        float,
        FieldMetadata(
            "Time for which a scale-in must be recommended before it is made. The default of 1200 is SkyServe's;"
            " lower it to save cost. Seconds.",
            ge=0,
        ),
    ] = 1200.0
    num_overprovision: Annotated[
        int, FieldMetadata("Replicas added to those that the rate needs. The default of 0 adds none. Replicas.", ge=0)
    ] = 0

    spot_pool: Annotated[
        str | None,
        FieldMetadata(
            "Pool of spot replicas, for a fallback to on-demand. null means no fallback: the policy sets one size."
            " Set it together with on_demand_pool.",
            example="spot",
        ),
    ] = None
    on_demand_pool: Annotated[
        str | None,
        FieldMetadata(
            "Pool of on-demand replicas, the fallback of spot_pool. null means no fallback. Set it together with"
            " spot_pool.",
            example="on-demand",
        ),
    ] = None
    base_ondemand_fallback_replicas: Annotated[
        int,
        FieldMetadata("Replicas that always run on-demand. The default of 0 puts all of them on spot. Replicas.", ge=0),
    ] = 0
    dynamic_ondemand_fallback: Annotated[
        bool,
        FieldMetadata(
            "Add one on-demand replica for each requested spot replica that is not ready. The default of false waits"
            " for spot replicas."
        ),
    ] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.spot_pool is None) != (self.on_demand_pool is None):
            yield "spot_pool", "must be set together with on_demand_pool: set both or neither"
        if self.spot_pool is None and (self.dynamic_ondemand_fallback or self.base_ondemand_fallback_replicas):
            yield "spot_pool", "is required for an on-demand fallback: set spot_pool and on_demand_pool"

    def pools_named(self) -> tuple[str, ...]:
        """Return the names of the pools that it splits the replicas between."""
        return tuple(name for name in (self.spot_pool, self.on_demand_pool) if name is not None)

    @property
    def lookback_s(self) -> float:
        return self.qps_window_s

    def needs(self) -> tuple[str, ...]:
        return (self.quantity,)

    def size(self, tick: PeerTick) -> PeerSize:
        context = tick.context
        rate = float(totals(context, tick.values, self.qps_window_s).mean())
        proposal = max(context.min_replicas, whole_replicas(rate / self.target_qps_per_replica))
        if context.spec is not None:
            proposal = min(context.spec.max_replicas, proposal)
        recorded_target = recall(MoveMemory, tick.memory).target
        target = self._initial_target(context, tick.desired) if recorded_target is None else int(recorded_target)
        reason = f"{rate:g} requests per second at {self.target_qps_per_replica:g} per replica"
        decided, move = target, NO_MOVE
        if target == 0:
            decided = proposal
        elif proposal != target:
            delay_s = self.upscale_delay_s if proposal > target else self.downscale_delay_s
            move = delayed_move(tick, proposal - target, delay_s, first_s=elapsed_s(context))
            decided = proposal if move.is_due else target
            reason += move.reason
        extra, memory = self.num_overprovision, replace(move.memory, target=float(decided))
        pools: dict[PoolName, int] = {}
        if self.spot_pool and self.on_demand_pool:
            pools = self._share_out(decided, context)
            reason += f"; {pools[PoolName(self.on_demand_pool)]} of them on-demand"
        replicas = float(sum(pools.values()) if pools else decided + extra)
        return PeerSize(replicas, float(proposal + extra), rate > 0, reason, record(memory), pools)

    def _initial_target(self, context: PolicyContext, desired: int) -> int:
        """Return the target at the current sizes, without `num_overprovision`.

        On-demand replicas above the base are a fallback and do not count. Example: 3 spot and 2 on-demand replicas with
        a base of 1 are a target of 3 + 1 = 4.
        """
        sizes = [context.pools.get(PoolName(name)) for name in self.pools_named()]
        if not sizes:
            return max(0, desired - self.num_overprovision)
        spot, on_demand = (
            0 if status is None or isinstance(status, Absent) else status.value.desired for status in sizes
        )
        return max(0, spot + min(on_demand, self.base_ondemand_fallback_replicas) - self.num_overprovision)

    def _share_out(self, target: int, context: PolicyContext) -> dict[PoolName, int]:
        """Return the spot and on-demand replicas for a target without `num_overprovision`.

        The additional replicas are spot. A spot pool that cannot be read counts as not ready.

        Example: a target of 4, one more by `num_overprovision`, 2 ready spot replicas and a dynamic fallback: 5 on
        spot, 5 - 2 = 3 on demand. With none ready it is 4 on demand, not 5: the target is the most.
        """
        spot, on_demand = PoolName(str(self.spot_pool)), PoolName(str(self.on_demand_pool))
        on_spot = max(0, target + self.num_overprovision - self.base_ondemand_fallback_replicas)
        status = context.pools.get(spot)
        ready = status.value.ready if isinstance(status, Fresh) else 0
        fallback = max(0, on_spot - ready) if self.dynamic_ondemand_fallback else 0
        return {spot: on_spot, on_demand: min(target, self.base_ondemand_fallback_replicas + fallback)}
