"""Rules for workloads of a Kubernetes namespace that the daemon does not trust.

The daemon acts with its own identity, environment, files and network position. So such a workload may resize objects
and set weights of routes of its own namespace, and read servers that need no secret of the daemon.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from policies.model.spec import WorkloadSpec
from scaler.clouds.http_access import Access
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.derived import Finding
from scaler.config.kinds.gateway_routes import ClusterRoute
from scaler.config.kinds.kubernetes import KNOWN_KINDS, KubernetesObject
from scaler.config.secret import Secret
from scaler.config.yaml_composer import Place
from scaler.registry import kind_of

POOLS: Final = frozenset({"capacity_buffer", "kserve", "kubernetes", "published"})
"""Kinds of pools that have one object of a namespace."""
ROUTES: Final = frozenset({"ai_gateway_route", "http_route", "kserve_group"})
"""Kinds of routes that have objects of one namespace."""
SOURCES: Final = frozenset({"http_json", "kafka", "postgresql", "prometheus", "rabbitmq", "redis", "scrape"})
"""Kinds of sources that use no cloud identity of the daemon."""
MIN_INTERVAL_S: Final = 1.0
"""Minimum time between two ticks: one namespace must not use up the daemon's processor. Seconds."""
REMEDY: Final = "remove it, or have the namespace added to daemon.kubernetes_workloads.trusted_namespaces"


def own_settings(document: Any, namespace: str, cluster: KubeCluster) -> Any:
    """Return a document whose Kubernetes objects have its namespace and cluster by default."""
    if not isinstance(document, dict):
        return document
    defaults: dict[str, Any] = {"namespace": namespace}
    if cluster != KubeCluster():
        defaults["cluster"] = {k: v for k, v in dataclasses.asdict(cluster).items() if v is not None}
    filled = {
        key: _filled(entries, kinds, defaults)
        for key, kinds in (("pools", POOLS), ("routes", ROUTES))
        if isinstance(entries := document.get(key), dict)
    }
    return {**document, **filled}


def _filled(entries: Mapping[str, Any], kinds: Collection[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {**defaults, **entry} if isinstance(entry, dict) and entry.get("kind") in kinds else entry
        for name, entry in entries.items()
    }


def namespace_problems(spec: WorkloadSpec, namespace: str, cluster: KubeCluster) -> Iterator[Finding]:
    """Yield each setting that reaches beyond the workload's namespace."""
    if spec.interval_s < MIN_INTERVAL_S:
        yield ("interval_s",), f"must be at least {MIN_INTERVAL_S:g} in namespace {namespace}", REMEDY
    for name, source in spec.sources.items():
        if (kind := kind_of("source", source)) not in SOURCES:
            yield ("sources", name, "kind"), _kind_rule("read", kind, namespace), REMEDY
    for name, pool in spec.pools.items():
        if (kind := kind_of("pool", pool)) not in POOLS:
            yield ("pools", name, "kind"), _kind_rule("resize", kind, namespace), REMEDY
        elif pool.namespace != namespace:
            rule = f"must be {namespace}: a workload may resize only objects of its own namespace"
            yield ("pools", name, "namespace"), rule, REMEDY
        elif isinstance(pool, KubernetesObject) and not _is_known(pool):
            kinds = ", ".join(sorted(known for _, known in KNOWN_KINDS))
            rule = f"must be one of {kinds} in namespace {namespace}: another kind may be cluster-scoped"
            yield ("pools", name, "object_kind"), rule, REMEDY
    for name, route in spec.routes.items():
        if not isinstance(route, ClusterRoute):
            yield ("routes", name, "kind"), _kind_rule("route requests", kind_of("route", route), namespace), REMEDY
        elif route.namespace != namespace:
            rule = f"must be {namespace}: a workload may set weights only in routes of its own namespace"
            yield ("routes", name, "namespace"), rule, REMEDY
    for key in ("sources", "policies", "pools", "routes"):
        yield from _references(getattr(spec, key), (key,), namespace, cluster)


def _is_known(pool: KubernetesObject) -> bool:
    return (pool.api_version.rpartition("/")[0], pool.object_kind) in KNOWN_KINDS


def _kind_rule(verb: str, kind: str, namespace: str) -> str:
    return f"must not be {kind} in namespace {namespace}: it would {verb} with the daemon's own identity"


def _references(value: Any, place: Place, namespace: str, cluster: KubeCluster) -> Iterator[Finding]:
    """Yield the secrets, files, headers and clusters of the daemon that a value refers to."""
    if isinstance(value, Secret):
        rule = f"must not be set in namespace {namespace}: secrets are read from the daemon's environment and files"
        yield place, rule, REMEDY
    elif isinstance(value, KubeCluster):
        if value != cluster:
            yield place, f"must be absent in namespace {namespace}: pools and routes are in its own cluster", REMEDY
    elif dataclasses.is_dataclass(value):
        if isinstance(value, Access) and value.headers:
            yield (*place, "headers"), f"must be empty in namespace {namespace}: a header may select a tenant", REMEDY
        for field in dataclasses.fields(value):
            inner = getattr(value, field.name)
            if field.name.endswith("_file") and inner is not None:
                yield (
                    (*place, field.name),
                    f"must not be set in namespace {namespace}: it is a file of the daemon",
                    REMEDY,
                )
            else:
                yield from _references(inner, (*place, field.name), namespace, cluster)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _references(inner, (*place, key), namespace, cluster)
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _references(inner, (*place, i), namespace, cluster)
