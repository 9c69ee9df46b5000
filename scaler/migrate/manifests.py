"""Kubernetes manifests to workload files: which documents are autoscalers, and what becomes of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster, object_target
from scaler.config.document import Document
from scaler.config.document import read as read_yaml
from scaler.config.files import Unreadable, files_of, read_bytes
from scaler.config.problems import ConfigError, Problem
from scaler.config.resize_claims import Claims
from scaler.config.yaml_composer import Place
from scaler.migrate import equivalent, hpa, keda, native, yaml_writer
from scaler.migrate.autoscaler_ir import ResizeTarget, Scaled
from scaler.migrate.findings import Notes, Voice
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import Credentials, MigrationOptions, credentials

AUTHENTICATIONS: Final = ("TriggerAuthentication", "ClusterTriggerAuthentication")
OWNED: Final = "scaledobject.keda.sh/name"
"""The label by which KEDA's own HPAs are known."""
NAME_LENGTH: Final = 63
HEAD: Final = (
    "Made by `forescale import` from {source}: it does what that object does today, by the policy {kind}.",
    "Made by `forescale import --native` from {source}: a proposal by this daemon's own policies, to be looked at.",
)
BEFORE: Final = (
    "Try it beside what runs: forescale run THIS_FILE --dry-run. Before it may resize, delete the {what}, or it goes on"
    " writing its own size and this daemon yields to it."
)


@dataclass(frozen=True, slots=True)
class Object:
    """One Kubernetes object, and where it stands."""

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
    def namespace(self) -> str:
        return str(self.metadata("namespace") or "default")

    @property
    def identity(self) -> tuple[str, str]:
        """Its namespace and name."""
        return self.namespace, str(self.metadata("name"))

    def where(self) -> str:
        return f"{self.document.file}:{self.document.line(self.place)} {self.kind} {self.metadata('name')}"

    def metadata(self, key: str) -> Any:
        metadata = self.data.get("metadata")
        return metadata.get(key) if isinstance(metadata, dict) else None

    def cursor(self, notes: Notes) -> Cursor:
        return Cursor(Voice(self.document, notes), self.place, self.data)


@dataclass(frozen=True, slots=True)
class Imported:
    """The workload file, what of it is not as today, and the workloads' names."""

    text: str
    notes: Notes
    names: tuple[str, ...]


def read(paths: Sequence[Path], prometheus: str | None, *, native_policies: bool) -> Imported:
    """Return the workloads of all autoscalers in these files. Raises `ConfigError` with every problem found."""
    files, problems = files_of(list(paths))
    notes = Notes(errors=problems)
    objects = [o for file in files for o in _objects(file, notes)]
    known = dict(_credentials(objects))
    scalers = [o for o in objects if _scales(o, objects, notes)]
    if not scalers and not notes.errors:
        rule = "holds no HorizontalPodAutoscaler (autoscaling/v1, v2) and no ScaledObject (keda.sh/v1alpha1)"
        notes.errors.append(
            Problem(", ".join(map(str, files)), 1, "", "", rule, "kubectl get hpa,scaledobject -o yaml")
        )
    names = _names(scalers)
    made: list[tuple[Object, Scaled]] = []
    claims = Claims()
    for o, name in zip(scalers, names, strict=True):
        scaled = _scaled(o, name, MigrationOptions(_target(o, notes), prometheus, known), notes, native_policies)
        target = scaled.target
        resized = object_target(KubeCluster(), target.api_version, target.kind, target.namespace, target.name)
        if broken := claims.claim([resized], o.where):
            scaled.voice.error((*scaled.place, "scaleTargetRef"), broken, "import one of the two")
        if scaled.min_replicas > scaled.max_replicas:
            scaled.voice.error(scaled.place, f"its least, {scaled.min_replicas}, is above its most")
        if not scaled.signals and not scaled.clocks:
            rule = "leaves nothing that Forescale could decide by: none of its metrics or triggers is read"
            scaled.voice.error(scaled.place, rule, "see the remarks on each")
            continue
        made.append((o, scaled))
    # Only what was read without an error is written: a value in error has nothing that could stand in its place.
    texts = [] if notes.errors else [_text(o, scaled, prometheus, native_policies) for o, scaled in made]
    if notes.errors:
        raise ConfigError([*notes.errors, *notes.lost])
    return Imported("---\n".join(texts), notes, tuple(names))


def _text(o: Object, scaled: Scaled, prometheus: str | None, native_policies: bool) -> str:
    made = (native if native_policies else equivalent).block(scaled, prometheus)
    what = f"{o.kind} {scaled.target.namespace}/{o.metadata('name')}"
    head = [HEAD[native_policies].format(source=what, kind=scaled.kind), BEFORE.format(what=o.kind)]
    return yaml_writer.document(head, made)


