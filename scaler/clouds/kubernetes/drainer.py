"""Drain of replicas before their removal.

The drainer chooses replicas by load, takes them out of routing, waits, and then removes them.

An annotation on each pod records the drain, so a restarted daemon continues it, or reverts it where the demand has
returned. A pod whose load cannot be read is not idle.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from yarl import URL

from scaler.clouds.engines.load import Loads
from scaler.clouds.kubernetes.drain_settings import Drain
from scaler.clouds.kubernetes.objects import field_manager
from scaler.clouds.kubernetes.pods import COST, DRAINING, NamespacePods, Pod
from scaler.clouds.kubernetes.session import Session, accepted_body
from scaler.clouds.timestamps import text_of
from scaler.ports import Clock, Conflict

MARKED: Final = "-1000"
"""Deletion cost of a draining pod; that of others is 0 by default."""
DONE: Final = "-2000"
"""Deletion cost of a drained pod: it is removed before those that still drain."""
TEMPLATE: Final = "pod-template-hash"
"""Label in which the pods of a Deployment's old and new template differ."""
ORDERED: Final = frozenset({"StatefulSet"})
"""Kinds that always remove the highest ordinals, regardless of the deletion cost."""

Patch: TypeAlias = tuple[Pod, Mapping[str, object]]
"""A pod, and the changes of its metadata."""


