"""Address and credentials of a Kubernetes cluster: a pod's service account, or a kubeconfig."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import yaml

from scaler.clouds.kubernetes.client_library import ConfigException, KubeConfigLoader, KubeConfigMerger, client
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.document import read
from scaler.ports import Misconfigured

POD_FOLDER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Load: TypeAlias = Callable[[], Awaitable[Any]]
"""Loads the SDK's configuration: host, CA and credentials."""


def credentials(cluster: KubeCluster) -> Load:
    """Return the loader of the credentials that `cluster` names.

    Raises `Misconfigured` where there are none.
    """
    if cluster.kubeconfig is None and cluster.context is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_pod(os.environ, POD_FOLDER)
    path = cluster.kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config"
    return from_kubeconfig(path, cluster.context)


def in_pod(environ: Mapping[str, str], folder: Path) -> Load:
    """Return the loader of a pod's service account.

    Its token rotates about hourly, so each call checks the file.
    """
    host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
    token, cached = folder / "token", dict[str, Any]()  # cached: the key, and the file's state when it was read

    def refresh(configuration: Any) -> None:
        try:
            file = (token.stat().st_mtime_ns, token.stat().st_ino)
            if cached.get("file") != file:
                cached.update(key=f"Bearer {token.read_text().strip()}", file=file)
        except OSError:
            if "key" not in cached:
                raise
        configuration.api_key["BearerToken"] = cached["key"]

    async def load() -> Any:
        address = f"[{host}]" if ":" in host else host
        configuration = client.Configuration(host=f"https://{address}:{port}")
        configuration.ssl_ca_cert = str(folder / "ca.crt")
        refresh(configuration)
        configuration.refresh_api_key_hook = refresh
        return configuration

    return load


def _check_limits(path: Path) -> None:
    """Check a kubeconfig's limits before the SDK reads it. Raises `ValueError`."""
    if path.exists() and (problems := read(path, old_numbers=True)[1]):
        raise ValueError(str(problems[0]))


def from_kubeconfig(paths: str, context: str | None) -> Load:
    """Return the loader of a kubeconfig's credentials, of every kind that the SDK supports.

    Raises `Misconfigured`.
    """

    def loader() -> Any:
        for path in filter(None, paths.split(os.pathsep)):
            _check_limits(Path(path).expanduser())
        if not any(Path(p).expanduser().exists() for p in paths.split(os.pathsep) if p):
            raise FileNotFoundError("the file does not exist")
        return KubeConfigLoader(KubeConfigMerger(paths).config, active_context=context, config_base_path=None)

    async def load() -> Any:
        configuration = client.Configuration()
        await loader().load_and_set(configuration)
        return configuration

    try:
        loader()
    except (ConfigException, OSError, ValueError, TypeError, AttributeError, yaml.YAMLError) as e:
        raise Misconfigured(f"kubeconfig {paths}: {e}") from e
    return load
