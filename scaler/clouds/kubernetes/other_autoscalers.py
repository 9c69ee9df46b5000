"""Other autoscalers of the same objects: HPAs and KEDA's ScaledObjects, by one shared list per namespace and minute."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.objects import ApiGroup, ScaleTarget, group_of
from scaler.clouds.kubernetes.session import Session, is_accepted
from scaler.clouds.response_validation import list_of, understood
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, PortError

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
        self._targets: Mapping[ScaleTarget, str] | None = None
        self._due = float("-inf")
        self._flights = Singleflight()

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def of(self, target: ScaleTarget, timeout_s: float) -> str | None:
        """Return the name of the autoscaler that sizes `target`.

        Raises port errors before the first list.
        """
        now = self._session.clock.now()
        if not self._due - EVERY_S <= now < self._due:
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
        found = {target: f"HPA {name}" for target, name in hpas}
        found.update((target, f"KEDA ScaledObject {name}") for target, name in scaled)
        self._targets = found
        self._due = self._session.clock.now() + EVERY_S

    async def _list(self, versions: tuple[str, ...], plural: str, timeout_s: float) -> list[dict[str, Any]]:
        what = f"list {plural} in namespace {self._namespace}"
        for version in versions:
            path = f"/apis/{version}/namespaces/{self._namespace}/{plural}"
            answer = await self._session.ask(what, "GET", path, timeout_s)
            if answer.status not in NONE_SEEN:
                return list_of(what, is_accepted(what, answer), "items")
        return []


def targets(scalers: list[dict[str, Any]]) -> list[tuple[ScaleTarget, str]]:
    """Return the target and name of each autoscaler.

    A ScaledObject that names no kind means a Deployment.
    """
    with understood("an autoscaler"):
        return [_target(scaler) for scaler in scalers]


def _target(scaler: dict[str, Any]) -> tuple[ScaleTarget, str]:
    ref = (scaler.get("spec") or {}).get("scaleTargetRef") or {}
    group: ApiGroup = group_of(str(ref.get("apiVersion") or "apps/v1"))
    target = ScaleTarget(group, str(ref.get("kind") or "Deployment"), str(ref.get("name")))
    return target, str((scaler.get("metadata") or {}).get("name"))


async def writers(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> Writers:
    """Return the autoscalers of a namespace, as all workloads there share them."""
    return await context.shared(("kube writers", cluster, namespace), lambda: aclosing(Writers(session, namespace)))
