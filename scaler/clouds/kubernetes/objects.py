"""Kubernetes objects that have a size: which kind they are of, and the little of them that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NewType

from scaler.clouds.kubernetes.selectors import Selector, of_object, of_text
from scaler.clouds.kubernetes.session import Session, is_accepted
from scaler.clouds.response_validation import list_of, understood, whole
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Misconfigured

ApiGroup = NewType("ApiGroup", str)
MANAGER: Final = "forescale"
"""The field manager of our writes."""
MAX_VERSION_CHARS: Final = 20
"""Of a resource version that is a number: etcd's revisions are 64-bit integers."""
KNOWN: Final = frozenset(
    {
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
        ("leaderworkerset.x-k8s.io", "LeaderWorkerSet"),
    }
)
"""Kinds whose size is `.spec.replicas`, which the API server fills in, and `.status.readyReplicas` their ready replicas
(0 where absent)."""


@dataclass(frozen=True, slots=True)
class ScaleTarget:
    """What is resized, as an HPA's or a ScaledObject's reference names it."""

    group: ApiGroup
    kind: str
    name: str


def group_of(api_version: str) -> ApiGroup:
    """Return the API group, empty for the core one."""
    return ApiGroup(api_version.rpartition("/")[0])


@dataclass(frozen=True, slots=True)
class ScalableKind:
    """A kind of objects with a size, as the API server serves it."""

    api_version: str
    name: str
    plural: str
    namespaced: bool

    @property
    def known(self) -> bool:
        return (group_of(self.api_version), self.name) in KNOWN

    def path(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of all objects of this kind in the namespace."""
        within = f"namespaces/{namespace}/" if self.namespaced else ""
        parts = (f"{_root(self.api_version)}/{within}{self.plural}", name, subresource)
        return "/".join(part for part in parts if part)

    def within(self, namespace: str) -> str:
        """Return where objects of this kind are, in words."""
        return f" in namespace {namespace}" if self.namespaced else ""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who last wrote `.spec.replicas`, as the object's managed fields tell."""

    manager: str
    at: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """Pods that an object was not given: how many, since when, and in whose words."""

    pods: int
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class ScalableState:
    """What is kept of an object.

    `desired` and `ready` are None where only the scale subresource can tell: any kind that is not among the known
    ones may keep its size anywhere; `selector`, which its pods match, may be missing too. `refusal` is what the API
    server says when it takes no more pods of it. `at` is when it was known to be so, by our clock; `order` counts what
    was learnt.
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


async def discover(session: Session, api_version: str, kind: str, timeout_s: float) -> ScalableKind:
    """Return how the API server serves a kind.

    Raises `Misconfigured` where it does not, or the kind has no size.
    """
    what = f"discover {kind} in {api_version}"
    answer = await session.ask(what, "GET", _root(api_version), timeout_s)
    if answer.status == 404:
        raise Misconfigured(f"{what}: the API server does not serve {api_version}: is its operator installed?")
    resources = [r for r in list_of(what, is_accepted(what, answer), "resources") if r.get("kind") == kind]
    found = next((r for r in resources if isinstance(r.get("name"), str) and "/" not in r["name"]), None)
    if found is None:
        raise Misconfigured(f"{what}: {api_version} has no kind {kind}")
    plural = str(found["name"])
    served = {str(r.get("name")) for r in list_of(what, answer.body, "resources")}
    if f"{plural}/scale" not in served:
        raise Misconfigured(f"{what}: {plural} have no scale subresource, so they cannot be resized")
    return ScalableKind(api_version, kind, plural, bool(found.get("namespaced")))


def parse(kind: ScalableKind, body: Mapping[str, Any], at: float) -> ScalableState:
    """Parse an object's state. Raises `Unavailable` for one that no API server would send."""
    with understood(f"an object of {kind.plural}"):
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        ready = status.get("readyReplicas")
        desired = None
        if kind.known:
            desired, ready = whole(f"{kind.plural}: replicas", spec["replicas"]), ready or 0
        return ScalableState(
            name=text_field(metadata, "name"),
            version=text_field(metadata, "resourceVersion"),
            desired=desired,
            ready=None if ready is None else whole(f"{kind.plural}: ready replicas", ready),
            writer=writer_of(metadata.get("managedFields") or ()),
            at=at,
            selector=_selector(spec, status) if kind.known else None,
            refusal=_refusal(desired, status, at),
        )


@dataclass(frozen=True, slots=True)
class Scale:
    """An object's scale subresource. `present` is how many replicas exist, whether ready or not."""

    version: str
    desired: int
    present: int
    selector: Selector | None = None


def scale_of(what: str, body: Mapping[str, Any]) -> Scale:
    """Parse a scale subresource.

    Counts of 0 are left out of its JSON; the API server refuses one without a size.
    """
    with understood(f"{what}: a scale"):
        spec, status = body["spec"], body.get("status") or {}
        return Scale(
            version=text_field(body["metadata"], "resourceVersion"),
            desired=whole(f"{what}: replicas", spec.get("replicas", 0)),
            present=whole(f"{what}: present replicas", status.get("replicas", 0)),
            selector=of_text(status["selector"]) if status.get("selector") else None,
        )


def version_of(event: Mapping[str, Any]) -> str:
    """Return the resource version of the object in a watch's event."""
    with understood("a watch's event"):
        return str(event["object"]["metadata"]["resourceVersion"])


def newer(version: str, than: str) -> bool:
    """Return whether a resource version is at least as new.

    True where they are no numbers and cannot be compared.
    """
    plain = all(v.isdecimal() and len(v) <= MAX_VERSION_CHARS for v in (version, than))
    return int(version) >= int(than) if plain else True


def text_field(body: Mapping[str, Any], key: str) -> str:
    """Return a text in an object. Raises `KeyError` or `TypeError` where there is none."""
    found = body[key]
    if not isinstance(found, str):
        raise TypeError(f"{key} is {found!r}, no text")
    return found


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _selector(spec: Mapping[str, Any], status: Mapping[str, Any]) -> Selector | None:
    """Return the pods' selector; of a LeaderWorkerSet that of its leaders, one a replica."""
    if "hpaPodSelector" in status:
        return of_text(status["hpaPodSelector"])
    return of_object(spec["selector"]) if isinstance(spec.get("selector"), Mapping) else None


def _refusal(desired: int | None, status: Mapping[str, Any], at: float) -> Refusal | None:
    """Return a Deployment's condition that its pods are refused, as for want of a ResourceQuota."""
    conditions: dict[str, Any] = {c.get("type"): c for c in status.get("conditions") or ()}
    condition = conditions.get("ReplicaFailure", {})
    lacking = (desired or 0) - whole("replicas", status.get("replicas", 0))
    if condition.get("status") != "True" or lacking <= 0:
        return None
    return Refusal(lacking, seconds_of(condition.get("lastTransitionTime"), at), str(condition.get("message") or ""))


def writer_of(fields: Any) -> Writer | None:
    """Return the manager of the size that wrote last."""
    owners = [
        Writer(str(entry.get("manager")), str(entry.get("time", "")))
        for entry in fields
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {})
    ]
    return max(owners, key=lambda w: w.at, default=None)
