"""Google Cloud project, credentials and endpoints of an adapter: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata, Pattern

URL = Pattern(r"^https://[^/@\s?#]+(/[^\s?#]*)?$", "an https:// URL without user, password and query")


@dataclass(frozen=True, kw_only=True)
class GcpEndpoints:
    """Addresses of the APIs, to use Private Service Connect, restricted VIPs or test servers."""

    aiplatform: Annotated[
        str, FieldMetadata("URL of the Vertex AI API. {region} stands for the pool's region.", pattern=URL)
    ] = "https://{region}-aiplatform.googleapis.com"
    compute: Annotated[str, FieldMetadata("URL of the Compute Engine API.", pattern=URL)] = (
        "https://compute.googleapis.com"
    )
    container: Annotated[str, FieldMetadata("URL of the Kubernetes Engine API.", pattern=URL)] = (
        "https://container.googleapis.com"
    )
    monitoring: Annotated[str, FieldMetadata("URL of the Cloud Monitoring API.", pattern=URL)] = (
        "https://monitoring.googleapis.com"
    )
    pubsub: Annotated[
        str,
        FieldMetadata(
            "Host and port of the Pub/Sub API (gRPC over TLS).", pattern=Pattern(r"^[^/\s:]+:[0-9]{1,5}$", "HOST:PORT")
        ),
    ] = "pubsub.googleapis.com:443"
    resource_manager: Annotated[
        str, FieldMetadata("URL of the Resource Manager API, which only `check --live` calls.", pattern=URL)
    ] = "https://cloudresourcemanager.googleapis.com"
    run: Annotated[str, FieldMetadata("URL of the Cloud Run API.", pattern=URL)] = "https://run.googleapis.com"
    storage: Annotated[str, FieldMetadata("URL of the Cloud Storage API.", pattern=URL)] = (
        "https://storage.googleapis.com"
    )


@dataclass(frozen=True, kw_only=True)
class GcpProject:
    """Google Cloud project. Adapters with equal credentials share tokens and connections."""

    id: Annotated[
        str,
        FieldMetadata(
            "Project ID.",
            pattern=Pattern(r"^([a-z][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$", "a Google Cloud project ID"),
            example="my-project",
        ),
    ]
    credentials_file: Annotated[
        str | None,
        FieldMetadata(
            "File with a service account key or a workload identity federation configuration. Default: null, the"
            " application default credentials (workload identity, metadata server, or GOOGLE_APPLICATION_CREDENTIALS)."
        ),
    ] = None
    ca_file: Annotated[
        str | None, FieldMetadata("PEM file of trusted certificate authorities. Default: null, those of the system.")
    ] = None
    endpoints: Annotated[
        GcpEndpoints, FieldMetadata("Addresses of the Google Cloud APIs. Default: Google's public endpoints.")
    ] = field(default_factory=GcpEndpoints)
