"""Custom resources whose spec has their size, retained as whole objects.

They are Karpenter's NodePools, CapacityBuffers, and KServe's objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import CONFIRM_S, Follower, WatchPath
from scaler.clouds.kubernetes.objects import (
    SIZE,
    Path,
    ScalableState,
    Writer,
    field_manager,
    is_newer,
    text_field,
    writer_of,
)
from scaler.clouds.kubernetes.session import Body, Session, accepted_body
from scaler.clouds.response_validation import machine_count, unavailable_if_malformed
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, Misconfigured

UNSIZED: Final = "has no spec.replicas, so it cannot be resized: {hint}"


@dataclass(frozen=True, slots=True)
class ObjectCollection:
    """All objects of a kind.

    `description` and `path` as in `WatchPath`; `subresource` is the one that sets the size.

    `hint` is the remedy for an object without a size.
    """

    description: str
    path: str
    subresource: str
    hint: str

    @property
    def plural(self) -> str:
        return self.description.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class CustomObject:
    """An object as it was read at `at` (seconds since the Unix epoch)."""

    name: str
    version: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    generation: int | None
    at: float
    annotations: Mapping[str, Any] = field(default_factory=dict)
    managed_fields: Sequence[Mapping[str, Any]] = ()

    def writer(self, path: Path = SIZE) -> Writer | None:
        """Return the last writer of a field of its spec."""
        return writer_of(self.managed_fields, path)

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return a condition of its status; empty without one of this type."""
        return next((c for c in self.status.get("conditions") or () if c.get("type") == kind), {})


class CustomObjects(Follower):
    """Follows all objects of one kind, and sets sizes."""

    def __init__(self, session: Session, collection: ObjectCollection) -> None:
        self._collection = collection
        self._objects: dict[str, CustomObject] = {}
        self._listed_names: set[str] = set()
        self._flights = Singleflight()
        super().__init__(session, collection.description)

    async def aclose(self) -> None:
        await super().aclose()
        await self._flights.aclose()

    async def get(self, name: str, timeout_s: float, *, refresh: bool = False) -> CustomObject:
        """Return an object. `refresh` reads it even if the stored one is fresh. Raises port errors."""
        custom_object = self._objects.get(name)
        if refresh or custom_object is None:
            return await self._flights.share(name, lambda: self._read(name, timeout_s))
        if not 0 <= self._clock.now() - self.confirmed_since(custom_object) <= CONFIRM_S:
            return await self._flights.share(name, lambda: self._read_unconfirmed(name, timeout_s))
        return custom_object

    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState:
        """Return an object's size. Raises port errors; `Misconfigured` for an object without a size."""
        custom_object = await self.get(name, timeout_s, refresh=refresh)
        replicas = custom_object.spec.get("replicas")
        if replicas is None:
            raise Misconfigured(f"{self._collection.plural} {name} {UNSIZED.format(hint=self._collection.hint)}")
        desired = machine_count(f"{self._collection.plural} {name}: spec.replicas", replicas)
        return ScalableState(
            name, custom_object.version, desired, None, custom_object.writer(), self.confirmed_since(custom_object)
        )

    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None:
        """Set the size of an object that still has `version`. Raises port errors."""
        await self.patch(name, {"replicas": replicas}, version, timeout_s)

    async def patch(self, name: str, spec: Body, version: str, timeout_s: float) -> None:
        """Merge fields into the spec of an object that still has `version`. Raises port errors."""
        resource = "/".join(filter(None, (self._collection.plural, self._collection.subresource)))
        path = "/".join(filter(None, (self._collection.path, name, self._collection.subresource)))
        patch: Body = {"spec": spec}
        if version:
            patch["metadata"] = {"resourceVersion": version}
        what, query = f"patch {resource} {name}", {"fieldManager": field_manager()}
        await self._session.call(what, "PATCH", path, timeout_s, query=query, body=patch)
        self._objects.pop(name, None)  # the next read or the watch restores it

    def confirmed_since(self, custom_object: CustomObject) -> float:
        """Return the time of an object's last confirmation, by a read or by the watch."""
        return max(custom_object.at, self.confirmed_at)

    async def _read_unconfirmed(self, name: str, timeout_s: float) -> CustomObject:
        what = f"{self._collection.plural} {name}"
        return await self._session.fallback_reads.run(what, timeout_s, lambda rest_s: self._read(name, rest_s))

    async def _read(self, name: str, timeout_s: float) -> CustomObject:
        requested_at = self._clock.now()
        what = f"get {self._collection.plural} {name}"
        response = await self._session.request(what, "GET", f"{self._collection.path}/{name}", timeout_s)
        if response.status == 404:
            self._objects.pop(name, None)
        custom_object = parse_object(accepted_body(what, response), requested_at)
        self._store(custom_object)
        return custom_object

    # --- the watch

    async def watch_path(self) -> WatchPath:
        return WatchPath(self._collection.description, self._collection.path)

    def begin_list(self) -> None:
        self._listed_names = set()

    def add_listed(self, item: Body, at: float) -> None:
        custom_object = parse_object(item, at)
        self._listed_names.add(custom_object.name)
        self._objects[custom_object.name] = custom_object

    def end_list(self) -> None:
        for name in self._objects.keys() - self._listed_names:
            del self._objects[name]

    def apply_change(self, change: str, item: Body, at: float) -> None:
        custom_object = parse_object(item, at)
        if change == "DELETED":
            self._objects.pop(custom_object.name, None)
        else:
            self._store(custom_object)

    def _store(self, custom_object: CustomObject) -> None:
        present = self._objects.get(custom_object.name)
        if present is None or is_newer(custom_object.version, present.version):
            self._objects[custom_object.name] = custom_object


def parse_object(body: Mapping[str, Any], at: float) -> CustomObject:
    """Parse an object. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("an object"):
        metadata = body["metadata"]
        spec, status = body.get("spec") or {}, body.get("status") or {}
        annotations, managed_fields = metadata.get("annotations") or {}, metadata.get("managedFields") or ()
        for part in (spec, spec.get("limits") or {}, status, annotations, *(status.get("conditions") or ())):
            part.get("type")  # raises AttributeError unless it is a mapping
        writer_of(managed_fields)  # raises where it is malformed
        return CustomObject(
            text_field(metadata, "name"),
            text_field(metadata, "resourceVersion"),
            spec,
            status,
            metadata.get("generation"),
            at,
            annotations,
            managed_fields,
        )


async def objects(
    context: Context, session: Session, cluster: KubeCluster, collection: ObjectCollection
) -> CustomObjects:
    """Return the follower of a kind's objects that all workloads share."""
    return await context.shared(
        ("kube objects", cluster, collection), lambda: aclosing(CustomObjects(session, collection))
    )
