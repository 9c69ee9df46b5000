"""Google Cloud project, credentials and endpoints of an adapter: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata

URL = r"^https://[^/@\s?#]+(/[^\s?#]*)?$"


@dataclass(frozen=True, kw_only=True)
class GcpEndpoints:
    """Other addresses of the APIs: Private Service Connect, restricted VIPs, test servers."""

    compute: Annotated[str, FieldMetadata("Compute Engine.", pattern=URL)] = "https://compute.googleapis.com"
    container: Annotated[str, FieldMetadata("Kubernetes Engine.", pattern=URL)] = "https://container.googleapis.com"
    monitoring: Annotated[str, FieldMetadata("Cloud Monitoring.", pattern=URL)] = "https://monitoring.googleapis.com"
    pubsub: Annotated[
        str, FieldMetadata("Pub/Sub (gRPC over TLS): host and port.", pattern=r"^[^/\s:]+:[0-9]{1,5}$")
    ] = "pubsub.googleapis.com:443"
    resource_manager: Annotated[str, FieldMetadata("Resource Manager: asked by `check --live` only.", pattern=URL)] = (
        "https://cloudresourcemanager.googleapis.com"
    )


@dataclass(frozen=True, kw_only=True)
class GcpProject:
    """One set of tokens and connections is shared by all adapters whose credentials are equal."""

    id: Annotated[
        str,
        FieldMetadata(
            "Project id.",
            pattern=r"^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$",
            example="my-project",
        ),
    ]
    credentials_file: Annotated[
        str | None,
        FieldMetadata(
            "Key of a service account, or configuration of a workload identity federation; null: the application"
            " default credentials (workload identity, the metadata server, GOOGLE_APPLICATION_CREDENTIALS)."
        ),
    ] = None
    ca_file: Annotated[str | None, FieldMetadata("PEM file of the authorities to trust; null: the system's.")] = None
    endpoints: Annotated[GcpEndpoints, FieldMetadata("Addresses of the APIs.")] = field(default_factory=GcpEndpoints)
