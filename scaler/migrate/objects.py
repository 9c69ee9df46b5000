"""The Kubernetes objects in YAML documents, and the autoscalers among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scaler.config.document import Document
from scaler.config.yaml_composer import Place
from scaler.migrate import hpa, keda
from scaler.migrate.findings import Findings, Reporter
from scaler.migrate.manifest_keys import KEYS
from scaler.migrate.manifest_reader import Cursor

AUTHENTICATIONS: Final = ("TriggerAuthentication", "ClusterTriggerAuthentication")
AUTOSCALERS: Final = frozenset({"HorizontalPodAutoscaler", "ScaledObject", "ScaledJob"})
LISTS: Final = frozenset({"List", "HorizontalPodAutoscalerList", "ScaledObjectList"})
OWNER_LABEL: Final = "scaledobject.keda.sh/name"
OWNED_PREFIX: Final = "keda-hpa-"
"""The label, and the default prefix of the name, of HPAs that KEDA creates."""


@dataclass(frozen=True, slots=True)
class Object:
    """One Kubernetes object, with its place in a document."""

    document: Document
    place: Place
    data: dict[str, Any]

    @property
    def version(self) -> str:
        return str(self.data.get("apiVersion", ""))

    @property
    def kind(self) -> str:
        return str(self.data.get("kind", ""))

    @property
    def name(self) -> str:
        """The object's name; empty where it has none."""
        name = self.metadata("name")
        return name if isinstance(name, str) else ""

    @property
    def namespace(self) -> str:
        return str(self.metadata("namespace") or "default")

    @property
    def names(self) -> frozenset[str]:
        """Names by which a person can leave the object out; empty where it has none."""
        return frozenset({self.name, f"{self.namespace}/{self.name}"} if self.name else ())

    def location(self) -> str:
        """Return its place in the manifests with kind and name.

        An object of a cluster has no place.
        """
        place = self.document.location(self.place)
        return f"{place} {self.kind} {self.name}" if self.document.line(self.place) else place

    def metadata(self, key: str) -> Any:
        metadata = self.data.get("metadata")
        return metadata.get(key) if isinstance(metadata, dict) else None

    def cursor(self, findings: Findings) -> Cursor:
        reporter = Reporter(self.document, findings)
        return Cursor(reporter, self.place, self.data, levels=KEYS.get(self.kind, {}), root=self.place)


def objects_of(documents: Iterable[Document], findings: Findings) -> Iterator[Object]:
    """Yield the objects of documents, and the items of their lists."""
    for document in documents:
        if not isinstance(document.data, dict) or "kind" not in document.data:
            findings.errors.append(document.problem((), "is not a Kubernetes object: it has no kind"))
        elif str(document.data["kind"]) in LISTS:
            yield from _items(document, findings)
        else:
            yield Object(document, (), document.data)


def _items(document: Document, findings: Findings) -> Iterator[Object]:
    items = document.data.get("items") or []
    if not isinstance(items, list):
        findings.errors.append(document.problem(("items",), "must be a list"))
        return
    for i, item in enumerate(items):
        if isinstance(item, dict):
            yield Object(document, ("items", i), item)
        else:
            findings.errors.append(document.problem(("items", i), "must be a mapping"))


def is_autoscaler(o: Object, objects: Sequence[Object], findings: Findings) -> bool:
    """Return whether an object is an autoscaler that can be imported.

    Other autoscalers are reported.
    """
    reporter = Reporter(o.document, findings)
    if o.kind == "HorizontalPodAutoscaler":
        if o.version not in hpa.VERSIONS:
            rule = f"must be one of {', '.join(hpa.VERSIONS)}"
            reporter.error((*o.place, "apiVersion"), rule, "kubectl get hpa.v2.autoscaling -o yaml", o.version)
            return False
        return not _is_owned_by_keda(o, objects, reporter)
    if o.version.startswith("keda.sh/") and o.kind not in AUTHENTICATIONS:
        if o.kind == "ScaledObject" and o.version == keda.VERSION:
            return True
        rule = "is not supported" + (": a ScaledJob starts jobs and has no size" if o.kind == "ScaledJob" else "")
        hint = f"supported: ScaledObject of {keda.VERSION}"
        reporter.lost((*o.place, "kind"), rule, hint, o.kind, (o.kind,))
    return False


def _is_owned_by_keda(o: Object, objects: Sequence[Object], reporter: Reporter) -> bool:
    """Return whether KEDA created an HPA. Its ScaledObject is imported in its place."""
    scaled = {other.name for other in objects if other.kind == "ScaledObject" and other.namespace == o.namespace}
    owner = _owner(o, scaled)
    if owner is None:
        return False
    rule = f"is KEDA's own HPA of ScaledObject {owner}"
    if owner in scaled:
        reporter.differs((*o.place, "metadata"), f"{rule}, which counts instead")
    else:
        hint = f"import that object: kubectl get scaledobject {owner} -o yaml"
        reporter.error((*o.place, "metadata"), rule, hint)
    return True


def _owner(o: Object, scaled: set[str]) -> str | None:
    """Return the name of the ScaledObject that owns an HPA.

    It is in the label, the owner or the name of the HPA.
    """
    labels, owners = o.metadata("labels"), o.metadata("ownerReferences")
    if isinstance(labels, dict) and labels.get(OWNER_LABEL) is not None:
        return str(labels[OWNER_LABEL])
    for owner in owners if isinstance(owners, list) else ():
        if isinstance(owner, dict) and owner.get("kind") == "ScaledObject":
            return str(owner.get("name"))
    by_name = o.name.removeprefix(OWNED_PREFIX)
    return by_name if by_name != o.name and by_name in scaled else None
