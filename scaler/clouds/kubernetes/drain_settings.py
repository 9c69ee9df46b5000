"""Settings of draining replicas before their removal: configuration only, no SDK."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.http_access import Access

LABEL: Final = Pattern(
    r"^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$",
    "the key of a Kubernetes label",
)


@dataclass(frozen=True, kw_only=True)
class Drain:
    """Draining: the least loaded replicas leave routing and finish their requests first."""

    routing_label: Annotated[
        str,
        FieldMetadata(
            "Label that the Service's or route's selector requires and the object's own selector does not. It is"
            " removed from a pod that drains, so that no new requests reach it.",
            pattern=LABEL,
            example="forescale.io/routed",
        ),
    ]
    routing_value: Annotated[
        str,
        FieldMetadata(
            "Value of routing_label in the pod template. Default: true.",
            pattern=Pattern(r"^[\w.-]{0,63}$", "at most 63 letters, digits and _ . -"),
        ),
    ] = "true"
    preset: Annotated[
        Literal["vllm", "sglang", "tgi", "triton_trtllm"],
        FieldMetadata("Engine whose metrics report a pod's running and waiting requests. Default: vllm."),
    ] = "vllm"
    port: Annotated[int, FieldMetadata("Port of the pod's metrics. Default: 8000, that of vLLM.", ge=1, le=65535)] = (
        8000
    )
    path: Annotated[
        str,
        FieldMetadata(
            "Path of the pod's metrics. Default: /metrics.",
            pattern=Pattern(r"^/\S*$", "a path that starts with / and has no spaces"),
        ),
    ] = "/metrics"
    tls: Annotated[bool, FieldMetadata("Whether the metrics port serves HTTPS. Default: false.")] = False
    settle_s: Annotated[
        float,
        FieldMetadata(
            "Minimum time between removing routing_label and removing the pod, for routes to update. The default of 5"
            " suits Services; raise it for slower load balancers. Seconds.",
            ge=0,
            le=300,
        ),
    ] = 5.0
    deadline_s: Annotated[
        float,
        FieldMetadata(
            "Maximum time to wait for a draining pod's requests. After it the pod is removed even with requests"
            " running. The default of 300 fits answers of up to five minutes. Seconds.",
            gt=0,
        ),
    ] = 300.0
    access: Annotated[
        Access, FieldMetadata("Credentials and trusted certificates for the metrics requests. Default: no credentials.")
    ] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.settle_s > self.deadline_s:
            yield (
                "settle_s",
                f"must be at most deadline_s, {self.deadline_s:g} s: no pod could finish draining before it",
            )
