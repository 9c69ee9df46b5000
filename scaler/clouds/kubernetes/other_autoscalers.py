"""Other autoscalers of the same objects: HPAs and KEDA's ScaledObjects.

They are listed once per namespace and minute.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.objects import ApiGroup, ScaleTarget, group_of
from scaler.clouds.kubernetes.session import Session, accepted_body
from scaler.clouds.response_validation import list_of, unavailable_if_malformed
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, PortError

REFRESH_S: Final = 60.0
"""Time between two lists: people create and delete autoscalers. Seconds."""
RETRY_S: Final = 5.0
"""Time from a failed list to the next one; the previous list stays valid. Seconds."""
HPAS: Final = ("autoscaling/v2", "autoscaling/v1")
"""API versions of HPAs, in the order of their use."""
KEDA: Final = "keda.sh/v1alpha1"
NOT_LISTABLE: Final = frozenset({403, 404})
"""Statuses of a missing permission or API: sizing continues without detection."""


class Writers:
    """Autoscalers of one namespace."""

    def __init__(self, session: Session, namespace: str) -> None:
        self._session = session
        self._namespace = namespace
        self._targets: Mapping[ScaleTarget, str] | None = None
        self._due = float("-inf")
        self._flights = Singleflight()

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def autoscaler_of(self, target: ScaleTarget, timeout_s: float) -> str | None:
        """Return the name of the autoscaler that sizes `target`.

        Raises port errors before the first list.
        """
        now = self._session.clock.now()
        if not self._due - REFRESH_S <= now < self._due:
            await self._flights.share("list", lambda: self._refresh(timeout_s))
        assert self._targets is not None  # noqa: S101 - listed, or the refresh raised
        return self._targets.get(target)

    async def _refresh(self, timeout_s: float) -> None:
        try:
            hpas = targets(await self._list(HPAS, "horizontalpodautoscalers", timeout_s))
            scaled = targets(await self._list((KEDA,), "scaledobjects", timeout_s))
        except PortError:
            if self._targets is None:
                raise
            self._due = self._session.clock.now() + RETRY_S
            return
        names = {target: f"HPA {name}" for target, name in hpas}
        names.update((target, f"KEDA ScaledObject {name}") for target, name in scaled)
        self._targets = names
        self._due = self._session.clock.now() + REFRESH_S

    async def _list(self, versions: tuple[str, ...], plural: str, timeout_s: float) -> list[dict[str, Any]]:
        what = f"list {plural} in namespace {self._namespace}"
        for version in versions:
            path = f"/apis/{version}/namespaces/{self._namespace}/{plural}"
            response = await self._session.request(what, "GET", path, timeout_s)
            if response.status not in NOT_LISTABLE:
                return list_of(what, accepted_body(what, response), "items")
        return []


def targets(scalers: list[dict[str, Any]]) -> list[tuple[ScaleTarget, str]]:
    """Return the target and name of each autoscaler.

    A ScaledObject without a kind means a Deployment.
    """
    with unavailable_if_malformed("an autoscaler"):
        return [_target(scaler) for scaler in scalers]


def _target(scaler: dict[str, Any]) -> tuple[ScaleTarget, str]:
    ref = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
    group: ApiGroup = group_of(str(ref.get("apiVersion") or "apps/v1"))
    target = ScaleTarget(group, str(ref.get("kind") or "Deployment"), str(ref.get("name")))
    return target, str((scaler.get("metadata") or {}).get("name"))


async def writers(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> Writers:
    """Return the autoscalers of a namespace that all workloads there share."""
    return await context.shared(("kube writers", cluster, namespace), lambda: aclosing(Writers(session, namespace)))
