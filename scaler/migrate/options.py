"""Inputs of reading an autoscaler in addition to its manifest.

They are the target, a Prometheus server, and credentials by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaler.migrate.autoscaler_ir import ResizeTarget, SourceDraft
from scaler.migrate.findings import Remark
from scaler.migrate.manifest_reader import Cursor


@dataclass(frozen=True, slots=True)
class Credentials:
    """A TriggerAuthentication: the place of each parameter, or a pod's identity.

    It contains no secrets.
    """

    kind: str
    name: str
    parameters: Mapping[str, str]
    identity: str

    def summary(self) -> str:
        parts = [f"{parameter} from {place}" for parameter, place in self.parameters.items()]
        parts += [f"pod identity {self.identity}"] if self.identity else []
        return f"{self.kind} {self.name}" + (f" ({'; '.join(parts)})" if parts else "")


@dataclass(slots=True)
class MigrationOptions:
    """Options and state of reading one autoscaler.

    `quantity_names` are the names already in use. With `totals` the pods' CPU and memory are read as totals, for a
    policy that divides every metric by its replicas.
    """

    target: ResizeTarget
    prometheus: str | None
    credentials: Mapping[tuple[str, str, str], Credentials]
    quantity_names: set[str] = field(default_factory=set)
    totals: bool = False

    def server(self, cursor: Cursor, key: str, api: str) -> SourceDraft:
        """Return the command line's Prometheus server as a source.

        It is the source of a metric of Kubernetes' metrics API.
        """
        if self.prometheus is None:
            rule = f"comes from Kubernetes' metrics API ({api}), which Forescale does not read"
            cursor.reporter.error(cursor.place_of(key), rule, "add --prometheus URL of a server with the same series")
        return SourceDraft("prometheus", (("url", self.prometheus or "http://prometheus"),))


def credentials(root: Cursor, kind: str, name: str) -> Credentials:
    """Return the credentials of a TriggerAuthentication."""
    spec = root.mapping("spec")
    parameters: dict[str, str] = {}
    for item in spec.items("secretTargetRef"):
        parameters[item.text("parameter") or "?"] = f"secret {item.text('name')}, key {item.text('key')}"
    for item in spec.items("configMapTargetRef"):
        parameters[item.text("parameter") or "?"] = f"config map {item.text('name')}, key {item.text('key')}"
    for item in spec.items("env"):
        parameters[item.text("parameter") or "?"] = f"variable {item.text('name')} of the target's container"
    for key in ("hashiCorpVault", "azureKeyVault", "gcpSecretManager", "awsSecretManager"):
        if spec.has(key):
            parameters["secrets"] = key
    return Credentials(kind, name, parameters, spec.mapping("podIdentity").text("provider") or "")


def authentication(trigger: Cursor, options: MigrationOptions) -> tuple[Credentials | None, list[Remark]]:
    """Return the credentials that a trigger refers to, and a remark that they are not copied."""
    if not trigger.has("authenticationRef"):
        trigger.skip("authenticationRef")
        return None, []
    ref = trigger.mapping("authenticationRef")
    name, kind = ref.text("name", required=True) or "", ref.text("kind", "TriggerAuthentication") or ""
    namespace = "" if kind.startswith("Cluster") else options.target.namespace
    known = options.credentials.get((kind, namespace, name))
    rule = f"uses {known.summary() if known else f'{kind} {name}'}: secrets are never copied"
    hint = "give the daemon its own identity, or set the source's secret as {env: NAME} or {file: PATH}"
    return known, [trigger.reporter.differs(trigger.place_of("authenticationRef"), rule, hint)]