class Drainer:
    """Drains the pods of one object."""

    def __init__(self, spec: Drain, session: Session, pods: NamespacePods, loads: Loads, kind: str) -> None:
        self._spec = spec
        self._session = session
        self._clock: Clock = session.clock
        self._pods = pods
        self._loads = loads
        self._ordered = kind in ORDERED
        self._timeout_s = loads.deadline_s
        self._since: dict[str, float] = {}
        """Time of this process's first observation of each draining pod, on a clock without jumps. Seconds."""

    def draining(self, live: Iterable[Pod], size: int) -> list[Pod]:
        """Return the draining pods, except those that the smaller `size` already removes.

        Example: size 3, five live pods, three draining: the two with the lowest deletion cost are being removed, the
        third is returned.
        """
        draining = sorted((pod for pod in live if pod.draining), key=lambda p: int(p.annotations.get(COST, "0")))
        surplus = max(0, sum(1 for _ in live) - size)
        now = self._steady_now()
        self._since = {pod.uid: self._since.get(pod.uid, now) for pod in draining}
        return draining[surplus:]

    async def step(
        self, live: Sequence[Pod], size: int, target: int, is_interruption_pending: Callable[[Pod], bool]
    ) -> int:
        """Continue the drain from `size` down to `target`; return the size that is allowed now.

        Pods with an interruption pending go first. Raises port errors.

        Example: size 5, target 3, five live pods. The first call marks two pods and returns 5. Once one of them has
        ended its work, the call returns 4.
        """
        if len(live) > size:
            return size  # the controller is still removing drained pods
        unborn = size - len(live)  # pods not yet created need no drain
        leaving = max(0, size - target - unborn)
        if leaving and len({pod.labels.get(TEMPLATE) for pod in live}) > 1 and not self._ordered:
            raise Conflict(
                f"scale-in waits for a rollout: there are pods of {len({pod.labels.get(TEMPLATE) for pod in live})} "
                "templates, and during a rollout its controller chooses which pods to remove"
            )
        loads = dict(zip((pod.uid for pod in live), await asyncio.gather(*map(self._load, live)), strict=True))
        victims = self._choose(live, loads, is_interruption_pending)[:leaving]
        chosen = {pod.uid for pod in victims}
        await self._patch_all(self._restore(pod) for pod in live if pod.draining and pod.uid not in chosen)
        await self._patch_all(self._mark(pod) for pod in victims if not pod.draining)
        self._since |= {pod.uid: self._steady_now() for pod in victims if not pod.draining}
        drained = self._drained(victims, loads)
        if len(drained) < len(victims) and not self._ordered:
            await self._patch_all(self._mark_drained(pod) for pod in drained if pod.annotations.get(COST) != DONE)
        return size - min(unborn, size - target) - len(drained)

    async def restore(self, live: Iterable[Pod]) -> None:
        """Put all draining pods back into routing."""
        await self._patch_all(self._restore(pod) for pod in live if pod.draining)

    # --- choice and progress

    async def _load(self, pod: Pod) -> float | None:
        """Return the running and waiting requests of a pod; None where they cannot be read."""
        if not pod.address:
            return 0.0 if pod.phase == "Pending" else None  # none of its containers has ever run
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        scheme = "https" if self._spec.tls else "http"
        return await self._loads.read(URL(f"{scheme}://{host}:{self._spec.port}{self._spec.path}"))

    def _choose(
        self, live: Sequence[Pod], loads: Mapping[str, float | None], is_interruption_pending: Callable[[Pod], bool]
    ) -> list[Pod]:
        """Return the pods in removal order.

        The controller removes pods that are not ready first, regardless of their cost, so they come first here too.
        Then follow pods with an interruption pending, draining ones, those with the lowest load, and the youngest.
        """
        if self._ordered:
            return sorted(live, key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)

        def order(pod: Pod) -> tuple[bool, bool, bool, float, float]:
            load = loads[pod.uid]
            return (
                pod.ready,
                not is_interruption_pending(pod),
                not pod.draining,
                math.inf if load is None else load,
                -pod.created_at,
            )

        return sorted(live, key=order)

    def _drained(self, victims: Sequence[Pod], loads: Mapping[str, float | None]) -> list[Pod]:
        """Return the victims that are done and that the controller removes before all others."""
        done = {pod.uid for pod in victims if self._is_done(pod, loads[pod.uid])}
        order = victims if self._ordered else sorted(victims, key=lambda p: (p.ready, p.uid not in done))
        return [pod for i, pod in enumerate(order) if all(earlier.uid in done for earlier in order[: i + 1])]

    def _is_done(self, pod: Pod, load: float | None) -> bool:
        if pod.uid not in self._since:
            return pod.phase == "Pending" and not pod.address
        waited_s = self._steady_now() - self._since[pod.uid]
        return waited_s >= self._spec.deadline_s or (load == 0 and waited_s >= self._spec.settle_s)

    def _steady_now(self) -> float:
        """Return the present time on a clock without jumps. Seconds."""
        return self._clock.now() - self._clock.step_s()

    # --- writes on pods

    async def _patch_all(self, writes: Iterable[Patch]) -> None:
        await asyncio.gather(*(self._patch(pod, change) for pod, change in writes))

    def _mark(self, pod: Pod) -> Patch:
        labels = {self._spec.routing_label: None}
        return pod, {"labels": labels, "annotations": {COST: MARKED, DRAINING: text_of(self._clock.now())}}

    def _mark_drained(self, pod: Pod) -> Patch:
        return pod, {"annotations": {COST: DONE}}

    def _restore(self, pod: Pod) -> Patch:
        labels = {self._spec.routing_label: self._spec.routing_value}
        return pod, {"labels": labels, "annotations": {COST: None, DRAINING: None}}

    async def _patch(self, pod: Pod, change: Mapping[str, object]) -> None:
        """Change a pod's metadata, if it is still the same pod; a missing pod needs no change."""
        what = f"patch pods {pod.name} in namespace {self._pods.namespace}"
        body = {"metadata": {"uid": pod.uid, **change}}
        path, query = f"/api/v1/namespaces/{self._pods.namespace}/pods/{pod.name}", {"fieldManager": field_manager()}
        response = await self._session.request(what, "PATCH", path, self._timeout_s, query=query, body=body)
        if response.status not in {404, 409}:
            self._pods.apply_response(accepted_body(what, response))
