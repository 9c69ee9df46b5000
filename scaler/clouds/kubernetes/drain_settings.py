"""Settings of draining replicas before their removal: configuration only, no SDK."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.http_access import Access

LABEL: Final = r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Removed are the replicas with the least to do, after they were taken out of routing and have ended their work."""

    routing_label: Annotated[
        str,
        FieldMetadata(
            "Label that the Service's (or route's) selector asks for and the object's own does not; it is taken off a "
            "pod that is to go.",
            pattern=LABEL,
            example="forescale.io/routed",
        ),
    ]
    routing_value: Annotated[
        str, FieldMetadata("Value of that label in the pod template.", pattern=r"^[\w.-]{0,63}$")
    ] = "true"
    preset: Annotated[
        Literal["vllm", "sglang", "tgi", "triton_trtllm"],
        FieldMetadata("Whose metrics tell how many requests a pod has running and waiting."),
    ] = "vllm"
    port: Annotated[int, FieldMetadata("Port of the pod's metrics.", ge=1, le=65535)] = 8000
    path: Annotated[str, FieldMetadata("Path of the pod's metrics.", pattern=r"^/\S*$")] = "/metrics"
    tls: Annotated[bool, FieldMetadata("Whether that port speaks HTTPS.")] = False
    settle_s: Annotated[
        float,
        FieldMetadata("How long routes may take to heed the label: a pod is not done sooner. Seconds.", ge=0, le=300),
    ] = 5.0
    deadline_s: Annotated[
        float, FieldMetadata("The longest that a pod's work is waited for; it goes then, whatever runs. Seconds.", gt=0)
    ] = 300.0
    access: Annotated[Access, FieldMetadata("How to be let in to the metrics.")] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.settle_s > self.deadline_s:
            yield "settle_s", "longer than deadline_s: no pod would ever be found done"
