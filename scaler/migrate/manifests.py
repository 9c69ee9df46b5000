"""Imports Kubernetes manifests as workload files.

It finds the autoscalers, reads them and writes their workloads.
"""

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
from scaler.migrate.autoscaler_ir import Autoscaler, ResizeTarget
from scaler.migrate.findings import Findings, Reporter
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import Credentials, MigrationOptions, credentials

AUTHENTICATIONS: Final = ("TriggerAuthentication", "ClusterTriggerAuthentication")
OWNED: Final = "scaledobject.keda.sh/name"
"""The label of HPAs that KEDA created."""
NAME_LENGTH: Final = 63
HEAD: Final = (
    "Made by `forescale import` from {source}: the policy {kind} repeats that object's algorithm.",
    "Made by `forescale import --native` from {source}: a proposal with Forescale's own policies, for review.",
)
BEFORE: Final = (
    "Try it next to the {what}: forescale run THIS_FILE --dry-run. Before Forescale may resize, delete the {what}:"
    " while it writes sizes, Forescale yields to it."
)


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
    def namespace(self) -> str:
        return str(self.metadata("namespace") or "default")

    @property
    def identity(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, str(self.metadata("name"))

    def location(self) -> str:
        return f"{self.document.file}:{self.document.line(self.place)} {self.kind} {self.metadata('name')}"

    def metadata(self, key: str) -> Any:
        metadata = self.data.get("metadata")
        return metadata.get(key) if isinstance(metadata, dict) else None

    def cursor(self, findings: Findings) -> Cursor:
        return Cursor(Reporter(self.document, findings), self.place, self.data)


@dataclass(frozen=True, slots=True)
class Imported:
    """The workload file, the findings of the import, and the workloads' names."""

    text: str
    findings: Findings
    names: tuple[str, ...]


def read(paths: Sequence[Path], prometheus: str | None, *, native_policies: bool) -> Imported:
    """Import all autoscalers in these files. Raises `ConfigError` with every problem."""
    files, problems = files_of(list(paths))
    findings = Findings(errors=problems)
    objects = [o for file in files for o in _objects(file, findings)]
    known_credentials = dict(_credentials(objects))
    scalers = [o for o in objects if _is_autoscaler(o, objects, findings)]
    if not scalers and not findings.errors:
        rule = "holds no HorizontalPodAutoscaler (autoscaling/v1, v2) and no ScaledObject (keda.sh/v1alpha1)"
        findings.errors.append(
            Problem(", ".join(map(str, files)), 1, "", "", rule, "kubectl get hpa,scaledobject -o yaml")
        )
    names = _names(scalers)
    autoscalers: list[tuple[Object, Autoscaler]] = []
    claims = Claims()
    for o, name in zip(scalers, names, strict=True):
        autoscaler = _autoscaler(
            o, name, MigrationOptions(_target(o, findings), prometheus, known_credentials), findings, native_policies
        )
        target = autoscaler.target
        resized = object_target(KubeCluster(), target.api_version, target.kind, target.namespace, target.name)
        if broken_rule := claims.claim([resized], o.location):
            autoscaler.reporter.error((*autoscaler.place, "scaleTargetRef"), broken_rule, "import one of the two")
        if autoscaler.min_replicas > autoscaler.max_replicas:
            rule = f"the minimum, {autoscaler.min_replicas}, is above the maximum, {autoscaler.max_replicas}"
            autoscaler.reporter.error(autoscaler.place, rule)
        if not autoscaler.signals and not autoscaler.schedules:
            rule = "has no metric or trigger that the import supports"
            autoscaler.reporter.error(autoscaler.place, rule, "see the finding for each metric or trigger")
            continue
        autoscalers.append((o, autoscaler))
    # No workload is written after an error: an invalid value has no replacement.
    texts = (
        [] if findings.errors else [_text(o, autoscaler, prometheus, native_policies) for o, autoscaler in autoscalers]
    )
    if findings.errors:
        raise ConfigError([*findings.errors, *findings.lost])
    return Imported("---\n".join(texts), findings, tuple(names))


def _text(o: Object, autoscaler: Autoscaler, prometheus: str | None, native_policies: bool) -> str:
    workload = (native if native_policies else equivalent).block(autoscaler, prometheus)
    source = f"{o.kind} {autoscaler.target.namespace}/{o.metadata('name')}"
    head = [HEAD[native_policies].format(source=source, kind=autoscaler.kind), BEFORE.format(what=o.kind)]
    return yaml_writer.document(head, workload)


def _objects(file: Path, findings: Findings) -> Iterator[Object]:
    """Yield the objects of a file, and the items of its lists."""
    documents, problems = read_yaml(file, old_numbers=True)
    for problem in problems:
        hint = "render the template first: helm template" if _is_template(file) else problem.hint
        findings.errors.append(Problem(problem.file, problem.line, problem.path, problem.value, problem.rule, hint))
    for document in documents:
        if not isinstance(document.data, dict) or "kind" not in document.data:
            findings.errors.append(document.problem((), "is not a Kubernetes object: it has no kind"))
        elif str(document.data["kind"]) in {"List", "HorizontalPodAutoscalerList", "ScaledObjectList"}:
            items = document.data.get("items") or []
            if not isinstance(items, list):
                findings.errors.append(document.problem(("items",), "must be a list"))
                continue
            for i, item in enumerate(items):
                if isinstance(item, dict):
                    yield Object(document, ("items", i), item)
                else:
                    findings.errors.append(document.problem(("items", i), "must be a mapping"))
        else:
            yield Object(document, (), document.data)


def _is_template(file: Path) -> bool:
    try:
        return b"{{" in read_bytes(file)
    except Unreadable:
        return False


def _is_autoscaler(o: Object, objects: Sequence[Object], findings: Findings) -> bool:
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
        reporter.lost((*o.place, "kind"), rule, f"supported: ScaledObject of {keda.VERSION}", o.kind)
    return False


def _is_owned_by_keda(o: Object, objects: Sequence[Object], reporter: Reporter) -> bool:
    """Return whether KEDA created an HPA. Its ScaledObject is imported in its place."""
    labels = o.metadata("labels")
    owner = labels.get(OWNED) if isinstance(labels, dict) else None
    if owner is None:
        return False
    if any(other.kind == "ScaledObject" and other.identity == (o.namespace, owner) for other in objects):
        reporter.differs(
            (*o.place, "metadata", "labels"),
            f"KEDA's own HPA of ScaledObject {owner}, which is imported instead",
        )
    else:
        rule = f"KEDA's own HPA of ScaledObject {owner}"
        reporter.error(
            (*o.place, "metadata", "labels"), rule, f"import that object: kubectl get scaledobject {owner} -o yaml"
        )
    return True


def _credentials(objects: Sequence[Object]) -> Iterator[tuple[tuple[str, str, str], Credentials]]:
    for o in objects:
        if o.kind in AUTHENTICATIONS:
            cursor = Cursor(Reporter(o.document, Findings()), o.place, o.data)
            namespace = "" if o.kind.startswith("Cluster") else o.namespace
            name = str(o.metadata("name"))
            yield (o.kind, namespace, name), credentials(cursor, o.kind, name)


def _target(o: Object, findings: Findings) -> ResizeTarget:
    spec = o.cursor(findings).mapping("spec", required=True)
    defaults = ("apps/v1", "Deployment") if o.kind == "ScaledObject" else (None, None)
    return hpa.target_of(spec, o.namespace, *defaults)


def _autoscaler(
    o: Object, name: str, options: MigrationOptions, findings: Findings, native_policies: bool
) -> Autoscaler:
    root = o.cursor(findings)
    spec = Cursor(root.reporter, (*o.place, "spec"), o.data["spec"] if isinstance(o.data.get("spec"), dict) else {})
    if o.kind == "ScaledObject":
        return keda.read(root, spec, name, options, native=native_policies)
    return hpa.read(root, spec, name, options)


def _names(scalers: Sequence[Object]) -> list[str]:
    """Return a workload's name for each object.

    It is the object's own name, with the namespace where that is not unique.
    """
    own_names = [_label(str(o.metadata("name") or "workload")) for o in scalers]
    names: list[str] = []
    for o, name in zip(scalers, own_names, strict=True):
        candidate = name if own_names.count(name) == 1 else _label(f"{o.namespace}-{name}")
        n = 2
        while candidate in names:
            candidate, n = _label(f"{name[: NAME_LENGTH - 4]}-{n}"), n + 1
        names.append(candidate)
    return names


def _label(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower())[:NAME_LENGTH].strip("-") or "workload"
