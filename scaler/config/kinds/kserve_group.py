"""Route of KServe: the weights of LLMInferenceServices in a routing group."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from policies.model.names import BackendName
from policies.model.pool import Target
from scaler.clouds.kubernetes.cluster import object_target
from scaler.config.kinds.gateway_routes import ClusterRoute, unknown_backends
from scaler.config.kinds.kserve import GROUP, VERSIONS
from scaler.config.kinds.kubernetes import OBJECT_NAME


@dataclass(frozen=True, kw_only=True)
class KServeGroup(ClusterRoute):
    """A routing group of LLMInferenceServices, whose weights the daemon sets."""

    group: Annotated[
        str,
        FieldMetadata(
            "Name of the group, as in spec.router.route.group of its members.", pattern=OBJECT_NAME, example="llama"
        ),
    ]
    members: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "Name of the LLMInferenceService of each backend. Default: none: it has the name of its backend.",
            example={"gpus": "llama-h100"},
        ),
    ] = field(default_factory=dict)

    @property
    def api_version(self) -> str:
        return f"{GROUP}/{VERSIONS['LLMInferenceService']}"

    @property
    def object_kind(self) -> str:
        return "LLMInferenceService"

    def member(self, backend: BackendName) -> str:
        """Return the name of a backend's LLMInferenceService."""
        return self.members.get(backend, backend)

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        target = object_target(self.cluster, self.api_version, self.object_kind, self.namespace, self.group)
        return (target._replace(what=f"{target.what} group"),)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        yield from unknown_backends("members", self.members, self.backends)
        for backend, member in self.members.items():
            if not re.match(OBJECT_NAME.regex, member):
                yield "members", f"has the name {member!r} for {backend}; a name must be {OBJECT_NAME.words}"
        if len({self.member(name) for name in self.backends}) < len(self.backends):
            yield "members", "must not give two backends the same LLMInferenceService"
        for name in self.providers:
            yield "backends", f"must be pools: {name!r} is a provider, and a group has LLMInferenceServices only"
