"""Kubernetes objects with a size: their kind, and the fields that are kept of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NewType, TypeAlias

from scaler.clouds.kubernetes.selectors import Selector, parse_label_selector, parse_selector_text
from scaler.clouds.kubernetes.session import Session, accepted_body
from scaler.clouds.response_validation import list_of, machine_count, unavailable_if_malformed
from scaler.clouds.timestamps import seconds_of
from scaler.config.kinds.kubernetes import KNOWN_KINDS
from scaler.leases.fence import write_epoch
from scaler.ports import Misconfigured

ApiGroup = NewType("ApiGroup", str)
Path: TypeAlias = tuple[str, ...]
"""Keys of a field within `.spec`."""
SIZE: Final[Path] = ("replicas",)
MANAGER: Final = "forescale"
"""Field manager of the daemon's writes without leases."""
MAX_VERSION_CHARS: Final = 20
"""Maximum length of a numeric resource version: etcd's revisions are 64-bit integers."""


@dataclass(frozen=True, slots=True)
class ScaleTarget:
    """The resized object, as the reference of an HPA or ScaledObject names it."""

    group: ApiGroup
    kind: str
    name: str


def group_of(api_version: str) -> ApiGroup:
    """Return the API group; empty for the core group."""
    return ApiGroup(api_version.rpartition("/")[0])


