"""Follows the objects that define workloads: Workloads, and labeled ConfigMaps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import aclosing
from typing import Final, TypeAlias

from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.objects import text_field
from scaler.clouds.kubernetes.session import Body, Session
from scaler.config.cluster_workloads import KubernetesWorkloads
from scaler.config.custom_resource import API_VERSION, KIND, PLURAL
from scaler.config.definition import CONFIG_MAP, Definition, Origin
from scaler.ports import Context

LABEL: Final = "forescale.io/workload"
"""Label of the ConfigMaps whose keys are workload files. Its value is "true"."""

Parse: TypeAlias = Callable[[Body], Mapping[Origin, Definition]]


class Definitions(Follower):
    """The definitions in one collection. Each change of one calls `changed`."""

    def __init__(self, session: Session, path: WatchPath, parse: Parse, changed: Callable[[], None]) -> None:
        self.description = path.description
        self._path = path
        self._parse = parse
        self._changed = changed
        self._objects: dict[tuple[str, str], Mapping[Origin, Definition]] = {}
        self._listing: dict[tuple[str, str], Mapping[Origin, Definition]] = {}
        super().__init__(session, path.description)

    def all(self) -> Iterator[Definition]:
        """Yield the definitions as they were last read."""
        for definitions in self._objects.values():
            yield from definitions.values()

    async def watch_path(self) -> WatchPath:
        return self._path

    def begin_list(self) -> None:
        self._listing = {}

    def add_listed(self, item: Body, at: float) -> None:
        self._listing[_key(item)] = self._parse(item)

    def end_list(self) -> None:
        if self._listing != self._objects or not self.listed.is_set():
            self._changed()
        self._objects = self._listing

    def apply_change(self, change: str, item: Body, at: float) -> None:
        key = _key(item)
        before = self._objects.pop(key, {})
        if change != "DELETED":
            self._objects[key] = self._parse(item)
        if self._objects.get(key, {}) != before:
            self._changed()


def _key(item: Body) -> tuple[str, str]:
    metadata = item["metadata"]
    return text_field(metadata, "namespace"), text_field(metadata, "name")


def custom_resource(item: Body) -> Mapping[Origin, Definition]:
    """Return the definition in an object of kind Workload."""
    metadata = item["metadata"]
    origin = Origin(KIND, *_key(item))
    spec, status = item["spec"], item.get("status") or {}
    generation = metadata.get("generation")
    uid, created = text_field(metadata, "uid"), text_field(metadata, "creationTimestamp")
    generation = generation if isinstance(generation, int) else None
    return {origin: Definition(uid, origin, spec, created, generation, status)}


def config_map(item: Body) -> Mapping[Origin, Definition]:
    """Return the definitions in a ConfigMap, one for each key."""
    metadata, data = item["metadata"], item.get("data") or {}
    uid, created = text_field(metadata, "uid"), text_field(metadata, "creationTimestamp")
    origins = {key: Origin(CONFIG_MAP, *_key(item), key) for key in data}
    return {origin: Definition(uid, origin, text_field(data, key), created) for key, origin in origins.items()}


async def open_definitions(
    context: Context, settings: KubernetesWorkloads, changed: Callable[[], None]
) -> list[Definitions]:
    """Follow each configured kind in each configured namespace. Raises `Misconfigured`."""
    session = await kube.session(context, settings.cluster)
    opened = []
    for namespace in settings.namespaces:
        for path, parse in _collections(settings, namespace):
            key = ("workload definitions", settings.cluster, path.path)

            def opening(path: WatchPath = path, parse: Parse = parse) -> aclosing[Definitions]:
                return aclosing(Definitions(session, path, parse, changed))

            opened.append(await context.shared(key, opening))
    return opened


def _collections(settings: KubernetesWorkloads, namespace: str) -> Iterator[tuple[WatchPath, Parse]]:
    within = "" if namespace == "*" else f"namespaces/{namespace}/"
    text = "in all namespaces" if namespace == "*" else f"in namespace {namespace}"
    if settings.custom_resources:
        yield WatchPath(f"workloads.forescale.io {text}", f"/apis/{API_VERSION}/{within}{PLURAL}"), custom_resource
    if settings.config_maps:
        query = {"labelSelector": f"{LABEL}=true"}
        yield WatchPath(f"configmaps {text}", f"/api/v1/{within}configmaps", query), config_map
