"""A workload that a custom resource, or a key of a ConfigMap, defines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policies.model.spec import WorkloadSpec
from scaler.config.cluster_workloads import KubernetesWorkloads
from scaler.config.custom_resource import KIND
from scaler.config.derived import Finding
from scaler.config.document import Document, parse
from scaler.config.load import Workload, file_rules, workload_in
from scaler.config.problems import ConfigError, Problem
from scaler.config.tenancy import namespace_problems, own_settings

CONFIG_MAP: Final = "ConfigMap"


@dataclass(frozen=True, slots=True, order=True)
class Origin:
    """The place of a definition; `key` is that of a ConfigMap's data, else empty."""

    kind: str
    namespace: str
    name: str
    key: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" + (f" {self.key}" if self.key else "")


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition as the API server shows it.

    `content` is the specification of a Workload, or the text of a ConfigMap's key. `created` is the object's creation
    time. `status` is the stored status of a Workload.
    """

    uid: str

    origin: Origin
    content: Any
    created: str
    generation: int | None = None
    status: Mapping[str, Any] = field(default_factory=dict, compare=False)


def workload_of(definition: Definition, settings: KubernetesWorkloads) -> Workload:
    """Return the workload that an object defines. Raises `ConfigError`.

    Its name is NAMESPACE.NAME.
    """
    origin = definition.origin
    document = _document(definition)

    def rules(spec: WorkloadSpec) -> Iterator[Finding]:
        if origin.namespace not in settings.trusted_namespaces:
            problems = list(namespace_problems(spec, origin.namespace, settings.cluster))
            if problems:  # before other rules: they would show whether a secret of the daemon exists
                yield from problems
                return
        yield from file_rules(spec)

    data = own_settings(document.data, origin.namespace, settings.cluster)
    return workload_in(Document(document.file, data, document.lines), rules)


def _document(definition: Definition) -> Document:
    """Return the document, whose workload has its full name. Raises `ConfigError`."""
    origin = definition.origin
    if origin.kind == KIND:
        document = Document(str(origin), definition.content, {(): 0})
        name = definition.content.get("workload", origin.name)
        if name != origin.name:
            rule = f"must be absent or {origin.name}, the name of the object"
            raise ConfigError([document.problem(("workload",), rule, "remove it", name)])
    else:
        document = _only_document(origin, definition.content)
        name = document.data.get("workload")
        if not isinstance(name, str):
            return document
    return Document(document.file, {**document.data, "workload": f"{origin.namespace}.{name}"}, document.lines)


def _only_document(origin: Origin, text: str) -> Document:
    documents, problems = parse(str(origin), text)
    if problems:
        raise ConfigError(problems)
    if len(documents) != 1 or not isinstance(documents[0].data, dict):
        rule = f"has {len(documents)} documents, and must have one, which is a workload"
        raise ConfigError([Problem(str(origin), 1, "", "", rule, "use one key of the ConfigMap for each workload")])
    if "daemon" in documents[0].data:
        rule, hint = "must not be in a ConfigMap of workloads", "set it in the daemon's own files"
        raise ConfigError([documents[0].problem(("daemon",), rule, hint)])
    return documents[0]
