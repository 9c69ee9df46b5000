"""Kubernetes cluster of an adapter: configuration only, no SDK."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final

from policies.model.field_metadata import FieldMetadata
from policies.model.pool import Target
from scaler.config.document import read

UNNAMESPACED: Final = frozenset({"karpenter.sh/NodePool"})
"""Cluster-scoped kinds among those that pools resize."""


@dataclass(frozen=True, kw_only=True)
class KubeCluster:
    """A Kubernetes cluster. Adapters with equal settings share one session and its watches."""

    kubeconfig: Annotated[
        str | None,
        FieldMetadata(
            "Path of a kubeconfig file. Default: null; in a pod its service account, elsewhere $KUBECONFIG or"
            " ~/.kube/config."
        ),
    ] = None
    context: Annotated[str | None, FieldMetadata("Context in the kubeconfig. Default: null, its current context.")] = (
        None
    )

    @property
    def identity(self) -> str:
        """The address of its API server, or else the kubeconfig and context.

        It is the address where the kubeconfig names it.
        """
        if self.kubeconfig is None and self.context is None and (host := os.environ.get("KUBERNETES_SERVICE_HOST")):
            return f"https://{host}:{os.environ.get('KUBERNETES_SERVICE_PORT', '443')}"
        paths = self.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
        files = [Path(p).expanduser().absolute() for p in paths.split(os.pathsep) if p]
        versions = tuple((file, _version(file)) for file in files)
        return _server(versions, self.context) or f"{os.pathsep.join(map(str, files))} {self.context or ''}".rstrip()


def object_target(cluster: KubeCluster, api_version: str, kind: str, namespace: str, name: str) -> Target:
    """Return the target of a Kubernetes object, independent of its API version."""
    group = api_version.rpartition("/")[0]
    typed = f"{group}/{kind}" if group else kind
    prefix = "" if typed in UNNAMESPACED else f"{namespace}/"
    return Target(typed, (cluster.identity,), f"{prefix}{name}")


def _version(file: Path) -> tuple[int, int]:
    """Return modification time and size of a file; zeros where there is no file."""
    try:
        status = file.stat()
    except (OSError, ValueError):
        return 0, 0
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=64)
def _server(files: tuple[tuple[Path, tuple[int, int]], ...], context: str | None) -> str | None:
    """Return the API server's address of a context.

    The first file with an entry counts, as for kubectl.
    """
    configs = [d.data for file, version in files if any(version) for d in read(file, old_numbers=True)[0][:1]]
    configs = [c for c in configs if isinstance(c, dict)]
    context = context or next((c["current-context"] for c in configs if c.get("current-context")), None)
    cluster = _entry(configs, "contexts", "context", context).get("cluster")
    server = _entry(configs, "clusters", "cluster", cluster).get("server")
    return server.rstrip("/").lower() if isinstance(server, str) else None


def _entry(configs: Sequence[Mapping[str, Any]], section: str, key: str, name: object) -> Mapping[str, Any]:
    """Return the entry of this name in a kubeconfig's list; empty without one."""
    for config in configs:
        entries = config.get(section)
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and entry.get("name") == name and isinstance(entry.get(key), dict):
                value: Mapping[str, Any] = entry[key]
                return value
    return {}
