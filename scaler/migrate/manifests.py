"""Imports Kubernetes manifests as workload files.

Each autoscaler becomes a workload by itself: an error in one of them does not prevent the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policies.model.pool import Target
from scaler.clouds.kubernetes.cluster import KubeCluster, object_target
from scaler.config.document import Document
from scaler.config.problems import ConfigError, Problem
from scaler.config.resize_claims import Claims
from scaler.config.yaml_composer import dotted
from scaler.migrate import equivalent, hpa, keda, native, yaml_writer
from scaler.migrate.autoscaler_ir import Autoscaler, ResizeTarget
from scaler.migrate.findings import Findings, Reporter
from scaler.migrate.inputs import documents_of
from scaler.migrate.manifest_keys import ROOT
from scaler.migrate.objects import AUTHENTICATIONS, AUTOSCALERS, Object, is_autoscaler, objects_of
from scaler.migrate.options import Credentials, MigrationOptions, credentials

NAME_LENGTH: Final = 63
HEAD: Final = (
    "Made by `forescale import` from {source}: the policy {kind} repeats that object's algorithm.",
    "Made by `forescale import --native` from {source}: a proposal with Forescale's own policies, for review.",
)
BEFORE: Final = (
    "Try it next to the {what}: forescale run THIS_FILE --dry-run. Before Forescale may resize, delete the {what}:"
    " while it writes sizes, Forescale yields to it."
)
NONE: Final = "holds no HorizontalPodAutoscaler (autoscaling/v1, v2) and no ScaledObject (keda.sh/v1alpha1)"


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How manifests are imported.

    `skip` are names of objects to leave out, and of omissions that are accepted.
    """

    prometheus: str | None = None
    native_policies: bool = False
    skip: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ImportedWorkload:
    """A workload's name, the text of its file, and the object that it comes from."""

    name: str
    text: str
    origin: Object


@dataclass(frozen=True, slots=True)
class Imported:
    """The workloads, the findings of the import, and the number of autoscalers in the manifests."""

    workloads: tuple[ImportedWorkload, ...]
    findings: Findings
    autoscalers: int

    @property
    def text(self) -> str:
        """All workloads as one file."""
        return "---\n".join(workload.text for workload in self.workloads)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(workload.name for workload in self.workloads)


@dataclass(slots=True)
class Draft:
    """An autoscaler object that is being imported, with its own findings."""

    origin: Object
    name: str
    autoscaler: Autoscaler
    findings: Findings
    excluded: bool = False
    """Whether no workload can be made of it. Its findings or those of another object give the reason."""


def read(paths: Sequence[Path], prometheus: str | None, *, native_policies: bool) -> Imported:
    """Import the autoscalers in files, as `convert` does."""
    documents, problems = documents_of(paths)
    return convert(documents, Findings(errors=problems), ImportOptions(prometheus, native_policies))


def convert(documents: Sequence[Document], findings: Findings, options: ImportOptions) -> Imported:
    """Import the autoscalers in documents, and add to the findings of reading them.

    Raises `ConfigError` with every problem where no workload can be made.
    """
    objects = list(objects_of(documents, findings))
    left_out = [o for o in objects if o.kind in AUTOSCALERS and not options.skip.isdisjoint(o.names)]
    for o in left_out:
        names = tuple(o.names & options.skip)
        Reporter(o.document, findings).lost((*o.place, "metadata", "name"), "is left out", "", o.name, names)
    scalers = [o for o in objects if o not in left_out and is_autoscaler(o, objects, findings)]
    if not scalers and not findings.errors and not findings.lost:
        files = ", ".join(dict.fromkeys(document.file for document in documents if document.line(())))
        origin, line = (files, 1) if files else ("the cluster", 0)
        findings.errors.append(Problem(origin, line, "", "", NONE, "kubectl get hpa,scaledobject -o yaml"))
    known_credentials = dict(_credentials(objects))
    drafts = [_draft(o, name, options, known_credentials) for o, name in zip(scalers, _names(scalers), strict=True)]
    _exclude_shared_targets(drafts)
    workloads = tuple(_workload(draft, options) for draft in drafts if not draft.excluded)
    for draft in drafts:
        draft.findings.differs = [] if draft.excluded else draft.findings.differs
        findings.extend(draft.findings)
    findings.accept(options.skip)
    return require_workloads(Imported(workloads, findings, len(scalers) + len(left_out)))


def require_workloads(imported: Imported) -> Imported:
    """Return an import that made at least one workload.

    Raises `ConfigError` with every problem for another one.
    """
    if imported.workloads:
        return imported
    findings = imported.findings
    left_out = Problem("--skip", 0, "", "", "leaves nothing to import", "remove one of the names")
    raise ConfigError([*findings.errors, *findings.lost] or [left_out])


