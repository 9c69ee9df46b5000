"""Settings that Google Cloud pools share: name patterns, reservations, interruption notices.

No SDK.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern

ZONE: Final = Pattern(r"^[a-z]+-[a-z]+[0-9]-[a-z]$", "a Google Cloud zone")
LOCATION: Final = Pattern(r"^[a-z]+-[a-z]+[0-9](-[a-z])?$", "a Google Cloud region or zone")
NAME: Final = Pattern(
    r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$",
    "at most 63 lowercase letters, digits and inner hyphens, with a letter first",
)
SUBSCRIPTION: Final = Pattern(
    r"^[A-Za-z][A-Za-z0-9._~+%-]{2,254}$", "3 to 255 letters, digits and . _ ~ + % -, with a letter first"
)


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
            pattern=SUBSCRIPTION,
            example="preemptions",
        ),
    ] = None
    metadata_url: Annotated[
        str | None,
        FieldMetadata(
            "URL of the metadata server to poll, if the daemon runs on one of the pool's machines. Default: null,"
            " none.",
            pattern=Pattern(r"^http://[^/@\s?#]+$", "an http:// URL without user, password and path"),
            example="http://metadata.google.internal",
        ),
    ] = None


def instance_group_path(project: str, location: str, name: str) -> str:
    """Return the path of an instance group.

    Example: `us-central1-a` is a zone and gives `projects/p/zones/us-central1-a/...`; `us-central1` is a region.
    """
    scope = "zones" if location.count("-") == 2 else "regions"
    return f"projects/{project}/{scope}/{location}/instanceGroupManagers/{name}"
