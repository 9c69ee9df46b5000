"""Other autoscalers of the same objects: HPAs and KEDA's ScaledObjects, by one shared list per namespace and minute."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.objects import ApiGroup, ScaleTarget, group_of, list_of
from scaler.clouds.kubernetes.session import Session, is_accepted
from scaler.clouds.singleflight import Flights
from scaler.ports import Context, PortError, Unavailable

EVERY_S: Final = 60.0
"""How often they are listed: they are made and removed by people."""
RETRY_S: Final = 5.0
"""After a list that failed, while the one before still stands."""
HPAS: Final = ("autoscaling/v2", "autoscaling/v1")
"""The API versions of HPAs, the one to try first first."""
KEDA: Final = "keda.sh/v1alpha1"
NONE_SEEN: Final = frozenset({403, 404})
"""Not permitted, or not installed: then none is seen, and sizing goes on."""


class Writers:
    """The autoscalers of one namespace."""

    def __init__(self, session: Session, namespace: str) -> None:
        self._session = session
        self._namespace = namespace
        self._found: Mapping[ScaleTarget, str] | None = None
        self._due = float("-inf")
        self._flights = Flights()

    async def close(self) -> None:
        await self._flights.close()

    async def of(self, target: ScaleTarget, timeout_s: float) -> str | None:
        """The autoscaler that sizes `target`, as it is called. Raises port errors while nothing could be listed yet."""
        now = self._session.clock.now()
        if not self._due - EVERY_S <= now < self._due:
            await self._flights.share("list", lambda: self._refresh(timeout_s))
        assert self._found is not None  # noqa: S101 - listed, or the refresh raised
        return self._found.get(target)

    async def _refresh(self, timeout_s: float) -> None:
        try:
            hpas = targets(await self._list(HPAS, "horizontalpodautoscalers", timeout_s))
            scaled = targets(await self._list((KEDA,), "scaledobjects", timeout_s))
        except PortError:
            if self._found is None:
                raise
            self._due = self._session.clock.now() + RETRY_S
            return
        found = {target: f"HPA {name}" for target, name in hpas}
        found.update((target, f"KEDA ScaledObject {name}") for target, name in scaled)
        self._found = found
        self._due = self._session.clock.now() + EVERY_S

    async def _list(self, versions: tuple[str, ...], plural: str, timeout_s: float) -> list[dict[str, Any]]:
        what = f"list {plural} in namespace {self._namespace}"
        for version in versions:
            path = f"/apis/{version}/namespaces/{self._namespace}/{plural}"
            answer = await self._session.ask(what, "GET", path, timeout_s)
            if answer.status not in NONE_SEEN:
                return list_of(is_accepted(what, answer), "items", what)
        return []


def targets(scalers: list[dict[str, Any]]) -> list[tuple[ScaleTarget, str]]:
    """What each autoscaler sizes, and its name. A ScaledObject that does not say so means a Deployment."""
    try:
        return [_target(scaler) for scaler in scalers]
    except (TypeError, AttributeError) as e:
        raise Unavailable(f"an autoscaler that cannot be read: {e!r}") from e


def _target(scaler: dict[str, Any]) -> tuple[ScaleTarget, str]:
    ref = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
    group: ApiGroup = group_of(str(ref.get("apiVersion") or "apps/v1"))
    target = ScaleTarget(group, str(ref.get("kind") or "Deployment"), str(ref.get("name")))
    return target, str((scaler.get("metadata") or {}).get("name"))


async def writers(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> Writers:
    """The autoscalers of a namespace, as all workloads there share them."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Writers]:
        made = Writers(session, namespace)
        try:
            yield made
        finally:
            await made.close()

    return await context.shared(("kube writers", cluster, namespace), opening)