@dataclass(frozen=True, slots=True)
class ScalableKind:
    """A kind with a size, as the API server serves it."""

    api_version: str
    name: str
    plural: str
    namespaced: bool

    @property
    def known(self) -> bool:
        return (group_of(self.api_version), self.name) in KNOWN_KINDS

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of all objects of this kind in the namespace."""
        within = f"namespaces/{namespace}/" if self.namespaced else ""
        parts = (f"{_root(self.api_version)}/{within}{self.plural}", name, subresource)
        return "/".join(part for part in parts if part)

    def within(self, namespace: str) -> str:
        """Return the namespace phrase of errors; empty for a cluster-scoped kind."""
        return f" in namespace {namespace}" if self.namespaced else ""


@dataclass(frozen=True, slots=True)
class Writer:
    """The last writer of `.spec.replicas`, from the object's managed fields."""

    manager: str
    at: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Pods that the API server refused to an object.

    The record has their number, the time since when (Unix seconds), and the server's message.
    """

    pods: int
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class ScalableState:
    """The fields that are kept of an object.

    `desired` and `ready` are None where only the scale subresource has them: a kind outside `KNOWN` may store its size
    in any field. `selector` matches its pods and may be missing too. `at` is when the state was read (seconds since
    the Unix epoch); `order` numbers the stored states.
    """

    name: str
    version: str
    desired: int | None
    ready: int | None
    writer: Writer | None
    at: float
    order: int = 0
    selector: Selector | None = None
    refusal: Refusal | None = None


def field_manager() -> str:
    """Return the field manager of a write.

    With leases it ends with the epoch, which the object then records.
    """
    epoch = write_epoch()
    return MANAGER if epoch is None else f"{MANAGER}-epoch-{epoch}"


async def discover(
    session: Session, api_version: str, kind: str, timeout_s: float, *, sized: bool = True
) -> ScalableKind:
    """Discover how the API server serves a kind.

    Raises `Misconfigured` where it does not, or where a `sized` kind has no size.
    """
    what = f"discover {kind} in {api_version}"
    response = await session.request(what, "GET", _root(api_version), timeout_s)
    if response.status == 404:
        raise Misconfigured(
            f"{what}: the API server does not serve {api_version}; install its CRDs or operator, or correct api_version"
        )
    resources = [r for r in list_of(what, accepted_body(what, response), "resources") if r.get("kind") == kind]
    resource = next((r for r in resources if isinstance(r.get("name"), str) and "/" not in r["name"]), None)
    if resource is None:
        raise Misconfigured(f"{what}: {api_version} has no kind {kind}")
    plural = str(resource["name"])
    served = {str(r.get("name")) for r in list_of(what, response.body, "resources")}
    if sized and f"{plural}/scale" not in served:
        raise Misconfigured(
            f"{what}: {plural} have no scale subresource, so they cannot be resized; choose another object_kind"
        )
    return ScalableKind(api_version, kind, plural, bool(resource.get("namespaced")))


def parse(kind: ScalableKind, body: Mapping[str, Any], at: float) -> ScalableState:
    """Parse an object's state. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed(f"an object of {kind.plural}"):
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        ready = status.get("readyReplicas")
        desired = None
        if kind.known:
            desired, ready = machine_count(f"{kind.plural}: replicas", spec["replicas"]), ready or 0
        return ScalableState(
            name=text_field(metadata, "name"),
            version=text_field(metadata, "resourceVersion"),
            desired=desired,
            ready=None if ready is None else machine_count(f"{kind.plural}: ready replicas", ready),
            writer=writer_of(metadata.get("managedFields") or ()),
            at=at,
            selector=_selector(spec, status) if kind.known else None,
            refusal=_refusal(desired, status, at),
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """An object's scale subresource. `present` is the number of existing replicas, ready or not."""

    version: str
    desired: int
    present: int
    selector: Selector | None = None


def scale_of(what: str, body: Mapping[str, Any]) -> Scale:
    """Parse a scale subresource.

    Its JSON omits counts of 0; the API server refuses a scale without a size.
    """
    with unavailable_if_malformed(f"{what}: a scale"):
        spec, status = body["spec"], body.get("status") or {}
        return Scale(
            version=text_field(body["metadata"], "resourceVersion"),
            desired=machine_count(f"{what}: replicas", spec.get("replicas", 0)),
            present=machine_count(f"{what}: present replicas", status.get("replicas", 0)),
            selector=parse_selector_text(status["selector"]) if status.get("selector") else None,
        )


def version_of(event: Mapping[str, Any]) -> str:
    """Return the resource version of the object in a watch event."""
    with unavailable_if_malformed("a watch's event"):
        return str(event["object"]["metadata"]["resourceVersion"])


def is_newer(version: str, than: str) -> bool:
    """Return whether a resource version is at least as new as `than`.

    Returns True where they are not numbers.
    """
    numeric = all(v.isdecimal() and len(v) <= MAX_VERSION_CHARS for v in (version, than))
    return int(version) >= int(than) if numeric else True


def text_field(body: Mapping[str, Any], key: str) -> str:
    """Return a text field of an object. Raises `KeyError` or `TypeError`."""
    value = body[key]
    if not isinstance(value, str):
        raise TypeError(f"malformed response: {key} is {value!r}, not a text")
    return value


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _selector(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Selector | None:
    """Return the pods' selector; for a LeaderWorkerSet that of its leaders, one per replica."""
    if "hpaPodSelector" in status:
        return parse_selector_text(status["hpaPodSelector"])
    return parse_label_selector(spec["selector"]) if isinstance(spec.get("selector"), Mapping) else None


def _refusal(desired: int | None, status: Mapping[str, Any], at: float) -> Refusal | None:
    """Return the refusal in a Deployment's conditions, as by a ResourceQuota."""
    conditions: dict[str, Any] = {c.get("type"): c for c in status.get("conditions") or ()}
    condition = conditions.get("ReplicaFailure", {})
    missing = (desired or 0) - machine_count("replicas", status.get("replicas", 0))
    if condition.get("status") != "True" or missing <= 0:
        return None
    return Refusal(missing, seconds_of(condition.get("lastTransitionTime"), at), str(condition.get("message") or ""))


def writer_of(managed_fields: Any, path: Path = SIZE) -> Writer | None:
    """Return the field manager that wrote a field of the spec last; by default the size."""
    owners = [
        Writer(str(entry.get("manager")), str(entry.get("time", "")))
        for entry in managed_fields
        if _owns(entry, ("spec", *path))
    ]
    return max(owners, key=lambda w: w.at, default=None)


def written_by(new_writer: Writer | None, value: object, at: float) -> str:
    """Return the writer of a value and the time.

    Both come from the object's managed fields where these record them. `at` is the time of the read, which is later.
    Seconds since the Unix epoch.
    """
    changed_at = new_writer.at if new_writer else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
    return f"{new_writer.manager if new_writer else 'another writer'} set it to {value} at {changed_at}"


def _owns(entry: Mapping[str, Any], path: Path) -> bool:
    """Return whether an entry of the managed fields has a field."""
    fields = entry.get("fieldsV1") or {}
    for key in path:
        if f"f:{key}" not in fields:
            return False
        fields = fields[f"f:{key}"] or {}
    return True