def _draft(
    o: Object, name: str, options: ImportOptions, known_credentials: dict[tuple[str, str, str], Credentials]
) -> Draft:
    """Read one autoscaler.

    Its draft is excluded where it has an error, or no trigger that the import supports.
    """
    findings = Findings()
    if not o.name:
        rule = "is required" if o.metadata("name") is None else "must be text"
        place = (*o.place, "metadata", "name")
        Reporter(o.document, findings).error(place, rule, "a workload is named after its object")
    migration = MigrationOptions(_target(o, findings), options.prometheus, known_credentials)
    autoscaler = _autoscaler(o, name, migration, findings, options.native_policies)
    if autoscaler.min_replicas > autoscaler.max_replicas:
        rule = f"the minimum, {autoscaler.min_replicas}, is above the maximum, {autoscaler.max_replicas}"
        autoscaler.reporter.error(autoscaler.place, rule)
    has_policy = bool(autoscaler.signals or autoscaler.schedules)
    if not has_policy:
        _report_no_policy(autoscaler, findings)
    return Draft(o, name, autoscaler, findings, excluded=bool(findings.errors) or not has_policy)


def _report_no_policy(autoscaler: Autoscaler, findings: Findings) -> None:
    """Report an autoscaler without a supported trigger.

    It is an omission by its triggers' names, or an error where it has no trigger.
    """
    rule, hint = "has no metric or trigger that the import supports", "see the finding for each metric or trigger"
    below = tuple(f"{dotted((*autoscaler.place, key))}[" for key in ("metrics", "triggers"))
    names = dict.fromkeys(name for lost in findings.lost if lost.path.startswith(below) for name in lost.names)
    if names:
        autoscaler.reporter.lost(autoscaler.place, f"{rule}: no workload is made of it", hint, names=tuple(names))
    else:
        autoscaler.reporter.error(autoscaler.place, rule, hint)


def _exclude_shared_targets(drafts: Sequence[Draft]) -> None:
    """Exclude autoscalers that resize the same object: only a person knows which of them counts."""
    claims = Claims()
    holders: dict[Target, Draft] = {}
    for draft in drafts:
        target = draft.autoscaler.target
        if not target.name:
            continue
        resized = object_target(KubeCluster(), target.api_version, target.kind, target.namespace, target.name)
        first = holders.setdefault(resized, draft)
        if broken_rule := claims.claim([resized], draft.origin.location):
            names = " or ".join(f"--skip {d.origin.namespace}/{d.origin.name}" for d in (first, draft))
            place = (*draft.autoscaler.place, "scaleTargetRef")
            draft.autoscaler.reporter.error(
                place, f"{broken_rule}; neither is imported", f"import one of the two: {names}"
            )
            first.excluded = draft.excluded = True


def _workload(draft: Draft, options: ImportOptions) -> ImportedWorkload:
    o, autoscaler = draft.origin, draft.autoscaler
    workload = (native if options.native_policies else equivalent).block(autoscaler)
    source = f"{o.kind} {autoscaler.target.namespace}/{o.name}"
    head = [HEAD[options.native_policies].format(source=source, kind=autoscaler.kind), BEFORE.format(what=o.kind)]
    return ImportedWorkload(draft.name, yaml_writer.document(head, workload), o)


def _credentials(objects: Sequence[Object]) -> Iterator[tuple[tuple[str, str, str], Credentials]]:
    for o in objects:
        if o.kind in AUTHENTICATIONS:
            cursor = o.cursor(Findings())
            namespace = "" if o.kind.startswith("Cluster") else o.namespace
            yield (o.kind, namespace, o.name), credentials(cursor, o.kind, o.name)


def _target(o: Object, findings: Findings) -> ResizeTarget:
    spec = o.cursor(findings).mapping("spec", required=True)
    defaults = ("apps/v1", "Deployment") if o.kind == "ScaledObject" else (None, None)
    return hpa.target_of(spec, o.namespace, *defaults)


def _autoscaler(
    o: Object, name: str, options: MigrationOptions, findings: Findings, native_policies: bool
) -> Autoscaler:
    root = o.cursor(findings)
    spec = root.below((*o.place, "spec"), o.data["spec"] if isinstance(o.data.get("spec"), dict) else {})
    root.skip(*ROOT)
    unread = list(root.unread())
    if o.kind == "ScaledObject":
        autoscaler = keda.read(root, spec, name, options, native=native_policies)
    else:
        autoscaler = hpa.read(root, spec, name, options)
    autoscaler.remark("", *unread)
    return autoscaler


def _names(scalers: Sequence[Object]) -> list[str]:
    """Return a workload's name for each object.

    It is the object's own name, with the namespace where that is not unique.
    """
    own_names = [_label(o.name) for o in scalers]
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
