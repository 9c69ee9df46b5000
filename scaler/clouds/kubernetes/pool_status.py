"""The status of a pool of pods: its size, its replicas on their nodes, and missing ones."""

from __future__ import annotations

from policies.model import PoolStatus, Shortfall
from scaler.clouds.kubernetes import replicas
from scaler.clouds.kubernetes.objects import ScalableState
from scaler.clouds.kubernetes.replicas import ReplicaDetails, ReplicaObserver
from scaler.clouds.kubernetes.session import Session
from scaler.config.kinds.kubernetes import PodsPool
from scaler.ports import Context


async def open_replica_observer(
    spec: PodsPool, kind: str, name: str, context: Context, session: Session
) -> ReplicaObserver | None:
    """Return the observer of the pods of a pool's object; None with `watch_pods: false`."""
    if not spec.watch_pods:
        return None
    watched = await replicas.watched(context, session, spec.cluster, spec.namespace)
    return ReplicaObserver(watched, kind, name, spec.market, spec.unscheduled_s)


def status_of(state: ScalableState, desired: int, ready: int, observer: ReplicaObserver | None) -> PoolStatus:
    """Return the status of an object with these replicas, and the details of its pods."""
    details = None if observer is None or state.selector is None else observer.observe(state.selector)
    failed, shortfall = _missing_replicas(state, details)
    return PoolStatus(
        desired,
        ready,
        version=state.version,
        interruption_pending=min(details.interruption_pending if details else 0, ready),
        interrupted=details.interrupted if details else 0,
        failed=failed,
        shortfall=shortfall,
        parts=details.parts if details else (),
    )


def _missing_replicas(state: ScalableState, details: ReplicaDetails | None) -> tuple[int, Shortfall | None]:
    """Return the number of missing replicas and the reason.

    Refused pods and pods without a node count as missing.
    """
    failed, shortfall = (details.failed, details.shortfall) if details else (0, None)
    if state.refusal is not None:
        text = state.refusal.text
        return failed + state.refusal.pods, Shortfall(state.refusal.at, text, quota="exceeded quota" in text)
    return failed, shortfall
