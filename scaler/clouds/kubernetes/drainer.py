"""Replicas emptied before they are removed: chosen by their load, taken out of routing, waited for, then let go.

What was begun stands on the pods themselves (an annotation), so that a daemon that starts anew goes on with it, and
takes it back where the demand has returned. A pod whose load cannot be read is not idle.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from yarl import URL

from scaler.clouds.engines.load import Loads
from scaler.clouds.kubernetes.drain_settings import Drain
from scaler.clouds.kubernetes.objects import MANAGER
from scaler.clouds.kubernetes.pods import COST, DRAINING, NamespacePods, Pod
from scaler.clouds.kubernetes.session import Session, is_accepted
from scaler.clouds.timestamps import text_of
from scaler.ports import Clock, Conflict

MARKED: Final = "-1000"
"""Deletion cost of a pod that is to go; that of others is 0 by default."""
DONE: Final = "-2000"
"""And of one that has ended its work: it goes before those that have not."""
TEMPLATE: Final = "pod-template-hash"
"""The label by which pods of a Deployment's old and new template differ."""
ORDERED: Final = frozenset({"StatefulSet"})
"""Kinds that always remove the highest ordinals, whatever a pod's deletion cost."""

Patch: TypeAlias = tuple[Pod, Mapping[str, object]]
"""A pod, and what of its metadata is to change."""


class Drainer:
    """Empties the pods of one object."""

    def __init__(self, spec: Drain, session: Session, pods: NamespacePods, loads: Loads, kind: str) -> None:
        self._spec = spec
        self._session = session
        self._clock: Clock = session.clock
        self._pods = pods
        self._loads = loads
        self._ordered = kind in ORDERED
        self._timeout_s = loads.deadline_s
        self._since: dict[str, float] = {}
        """When each draining pod was first seen to be so by this process, on a clock without jumps."""

    def draining(self, live: Iterable[Pod], size: int) -> list[Pod]:
        """Return the pods that drain, without those that the size is already too small for.

        They are gone.
        """
        draining = sorted((pod for pod in live if pod.draining), key=lambda p: int(p.annotations.get(COST, "0")))
        surplus = max(0, sum(1 for _ in live) - size)
        now = self._steady_now()
        self._since = {pod.uid: self._since.get(pod.uid, now) for pod in draining}
        return draining[surplus:]

    async def step(
        self, live: Sequence[Pod], size: int, wanted: int, is_interruption_pending: Callable[[Pod], bool]
    ) -> int:
        """Bring `size` nearer to `wanted`, a smaller one or the same.

        Return how large it may be now.

        Pods whose interruption is pending go first. Raises the port errors.
        """
        if len(live) > size:
            return size  # the controller is still removing what was let go
        spare = size - len(live)  # those that were never made need no draining
        leaving = max(0, size - wanted - spare)
        if leaving and len({pod.labels.get(TEMPLATE) for pod in live}) > 1 and not self._ordered:
            raise Conflict(
                f"scale-in waits: pods of {len({pod.labels.get(TEMPLATE) for pod in live})} templates are there, and "
                "while a rollout is under way it chooses which pods go"
            )
        loads = dict(zip((pod.uid for pod in live), await asyncio.gather(*map(self._load, live)), strict=True))
        victims = self._choose(live, loads, is_interruption_pending)[:leaving]
        chosen = {pod.uid for pod in victims}
        await self._each(self._restored(pod) for pod in live if pod.draining and pod.uid not in chosen)
        await self._each(self._marked(pod) for pod in victims if not pod.draining)
        self._since |= {pod.uid: self._steady_now() for pod in victims if not pod.draining}
        ended = self._ended(victims, loads)
        if len(ended) < len(victims) and not self._ordered:
            await self._each(self._preferred(pod) for pod in ended if pod.annotations.get(COST) != DONE)
        return size - min(spare, size - wanted) - len(ended)

    async def restore(self, live: Iterable[Pod]) -> None:
        """Put all draining pods back into routing."""
        await self._each(self._restored(pod) for pod in live if pod.draining)

    # --- which, and whether they are done

    async def _load(self, pod: Pod) -> float | None:
        """Return the requests that a pod has to do; None where that cannot be read."""
        if not pod.address:
            return 0.0 if pod.phase == "Pending" else None  # no container of it has ever run
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        scheme = "https" if self._spec.tls else "http"
        return await self._loads.of(URL(f"{scheme}://{host}:{self._spec.port}{self._spec.path}"))

    def _choose(
        self, live: Sequence[Pod], loads: Mapping[str, float | None], is_interruption_pending: Callable[[Pod], bool]
    ) -> list[Pod]:
        """Return the pods in the order in which they are to go.

        The controller removes what is not ready first, whatever its cost, so it comes first here too; of the others
        those that will be lost, then those already draining, then the least busy, then the youngest.
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
                -pod.made_at,
            )

        return sorted(live, key=order)

    def _ended(self, victims: Sequence[Pod], loads: Mapping[str, float | None]) -> list[Pod]:
        """Return the victims that are done and that the controller would remove before the others."""
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
        stepped_s = self._clock.step_s()
        return self._clock.now() - stepped_s

    # --- writes on pods

    async def _each(self, writes: Iterable[Patch]) -> None:
        await asyncio.gather(*(self._patch(pod, change) for pod, change in writes))

    def _marked(self, pod: Pod) -> Patch:
        labels = {self._spec.routing_label: None}
        return pod, {"labels": labels, "annotations": {COST: MARKED, DRAINING: text_of(self._clock.now())}}

    def _preferred(self, pod: Pod) -> Patch:
        return pod, {"annotations": {COST: DONE}}

    def _restored(self, pod: Pod) -> Patch:
        labels = {self._spec.routing_label: self._spec.routing_value}
        return pod, {"labels": labels, "annotations": {COST: None, DRAINING: None}}

    async def _patch(self, pod: Pod, change: Mapping[str, object]) -> None:
        """Change a pod's metadata, if it is still the same pod; one that is gone needs no change."""
        what = f"patch pods {pod.name} in namespace {self._pods.namespace}"
        body = {"metadata": {"uid": pod.uid, **change}}
        path, query = f"/api/v1/namespaces/{self._pods.namespace}/pods/{pod.name}", {"fieldManager": MANAGER}
        answer = await self._session.ask(what, "PATCH", path, self._timeout_s, query=query, body=body)
        if answer.status not in {404, 409}:
            self._pods.learn(is_accepted(what, answer))