def _objects(file: Path, notes: Notes) -> Iterator[Object]:
    """Yield the objects of a file, those in lists one by one."""
    documents, problems = read_yaml(file, old_numbers=True)
    for problem in problems:
        hint = "render it first: helm template" if _is_template(file) else problem.hint
        notes.errors.append(Problem(problem.file, problem.line, problem.path, problem.value, problem.rule, hint))
    for document in documents:
        if not isinstance(document.data, dict) or "kind" not in document.data:
            notes.errors.append(document.problem((), "is no Kubernetes object: it has no kind"))
        elif str(document.data["kind"]) in {"List", "HorizontalPodAutoscalerList", "ScaledObjectList"}:
            items = document.data.get("items") or []
            if not isinstance(items, list):
                notes.errors.append(document.problem(("items",), "must be a list"))
                continue
            for i, item in enumerate(items):
                if isinstance(item, dict):
                    yield Object(document, ("items", i), item)
                else:
                    notes.errors.append(document.problem(("items", i), "must be a mapping"))
        else:
            yield Object(document, (), document.data)


def _is_template(file: Path) -> bool:
    try:
        return b"{{" in read_bytes(file)
    except Unreadable:
        return False


def _scales(o: Object, objects: Sequence[Object], notes: Notes) -> bool:
    """Return whether an object is an autoscaler that is read; what cannot be is told."""
    voice = Voice(o.document, notes)
    if o.kind == "HorizontalPodAutoscaler":
        if o.version not in hpa.VERSIONS:
            rule = f"must be one of {', '.join(hpa.VERSIONS)}"
            voice.error((*o.place, "apiVersion"), rule, "kubectl get hpa.v2.autoscaling -o yaml", o.version)
            return False
        return not _kedas(o, objects, voice)
    if o.version.startswith("keda.sh/") and o.kind not in AUTHENTICATIONS:
        if o.kind == "ScaledObject" and o.version == keda.VERSION:
            return True
        rule = "is not read: a ScaledJob starts jobs, and sizes nothing" if o.kind == "ScaledJob" else "is not read"
        voice.lost((*o.place, "kind"), rule, f"ScaledObject of {keda.VERSION} is", o.kind)
    return False


def _kedas(o: Object, objects: Sequence[Object], voice: Voice) -> bool:
    """Return whether an HPA is one that KEDA made: its ScaledObject says more."""
    labels = o.metadata("labels")
    owner = labels.get(OWNED) if isinstance(labels, dict) else None
    if owner is None:
        return False
    if any(other.kind == "ScaledObject" and other.identity == (o.namespace, owner) for other in objects):
        voice.differs((*o.place, "metadata", "labels"), f"is KEDA's own HPA of ScaledObject {owner}, which is imported")
    else:
        rule = f"is KEDA's own HPA of ScaledObject {owner}"
        voice.error((*o.place, "metadata", "labels"), rule, f"import that: kubectl get scaledobject {owner} -o yaml")
    return True


def _credentials(objects: Sequence[Object]) -> Iterator[tuple[tuple[str, str, str], Credentials]]:
    for o in objects:
        if o.kind in AUTHENTICATIONS:
            quiet = Cursor(Voice(o.document, Notes()), o.place, o.data)
            space = "" if o.kind.startswith("Cluster") else o.namespace
            name = str(o.metadata("name"))
            yield (o.kind, space, name), credentials(quiet, o.kind, name)


def _target(o: Object, notes: Notes) -> ResizeTarget:
    spec = o.cursor(notes).below("spec", required=True)
    defaults = ("apps/v1", "Deployment") if o.kind == "ScaledObject" else (None, None)
    return hpa.target_of(spec, o.namespace, *defaults)


def _scaled(o: Object, name: str, given: MigrationOptions, notes: Notes, native_policies: bool) -> Scaled:
    found = o.cursor(notes)
    spec = Cursor(found.voice, (*o.place, "spec"), o.data["spec"] if isinstance(o.data.get("spec"), dict) else {})
    if o.kind == "ScaledObject":
        return keda.read(found, spec, name, given, native=native_policies)
    return hpa.read(found, spec, name, given)


def _names(scalers: Sequence[Object]) -> list[str]:
    """Return a workload's name for each: the object's own, with its namespace where two have one name."""
    plain = [_label(str(o.metadata("name") or "workload")) for o in scalers]
    names: list[str] = []
    for o, name in zip(scalers, plain, strict=True):
        found = name if plain.count(name) == 1 else _label(f"{o.namespace}-{name}")
        n = 2
        while found in names:
            found, n = _label(f"{name[: NAME_LENGTH - 4]}-{n}"), n + 1
        names.append(found)
    return names


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())[:NAME_LENGTH].strip("-") or "workload"
