"""Managed instance groups of Compute Engine: the target size, each machine, and its errors.

GKE's node pools and TPU slices consist of such groups too. Pools that read one group at the same time share the calls.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds.gcp import errors as gcp_errors
from scaler.clouds.gcp import session
from scaler.clouds.gcp.errors import GcpFailure
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.response_validation import list_of, machine_count, validated
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context, Unavailable

READ: Final = "compute.instanceGroupManagers.get"
"""Grants reading the group, its machines and its errors."""
WRITE: Final = "compute.instanceGroupManagers.update"
PAGE: Final = 500
PAGES: Final = 20
"""Maximum pages of machines: ten thousand machines, above the limit of a group."""
SERVING: Final = frozenset({"NONE", "REFRESHING"})
"""Actions of the group on a machine that serves meanwhile."""
STARTING: Final = frozenset({"CREATING", "CREATING_WITHOUT_RETRIES", "RECREATING", "RESUMING", "STARTING", "VERIFYING"})
LEAVING: Final = frozenset({"ABANDONING", "DELETING", "STOPPING", "SUSPENDING"})
"""Actions that the group's writer requested."""
HEALTHY: Final = frozenset({"HEALTHY", "UNKNOWN"})
DOWN: Final = frozenset({"STOPPED", "STOPPING", "TERMINATED"})
ZONE: Final = re.compile(r"/zones/([^/]+)/")


@dataclass(frozen=True, slots=True)
class GroupInstance:
    """One machine of a group.

    `name` is its path from ``projects/`` on; `error` is that of its last attempt.
    """

    name: str
    status: str
    action: str
    healthy: bool
    error: GcpFailure | None
    target_status: str = ""
    """The status that the group intends for it; empty where unreported."""

    @property
    def zone(self) -> str:
        match = ZONE.search(self.name)
        return match[1] if match else ""

    @property
    def ready(self) -> bool:
        return self.status == "RUNNING" and self.action in SERVING and self.healthy

    @property
    def failed(self) -> bool:
        """Whether the platform reported a final error while it starts."""
        return self.action in STARTING and self.status != "RUNNING" and self.error is not None and self.error.is_final

    @property
    def down(self) -> bool:
        """Whether it stopped, or is stopping, without a request."""
        return self.status in DOWN and self.action not in LEAVING and self.target_status in {"", "RUNNING"}


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """A group as it was at `at`. `errors` (time, failure) are read only where a machine failed."""

    path: str
    at: float
    target: int
    suspended: int
    stopped: int
    fingerprint: str
    autoscaler: str
    standby_policy: Mapping[str, Any]
    shape: str
    """Distribution of a regional group over its zones."""
    selections: Mapping[str, Any]
    """Selections of machine types, each with its rank."""
    machines: tuple[GroupInstance, ...] = ()
    errors: tuple[tuple[float, GcpFailure], ...] = ()

    def with_target_status(self, *statuses: str) -> InstanceGroup:
        """Return the group with only the machines that have one of these target statuses.

        Machines whose target status is unreported stay too.
        """
        return replace(self, machines=tuple(m for m in self.machines if m.target_status in {"", *statuses}))

    @property
    def shortfall(self) -> Shortfall | None:
        """The newest final error of a failed machine; None while none failed.

        Its time is 0 where unreported.
        """
        failed = [m.error for m in self.machines if m.failed and m.error is not None]
        if not failed:
            return None
        final = [(at, failure) for at, failure in self.errors if failure.is_final]
        at, failure = max(final, key=lambda error: error[0], default=(0.0, failed[0]))
        return failure.shortfall(at)


