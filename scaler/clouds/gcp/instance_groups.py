"""Managed instance groups of Compute Engine: the size asked for, each machine, and what went wrong with it.

GKE's node pools and TPU slices are such groups too. Pools that look at one group in the same moment share the calls.
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
from scaler.clouds.response_validation import list_of, validated, whole
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context, Unavailable

READ: Final = "compute.instanceGroupManagers.get"
"""Grants the group, its machines and its errors."""
WRITE: Final = "compute.instanceGroupManagers.update"
PAGE: Final = 500
PAGES: Final = 20
"""Of machines: ten thousand, more than a group may have."""
SERVES: Final = frozenset({"NONE", "REFRESHING"})
"""What the group does to a machine that serves meanwhile."""
COMES: Final = frozenset({"CREATING", "CREATING_WITHOUT_RETRIES", "RECREATING", "RESUMING", "STARTING", "VERIFYING"})
LEAVES: Final = frozenset({"ABANDONING", "DELETING", "STOPPING", "SUSPENDING"})
"""What was asked for by whoever sizes the group."""
WELL: Final = frozenset({"HEALTHY", "UNKNOWN"})
DOWN: Final = frozenset({"STOPPED", "STOPPING", "TERMINATED"})
ZONE: Final = re.compile(r"/zones/([^/]+)/")


@dataclass(frozen=True, slots=True)
class GroupInstance:
    """One machine of a group. `name` is its path from ``projects/`` on; `error` what its last attempt ended with."""

    name: str
    status: str
    action: str
    healthy: bool
    error: GcpFailure | None
    target_status: str = ""
    """The status that the group means it to have, where it tells."""

    @property
    def zone(self) -> str:
        found = ZONE.search(self.name)
        return found[1] if found else ""

    @property
    def ready(self) -> bool:
        return self.status == "RUNNING" and self.action in SERVES and self.healthy

    @property
    def failed(self) -> bool:
        """Whether the platform reported that it does not come."""
        return self.action in COMES and self.status != "RUNNING" and self.error is not None and self.error.is_final

    @property
    def down(self) -> bool:
        """Whether it ended, or is ending, unrequested."""
        return self.status in DOWN and self.action not in LEAVES and self.target_status in {"", "RUNNING"}


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """A group as it was at `at`. `errors` are told where something fails, with their times."""

    path: str
    at: float
    target: int
    suspended: int
    stopped: int
    fingerprint: str
    autoscaler: str
    standby: Mapping[str, Any]
    shape: str
    """How a regional group spreads over its zones."""
    selections: Mapping[str, Any]
    """Its choices of machine types, each with its rank."""
    machines: tuple[GroupInstance, ...] = ()
    errors: tuple[tuple[float, GcpFailure], ...] = ()

    def with_target_status(self, *statuses: str) -> InstanceGroup:
        """Return the group with the machines whose target status is one of these, or unreported."""
        return replace(self, machines=tuple(m for m in self.machines if m.target_status in {"", *statuses}))

    @property
    def shortfall(self) -> Shortfall | None:
        """The newest reason why requested machines do not come; None while they may."""
        if not any(m.failed for m in self.machines):
            return None
        final = [(at, said) for at, said in self.errors if said.is_final]
        if final:
            at, said = max(final, key=lambda one: one[0])
            return said.shortfall(at)
        said = next(m.error for m in self.machines if m.failed and m.error is not None)
        return said.shortfall(0.0)


class InstanceGroups:
    """The groups of a project, as all its pools read them."""

    def __init__(self, compute: session.GcpService, context: Context) -> None:
        self.compute = compute
        self._clock = context.clock
        self._flights = Singleflight()

    async def aclose(self) -> None:
        await self._flights.aclose()

    @validated("GCP")
    async def head(self, path: str, *, urgent: bool = False) -> InstanceGroup:
        """Return a group without its machines, read anew.

        Raises port errors. `urgent`: a write waits for it.
        """
        at = self._clock.now()
        body = await self.compute.call(READ, f"/compute/v1/{path}", short_name(path), write=urgent, repeat=True)
        return _group(path, at, body)

    async def read(self, path: str) -> InstanceGroup:
        """Return a group with its machines. Raises port errors."""
        return await self._flights.share(path, lambda: self._read(path))

    async def resize(self, path: str, size: int) -> Body:
        """Request `size` machines; return the operation.

        Raises port errors, and never sends the write twice.
        """
        query = {"size": str(size), "requestId": self.compute.request_id()}
        return await self.compute.call(
            WRITE, f"/compute/v1/{path}/resize", short_name(path), method="POST", query=query, write=True
        )

    async def patch(self, path: str, fields: Mapping[str, Any]) -> Body:
        """Change fields, among them the fingerprint seen; return the operation.

        Raises port errors as `resize` does.
        """
        query = {"requestId": self.compute.request_id()}
        return await self.compute.call(
            WRITE, f"/compute/v1/{path}", short_name(path), method="PATCH", query=query, body=fields, write=True
        )

    @validated("GCP")
    async def _read(self, path: str) -> InstanceGroup:
        head = await self.head(path)
        machines = tuple([_machine(one) for one in await self._pages(path, "listManagedInstances", "POST")])
        errors: tuple[tuple[float, GcpFailure], ...] = ()
        if any(m.failed for m in machines):
            found = await self._pages(path, "listErrors", "GET")
            errors = tuple((seconds_of(e.get("timestamp"), 0.0), gcp_errors.failure_of(e.get("error"))) for e in found)
        return replace(head, machines=machines, errors=errors)

    async def _pages(self, path: str, method: str, verb: str) -> list[Mapping[str, Any]]:
        """Return all of a list. Raises port errors: half a list would be a smaller pool."""
        key = "managedInstances" if method == "listManagedInstances" else "items"
        found: list[Mapping[str, Any]] = []
        query = {"maxResults": str(PAGE)}
        for _ in range(PAGES):
            body = await self.compute.call(
                READ, f"/compute/v1/{path}/{method}", short_name(path), method=verb, query=query, repeat=True
            )
            found += list_of(f"GCP {READ} of {short_name(path)}", {key: body.get(key) or []}, key)
            token = body.get("nextPageToken")
            if not token:
                return found
            query = {"maxResults": str(PAGE), "pageToken": str(token)}
        raise Unavailable(f"GCP {READ} of {short_name(path)}: more than {PAGES * PAGE} {key}")


async def groups(context: Context, project: GcpProject) -> InstanceGroups:
    """Return the groups that all pools of this project share. Raises `Misconfigured`."""

    compute = await session.service(context, project, "compute")

    return await context.shared(("gcp", "groups", project), lambda: aclosing(InstanceGroups(compute, context)))


def short_name(path: str) -> str:
    """Return the last word of a resource's path."""
    return path.rsplit("/", 1)[-1]


