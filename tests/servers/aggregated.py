"""Registers a local server of an aggregated API at a control plane: a Service without pods, and an APIService."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, Final

from tests.servers.daemon import until
from tests.servers.kube_real import KubeNamespace

GROUP: Final = "external.metrics.k8s.io"
APISERVICES: Final = "/apis/apiregistration.k8s.io/v1/apiservices"


def server_name(namespace: str) -> str:
    """Return the host name that the API server expects in the certificate."""
    return f"metrics.{namespace}.svc"


async def register(where: KubeNamespace, port: int, certificate: Path) -> None:
    """Let the API server forward external metrics to a port of this machine, and wait until it finds the server."""
    spec = {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"port": port}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "metrics"}, "spec": spec}
    await where.call("POST", where.path("services", api="api/v1"), service)
    await where.call("POST", APISERVICES, api_service(where.namespace, port, certificate))

    async def available() -> bool:
        status = (await where.call("GET", f"{APISERVICES}/v1beta1.{GROUP}")).get("status", {})
        return any(c["type"] == "Available" and c["status"] == "True" for c in status.get("conditions", ()))

    await until(available)


def api_service(namespace: str, port: int, certificate: Path) -> dict[str, Any]:
    """Return the APIService of a Service `metrics`."""
    authority = base64.b64encode(certificate.read_bytes()).decode()
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"v1beta1.{GROUP}"},
        "spec": {
            "group": GROUP,
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": {"namespace": namespace, "name": "metrics", "port": port},
            "caBundle": authority,
        },
    }


async def unregister(where: KubeNamespace) -> None:
    await where.call("DELETE", f"{APISERVICES}/v1beta1.{GROUP}")
