"""What a trigger or metric may need beside its own text: the target, a Prometheus server, credentials by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaler.migrate.autoscaler_ir import ResizeTarget, SourceDraft
from scaler.migrate.findings import Remark
from scaler.migrate.manifest_reader import Cursor


@dataclass(frozen=True, slots=True)
class Credentials:
    """A TriggerAuthentication, by what it names: parameters and where each is kept, or a pod's identity. No secrets."""

    kind: str
    name: str
    parameters: Mapping[str, str]
    identity: str

    def words(self) -> str:
        parts = [f"{parameter} from {where}" for parameter, where in self.parameters.items()]
        parts += [f"pod identity {self.identity}"] if self.identity else []
        return f"{self.kind} {self.name}" + (f" ({'; '.join(parts)})" if parts else "")


@dataclass(slots=True)
class MigrationOptions:
    """What the reading of one autoscaler shares.

    `names` are the quantities' that are taken. With `totals` the pods' CPU and memory are read as totals, for a policy
    that shares every metric out over its replicas.
    """

    target: ResizeTarget
    prometheus: str | None
    credentials: Mapping[tuple[str, str, str], Credentials]
    names: set[str] = field(default_factory=set)
    totals: bool = False

    def server(self, at: Cursor, key: str, what: str) -> SourceDraft:
        """Return the Prometheus server given on the command line, for what Kubernetes has from its metrics API."""
        if self.prometheus is None:
            rule = f"comes from Kubernetes' metrics API ({what}), which this daemon does not read"
            at.voice.error(at.at(key), rule, "give --prometheus URL of a server that holds the same series")
        return SourceDraft("prometheus", (("url", self.prometheus or "http://prometheus"),))


def credentials(found: Cursor, kind: str, name: str) -> Credentials:
    """Return what a TriggerAuthentication names."""
    spec = found.below("spec")
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
    return Credentials(kind, name, parameters, spec.below("podIdentity").text("provider") or "")


def authentication(trigger: Cursor, given: MigrationOptions) -> tuple[Credentials | None, list[Remark]]:
    """Return the credentials that a trigger names, and a remark that they are named and not copied."""
    if not trigger.has("authenticationRef"):
        trigger.skip("authenticationRef")
        return None, []
    ref = trigger.below("authenticationRef")
    name, kind = ref.text("name", required=True) or "", ref.text("kind", "TriggerAuthentication") or ""
    space = "" if kind.startswith("Cluster") else given.target.namespace
    found = given.credentials.get((kind, space, name))
    rule = f"uses {found.words() if found else f'{kind} {name}'}: secrets are named here and never copied"
    hint = "give the daemon its own identity, or {env: NAME} or {file: PATH} where the source takes a secret"
    return found, [trigger.voice.differs(trigger.at("authenticationRef"), rule, hint)]
