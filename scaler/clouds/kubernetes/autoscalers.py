"""Lists the autoscaler objects of a cluster, for an import. It only reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import LIST_S, PAGE
from scaler.clouds.kubernetes.session import Body, KubeResponse, Session, accepted_body, session
from scaler.clouds.response_validation import list_of
from scaler.ports import Context

KEDA: Final = ("keda.sh/v1alpha1",)
FORBIDDEN, NOT_SERVED = 403, 404


@dataclass(frozen=True, slots=True)
class ListedKind:
    """A kind of object to list, under the first of its API versions that the cluster serves."""

    kind: str
    plural: str
    versions: tuple[str, ...]
    namespaced: bool = True


COLLECTIONS: Final = (
    ListedKind("HorizontalPodAutoscaler", "horizontalpodautoscalers", ("autoscaling/v2", "autoscaling/v1")),
    ListedKind("ScaledObject", "scaledobjects", KEDA),
    ListedKind("ScaledJob", "scaledjobs", KEDA),
    ListedKind("TriggerAuthentication", "triggerauthentications", KEDA),
    ListedKind("ClusterTriggerAuthentication", "clustertriggerauthentications", KEDA, namespaced=False),
)


@dataclass(slots=True)
class ClusterObjects:
    """The objects that were listed, and the refused lists.

    `refused` is the API server's message by plural.
    """

    objects: list[Body] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


async def list_autoscalers(context: Context, namespace: str | None) -> ClusterObjects:
    """List the objects of one namespace or of all.

    A cluster without KEDA has none of KEDA's. Raises port errors.
    """
    cluster = await session(context, KubeCluster())
    found = ClusterObjects()
    for collection in COLLECTIONS:
        if collection.namespaced or namespace is None:
            await _list(cluster, collection, namespace, found)
    return found


async def _list(cluster: Session, collection: ListedKind, namespace: str | None, found: ClusterObjects) -> None:
    within = f"namespaces/{namespace}/" if namespace is not None else ""
    what = f"list {collection.plural} in {f'namespace {namespace}' if namespace is not None else 'all namespaces'}"
    for version in collection.versions:
        path = f"/apis/{version}/{within}{collection.plural}"
        response = await _page(cluster, what, path, {})
        if response.status == FORBIDDEN:
            found.refused[collection.plural] = response.message
            return
        if response.status == NOT_SERVED:
            continue
        while True:
            body = accepted_body(what, response)
            items = list_of(what, body, "items")
            found.objects += [{"apiVersion": version, "kind": collection.kind, **item} for item in items]
            token = (body.get("metadata") or {}).get("continue")
            if not token:
                return
            response = await _page(cluster, what, path, {"continue": str(token)})


async def _page(cluster: Session, what: str, path: str, query: Mapping[str, str]) -> KubeResponse:
    return await cluster.request(what, "GET", path, LIST_S, query={"limit": str(PAGE), **query})