class InstanceGroups:
    """Client of a project's groups, shared by all its pools."""

    def __init__(self, compute: session.GcpService, context: Context) -> None:
        self.compute = compute
        self._clock = context.clock
        self._flights = Singleflight()

    async def aclose(self) -> None:
        await self._flights.aclose()

    @validated("GCP")
    async def head(self, path: str, *, urgent: bool = False) -> InstanceGroup:
        """Read a group without its machines. `urgent`: a write waits for it. Raises port errors."""
        at = self._clock.now()
        body = await self.compute.call(READ, f"/compute/v1/{path}", short_name(path), write=urgent, repeat=True)
        return _group(path, at, body)

    async def read(self, path: str) -> InstanceGroup:
        """Read a group with its machines. Raises port errors."""
        return await self._flights.share(path, lambda: self._read(path))

    async def resize(self, path: str, size: int) -> Body:
        """Request `size` machines; return the operation.

        Raises port errors. The write is never retried.
        """
        query = {"size": str(size), "requestId": self.compute.request_id()}
        return await self.compute.call(
            WRITE, f"/compute/v1/{path}/resize", short_name(path), method="POST", query=query, write=True
        )

    async def patch(self, path: str, fields: Mapping[str, Any]) -> Body:
        """Change fields under the observed fingerprint; return the operation. Raises port errors."""
        query = {"requestId": self.compute.request_id()}
        return await self.compute.call(
            WRITE, f"/compute/v1/{path}", short_name(path), method="PATCH", query=query, body=fields, write=True
        )

    @validated("GCP")
    async def _read(self, path: str) -> InstanceGroup:
        head = await self.head(path)
        machines = tuple([_machine(item) for item in await self._pages(path, "listManagedInstances", "POST")])
        errors: tuple[tuple[float, GcpFailure], ...] = ()
        if any(m.failed for m in machines):
            items = await self._pages(path, "listErrors", "GET")
            errors = tuple((seconds_of(e.get("timestamp"), 0.0), gcp_errors.failure_of(e.get("error"))) for e in items)
        return replace(head, machines=machines, errors=errors)

    async def _pages(self, path: str, method: str, http_method: str) -> list[Mapping[str, Any]]:
        """Return all items of a list. Raises port errors: half a list would be a smaller pool."""
        key = "managedInstances" if method == "listManagedInstances" else "items"
        items: list[Mapping[str, Any]] = []
        query = {"maxResults": str(PAGE)}
        for _ in range(PAGES):
            body = await self.compute.call(
                READ, f"/compute/v1/{path}/{method}", short_name(path), method=http_method, query=query, repeat=True
            )
            items += list_of(f"GCP {READ} of {short_name(path)}", {key: body.get(key) or []}, key)
            token = body.get("nextPageToken")
            if not token:
                return items
            query = {"maxResults": str(PAGE), "pageToken": str(token)}
        raise Unavailable(f"GCP {READ} of {short_name(path)}: the response has more than {PAGES * PAGE} {key}")


async def groups(context: Context, project: GcpProject) -> InstanceGroups:
    """Return the groups' client that all pools of this project share. Raises `Misconfigured`."""
    compute = await session.service(context, project, "compute")

    return await context.shared(("gcp", "groups", project), lambda: aclosing(InstanceGroups(compute, context)))


def short_name(path: str) -> str:
    """Return the last segment of a resource's path."""
    return path.rsplit("/", 1)[-1]


def path_of(url: object) -> str:
    """Return a resource URL's path from ``projects/`` on."""
    return "".join(str(url).partition("projects/")[1:])


def _group(path: str, at: float, body: Mapping[str, Any]) -> InstanceGroup:
    target = machine_count(f"GCP {READ} of {short_name(path)}: targetSize", body.get("targetSize"), digits=True)
    status = body.get("status")
    return InstanceGroup(
        path,
        at,
        target,
        count_instances(short_name(path), "targetSuspendedSize", body) or 0,
        count_instances(short_name(path), "targetStoppedSize", body) or 0,
        str(body.get("fingerprint", "")),
        short_name(str(status.get("autoscaler") or "")) if isinstance(status, Mapping) else "",
        body.get("standbyPolicy") or {},
        str((body.get("distributionPolicy") or {}).get("targetShape", "")),
        (body.get("instanceFlexibilityPolicy") or {}).get("instanceSelections") or {},
    )


def _machine(item: Mapping[str, Any]) -> GroupInstance:
    attempt = item.get("lastAttempt") or {}
    errors = attempt.get("errors") if isinstance(attempt, Mapping) else None
    health: Collection[Any] = item.get("instanceHealth") or ()
    return GroupInstance(
        name=path_of(item.get("instance", "")),
        status=str(item.get("instanceStatus", "")),
        action=str(item.get("currentAction", "NONE")),
        healthy=all(h.get("detailedHealthState", "UNKNOWN") in HEALTHY for h in health if isinstance(h, Mapping)),
        error=gcp_errors.failure_of(errors) if errors else None,
        target_status=str(item.get("targetStatus", "")),
    )


def count_instances(name: str, key: str, body: Mapping[str, Any]) -> int | None:
    """Return the count under `key` of the object `name`; None where it is absent.

    Raises `Unavailable`.
    """
    return machine_count(f"GCP: {key} of {name}", body[key], digits=True) if key in body else None