def path_of(url: object) -> str:
    """Return a resource's path, from ``projects/`` on, from its URL."""
    _, mark, rest = str(url).partition("projects/")
    return mark + rest


def _group(path: str, at: float, body: Mapping[str, Any]) -> InstanceGroup:
    target = whole(f"GCP {READ} of {short_name(path)}: targetSize", body.get("targetSize"), digits=True)
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


def _machine(one: Mapping[str, Any]) -> GroupInstance:
    attempt = one.get("lastAttempt") or {}
    errors = attempt.get("errors") if isinstance(attempt, Mapping) else None
    health: Collection[Any] = one.get("instanceHealth") or ()
    return GroupInstance(
        name=path_of(one.get("instance", "")),
        status=str(one.get("instanceStatus", "")),
        action=str(one.get("currentAction", "NONE")),
        healthy=all(h.get("detailedHealthState", "UNKNOWN") in WELL for h in health if isinstance(h, Mapping)),
        error=gcp_errors.failure_of(errors) if errors else None,
        target_status=str(one.get("targetStatus", "")),
    )


def count_instances(name: str, key: str, body: Mapping[str, Any]) -> int | None:
    """Return the count under `key` of the object `name`; None where it is absent.

    Raises `Unavailable`.
    """
    return whole(f"GCP: {key} of {name}", body[key], digits=True) if key in body else None
