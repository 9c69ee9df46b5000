"""Pools on KServe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, TypeAlias

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, OtherWriterYield, Target
from scaler.clouds.kubernetes.cluster import object_target
from scaler.config.kinds.kubernetes import OBJECT_NAME, PodsPool

ObjectKind: TypeAlias = Literal["InferenceService", "LLMInferenceService"]
GROUP: Final = "serving.kserve.io"
VERSIONS: Final[Mapping[ObjectKind, str]] = {"InferenceService": "v1beta1", "LLMInferenceService": "v1alpha2"}
"""Default API version of each kind."""
DEPLOYMENT: Final = ("apps/v1", "Deployment")
LEADER_WORKER_SET: Final = ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet")


@dataclass(frozen=True, kw_only=True)
class KServe(PodsPool):
    """The replicas of a KServe InferenceService or LLMInferenceService."""

    object_kind: Annotated[
        ObjectKind,
        FieldMetadata("Kind of the object. Default: InferenceService."),
    ] = "InferenceService"
    name: Annotated[str, FieldMetadata("Name of the object.", pattern=OBJECT_NAME, example="llama-kserve")]
    component: Annotated[
        Literal["main", "prefill"],
        FieldMetadata(
            "Replicas to resize. The default, main, is the predictor of an InferenceService, and the decode workload or"
            " the only workload of an LLMInferenceService. prefill is the prefill workload of an LLMInferenceService."
        ),
    ] = "main"
    version: Annotated[
        str | None,
        FieldMetadata(
            "Version of KServe's API for the kind. Default: null, v1beta1 for an InferenceService and v1alpha2 for an"
            " LLMInferenceService. Set v1alpha1 for an LLMInferenceService where KServe does not serve v1alpha2.",
            pattern=Pattern(r"^v1((alpha|beta)[0-9]+)?$", "v1, or an alpha or beta version of it"),
            example=None,
        ),
    ] = None
    other_writer_yield_s: OtherWriterYield = YIELD_S

    @property
    def api_version(self) -> str:
        return f"{GROUP}/{self.version or VERSIONS[self.object_kind]}"

    def child(self, *, multi_node: bool) -> tuple[str, str, str]:
        """Return API version, kind and name of the object that KServe runs the replicas in.

        KServe shortens the name of an LLMInferenceService's child where it is too long.
        """
        if self.object_kind == "InferenceService":
            return (*DEPLOYMENT, f"{self.name}-predictor")
        suffix = "-prefill" if self.component == "prefill" else ""
        if multi_node:
            return (*LEADER_WORKER_SET, f"{self.name}-kserve-mn{suffix}")
        return (*DEPLOYMENT, f"{self.name}-kserve{suffix}")

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.component == "prefill" and self.object_kind == "InferenceService":
            yield "component", "must be main for an InferenceService, which has no prefill workload"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        parent = object_target(self.cluster, self.api_version, self.object_kind, self.namespace, self.name)
        if self.component == "prefill":
            parent = parent._replace(what=f"{parent.what} prefill")
        children = sorted({self.child(multi_node=False), self.child(multi_node=True)})
        return (
            parent,
            *(object_target(self.cluster, api, kind, self.namespace, name) for api, kind, name in children),
        )
