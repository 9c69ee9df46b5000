"""CustomObject resources with `.spec.replicas` of which the whole matters: Karpenter's NodePools, CapacityBuffers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import CONFIRM_S, Follower, WatchPath
from scaler.clouds.kubernetes.objects import MANAGER, ScalableState, Writer, newer, text_field, writer_of
from scaler.clouds.kubernetes.session import Body, Session, is_accepted
from scaler.clouds.response_validation import understood, whole
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, Misconfigured

UNSIZED: Final = "has no spec.replicas, so its size is not ours to set: {hint}"


@dataclass(frozen=True, slots=True)
class ObjectCollection:
    """All objects of a kind: `words` and `path` as in a `WatchPath`; `through` is the subresource that sets sizes.

    `hint` is what to do about one without a size.
    """

    words: str
    path: str
    through: str
    hint: str

    @property
    def plural(self) -> str:
        return self.words.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class CustomObject:
    """An object as it was read at `at`, by our clock."""

    name: str
    version: str
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    generation: int | None
    writer: Writer | None
    at: float

    def condition(self, kind: str) -> Mapping[str, Any]:
        """Return a condition of its status; empty where it has none of this type."""
        return next((c for c in self.status.get("conditions") or () if c.get("type") == kind), {})


class Objects(Follower):
    """Follows all objects of one kind, and sets the size of one."""

    def __init__(self, session: Session, collected: ObjectCollection) -> None:
        self._of = collected
        self._objects: dict[str, CustomObject] = {}
        self._listed: set[str] = set()
        self._flights = Singleflight()
        super().__init__(session, collected.words)

    async def aclose(self) -> None:
        await super().aclose()
        await self._flights.aclose()

    async def get(self, name: str, timeout_s: float, *, refresh: bool = False) -> CustomObject:
        """Return an object.

        Raises the port errors. `anew`: read it however fresh the one at hand is.
        """
        found = self._objects.get(name)
        if refresh or found is None or not 0 <= self._clock.now() - self._at(found) <= CONFIRM_S:
            found = await self._flights.share(name, lambda: self._read(name, timeout_s))
        return found

    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState:
        """Return its size. Raises the port errors; `Misconfigured` for one that has none."""
        found = await self.get(name, timeout_s, refresh=refresh)
        replicas = found.spec.get("replicas")
        if replicas is None:
            raise Misconfigured(f"{self._of.plural} {name} {UNSIZED.format(hint=self._of.hint)}")
        desired = whole(f"{self._of.plural} {name}: spec.replicas", replicas)
        return ScalableState(name, found.version, desired, None, found.writer, self._at(found))

    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None:
        """Set the size of an object that is still as it was in `version`. Raises the port errors."""
        resource = "/".join(filter(None, (self._of.plural, self._of.through)))
        path = "/".join(filter(None, (self._of.path, name, self._of.through)))
        patch: Body = {"spec": {"replicas": replicas}}
        if version:
            patch["metadata"] = {"resourceVersion": version}
        what, query = f"patch {resource} {name}", {"fieldManager": MANAGER}
        await self._session.call(what, "PATCH", path, timeout_s, query=query, body=patch)
        self._objects.pop(name, None)  # read anew, or told by the watch, whichever is first

    def _at(self, found: CustomObject) -> float:
        return max(found.at, self.confirmed_at)

    async def _read(self, name: str, timeout_s: float) -> CustomObject:
        at = self._clock.now()
        what = f"get {self._of.plural} {name}"
        answer = await self._session.ask(what, "GET", f"{self._of.path}/{name}", timeout_s)
        if answer.status == 404:
            self._objects.pop(name, None)
        found = parse_object(is_accepted(what, answer), at)
        self._keep(found)
        return found

    # --- the watch

    async def where(self) -> WatchPath:
        return WatchPath(self._of.words, self._of.path)

    def begin(self) -> None:
        self._listed = set()

    def found(self, item: Body, at: float) -> None:
        one = parse_object(item, at)
        self._listed.add(one.name)
        self._objects[one.name] = one

    def end(self) -> None:
        for name in self._objects.keys() - self._listed:
            del self._objects[name]

    def changed(self, change: str, item: Body, at: float) -> None:
        one = parse_object(item, at)
        if change == "DELETED":
            self._objects.pop(one.name, None)
        else:
            self._keep(one)

    def _keep(self, one: CustomObject) -> None:
        present = self._objects.get(one.name)
        if present is None or newer(one.version, present.version):
            self._objects[one.name] = one


def parse_object(body: Mapping[str, Any], at: float) -> CustomObject:
    """Parse an object. Raises `Unavailable` for one that no API server would send."""
    with understood("an object"):
        metadata = body["metadata"]
        spec, status = body.get("spec") or {}, body.get("status") or {}
        for part in (spec, spec.get("limits") or {}, status, *(status.get("conditions") or ())):
            part.get("type")  # mappings, all of them
        return CustomObject(
            text_field(metadata, "name"),
            text_field(metadata, "resourceVersion"),
            spec,
            status,
            metadata.get("generation"),
            writer_of(metadata.get("managedFields") or ()),
            at,
        )


async def objects(context: Context, session: Session, cluster: KubeCluster, collected: ObjectCollection) -> Objects:
    """Return the objects of a kind, as all workloads share them."""
    return await context.shared(("kube objects", cluster, collected), lambda: aclosing(Objects(session, collected)))
