"""Azure subscription, credentials and endpoints of an adapter: configuration only, no SDK."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern

UUID: Final = Pattern(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", "a UUID")
GROUP: Final = Pattern(
    r"^[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]$", "at most 90 letters, digits and _ ( ) . -, without a final dot"
)
"""Name of a resource group."""
NAME: Final = Pattern(
    r"^[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?$",
    "at most 80 letters, digits and _ . -, with a letter or digit first and a letter, digit or _ last",
)
"""Name of a resource."""
RESOURCE: Final = Pattern(
    r"^/subscriptions/[0-9a-fA-F-]{36}/resourceGroups/[^/?#\s]+/providers/[A-Za-z.]+(/[A-Za-z]+/[^/?#\s]+)+$",
    "an Azure resource ID",
)
ORIGIN: Final = Pattern(r"^https://[^/@\s?#]+$", "an https:// URL without user, password and path")
EVENTS_URL: Final = Pattern(
    r"^https?://[^/@\s?#]+(/[^\s?#]*)?$", "an http:// or https:// URL without user, password and query"
)
EVENTS_DOC: Final = (
    "URL of the machines' Scheduled Events. Use the metadata service if the daemon runs in the same scale set, else a"
    " relay on each machine, with {host} for the machine's host name. Default: null, no interruption notices."
)
EVENTS_EXAMPLE: Final = "http://{host}:8099/metadata/scheduledevents"


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Endpoints of a cloud: URLs and host suffixes.

    The URLs are those of Resource Manager and Entra. The host suffixes are those of metrics and Service Bus.
    """

    arm: str
    authority: str
    metrics: str
    service_bus: str


CLOUDS: Final = {
    "public": Endpoints(
        "https://management.azure.com",
        "https://login.microsoftonline.com",
        "metrics.monitor.azure.com",
        "servicebus.windows.net",
    ),
    "us_government": Endpoints(
        "https://management.usgovcloudapi.net",
        "https://login.microsoftonline.us",
        "metrics.monitor.azure.us",
        "servicebus.usgovcloudapi.net",
    ),
    "china": Endpoints(
        "https://management.chinacloudapi.cn",
        "https://login.chinacloudapi.cn",
        "metrics.monitor.azure.cn",
        "servicebus.chinacloudapi.cn",
    ),
}


@dataclass(frozen=True, kw_only=True)
class AzureAccount:
    """Azure account. Adapters with equal settings share tokens, sessions and request budgets."""

    subscription_id: Annotated[
        str | None,
        FieldMetadata(
            "Azure subscription ID. Required by pools, and by Service Bus with resource_group. Azure Monitor takes it"
            " from resource.",
            pattern=UUID,
            example="00000000-0000-0000-0000-000000000000",
        ),
    ] = None
    credential: Annotated[
        Literal["default", "workload_identity", "managed_identity"],
        FieldMetadata(
            "Identity for the requests. default tries environment variables, workload identity, managed identity and"
            " the az tool, and uses the first that works. Set one if several are available."
        ),
    ] = "default"
    tenant_id: Annotated[
        str | None, FieldMetadata("Entra tenant ID. Default: null, AZURE_TENANT_ID.", pattern=UUID)
    ] = None
    client_id: Annotated[
        str | None,
        FieldMetadata(
            "Client ID of the identity. Default: null, AZURE_CLIENT_ID, or the machine's only identity.", pattern=UUID
        ),
    ] = None
    token_file: Annotated[
        str | None,
        FieldMetadata(
            "File with the service account's token, for credential: workload_identity. Default: null,"
            " AZURE_FEDERATED_TOKEN_FILE."
        ),
    ] = None
    cloud: Annotated[
        Literal["public", "us_government", "china"],
        FieldMetadata("Azure cloud, which selects the endpoints. Default: public."),
    ] = "public"
    arm_url: Annotated[
        str | None,
        FieldMetadata(
            "URL of another Resource Manager, such as a private link or a test server. Default: null, that of cloud.",
            pattern=ORIGIN,
        ),
    ] = None
    authority_url: Annotated[
        str | None,
        FieldMetadata(
            "URL of another Entra endpoint, such as Azure Stack or a test server. Default: null, that of cloud.",
            pattern=ORIGIN,
        ),
    ] = None
    ca_file: Annotated[
        str | None, FieldMetadata("PEM file of trusted certificate authorities. Default: null, those of the system.")
    ] = None

    @property
    def endpoints(self) -> Endpoints:
        return CLOUDS[self.cloud]

    @property
    def arm(self) -> str:
        return self.arm_url or self.endpoints.arm

    @property
    def group_path(self) -> str:
        """Path of the subscription's resource groups."""
        return f"/subscriptions/{self.subscription_id}/resourceGroups"


def path_of(account: AzureAccount, group: str, kind: str, *names: str) -> str:
    """Return the id of a resource of type `kind`.

    Example of a type: ``Microsoft.Compute/virtualMachineScaleSets``.
    """
    provider, *types = kind.split("/")
    segments = "".join(f"/{type_name}/{name}" for type_name, name in zip(types, names, strict=True))
    return f"{account.group_path}/{group}/providers/{provider}{segments}"
