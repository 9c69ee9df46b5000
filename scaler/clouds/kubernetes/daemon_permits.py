"""Permissions that settings of the daemon need in a cluster."""

from __future__ import annotations

from collections.abc import Sequence

from scaler.clouds.kubernetes import actions, permissions
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.permissions import Action
from scaler.clouds.kubernetes.session import Session, accepted_body
from scaler.config.cluster_workloads import KubernetesWorkloads
from scaler.config.custom_resource import API_VERSION, PLURAL
from scaler.ports import Context, Misconfigured, Permit


async def workload_permits(settings: KubernetesWorkloads, context: Context) -> Sequence[Permit]:
    """Return the permits to follow the workloads of a cluster.

    Raises port errors, and `Misconfigured` where the definition of Workload is not installed.
    """
    session = await kube.session(context, settings.cluster)
    needed: list[Action] = []
    for listed in settings.namespaces:
        namespace = "" if listed == "*" else listed
        needed += actions.custom_resources(namespace) if settings.custom_resources else []
        needed += actions.config_maps(namespace) if settings.config_maps else []
    permits = await permissions.permits(session, needed, context.deadline_s)
    if settings.custom_resources:
        await _check_definition(session, context.deadline_s)
    return permits


async def _check_definition(session: Session, timeout_s: float) -> None:
    what = f"read the API {API_VERSION}"
    response = await session.request(what, "GET", f"/apis/{API_VERSION}", timeout_s)
    served = [] if response.status == 404 else accepted_body(what, response).get("resources") or []
    if PLURAL not in [resource.get("name") for resource in served if isinstance(resource, dict)]:
        raise Misconfigured("the definition of Workload is not installed: apply config/deploy/workload-crd.yaml")
