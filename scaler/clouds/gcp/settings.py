"""Settings that Google Cloud pools share: name patterns, reservations, interruption notices.

No SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata

ZONE: Final = r"^[a-z]+-[a-z]+[0-9]-[a-z]$"
REGION: Final = r"^[a-z]+-[a-z]+[0-9]$"
NAME: Final = r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"


@dataclass(frozen=True, kw_only=True)
class GcpReservation:
    """A Compute Engine reservation that the pool's machines use first."""

    name: Annotated[str, FieldMetadata("Name of the reservation.", pattern=NAME, example="h100-reserved")]
    zone: Annotated[str, FieldMetadata("Zone of the reservation.", pattern=ZONE, example="us-central1-a")]


@dataclass(frozen=True, kw_only=True)
class GcpNotices:
    """Sources of interruption notices, which arrive before the machines stop."""

    subscription: Annotated[
        str | None,
        FieldMetadata(
            "Pub/Sub subscription of a log sink for Compute Engine system events, one per daemon. Default: null; an"
            " interruption is then seen only when its machine stops.",
            pattern=r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$",
            example="preemptions",
        ),
    ] = None
    metadata_url: Annotated[
        str | None,
        FieldMetadata(
            "URL of the metadata server to poll, if the daemon runs on one of the pool's machines. Default: null,"
            " none.",
            pattern=r"^http://[^/@\s?#]+$",
            example="http://metadata.google.internal",
        ),
    ] = None


def instance_group_path(project: str, location: str, name: str) -> str:
    """Return the path of an instance group.

    Example: `us-central1-a` is a zone and gives `projects/p/zones/us-central1-a/...`; `us-central1` is a region.
    """
    scope = "zones" if location.count("-") == 2 else "regions"
    return f"projects/{project}/{scope}/{location}/instanceGroupManagers/{name}"
