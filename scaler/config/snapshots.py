"""Settings of snapshots, from which another daemon takes what a workload has learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.azure.account import ORIGIN, AzureAccount
from scaler.clouds.gcp.project import GcpProject
from scaler.config.postgresql_server import TABLE, PostgreSqlServer

PREFIX: Final = Pattern(
    r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,100}/){1,8}$", "at most 8 folders of letters, digits and _ . -, each with a final /"
)
PREFIX_DOC: Final = (
    "Beginning of the objects' names, the same in all daemons that share the workloads. The installation's name follows"
    " it. Default: forescale/."
)
STORES: Final = ("directory", "server", "s3", "gcs", "azure_blob")


@dataclass(frozen=True, kw_only=True)
class S3Bucket:
    """Bucket of Amazon S3."""

    bucket: Annotated[
        str,
        FieldMetadata(
            "Name of the bucket.",
            pattern=Pattern(
                r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
                "a bucket's name: 3 to 63 lower-case letters, digits, dots and hyphens",
            ),
            example="llm-forescale",
        ),
    ]
    prefix: Annotated[str, FieldMetadata(PREFIX_DOC, pattern=PREFIX)] = "forescale/"
    account: Annotated[AwsAccount, FieldMetadata("AWS account and region of the bucket.")] = field(
        default_factory=AwsAccount
    )


@dataclass(frozen=True, kw_only=True)
class GcsBucket:
    """Bucket of Google Cloud Storage."""

    bucket: Annotated[
        str,
        FieldMetadata(
            "Name of the bucket.",
            pattern=Pattern(
                r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$",
                "a bucket's name: lower-case letters, digits, dots, hyphens and underscores",
            ),
            example="llm-forescale",
        ),
    ]
    prefix: Annotated[str, FieldMetadata(PREFIX_DOC, pattern=PREFIX)] = "forescale/"
    project: Annotated[GcpProject, FieldMetadata("Google Cloud project and credentials.")]


@dataclass(frozen=True, kw_only=True)
class BlobContainer:
    """Container of Azure Blob Storage."""

    account_url: Annotated[
        str,
        FieldMetadata(
            "URL of the storage account.", pattern=ORIGIN, example="https://llmforescale.blob.core.windows.net"
        ),
    ]
    container: Annotated[
        str,
        FieldMetadata(
            "Name of the container.",
            pattern=Pattern(
                r"^[a-z0-9](-?[a-z0-9]){2,62}$", "a container's name: 3 to 63 lower-case letters, digits and hyphens"
            ),
            example="snapshots",
        ),
    ]
    prefix: Annotated[str, FieldMetadata(PREFIX_DOC, pattern=PREFIX)] = "forescale/"
    account: Annotated[AzureAccount, FieldMetadata("Azure identity. It needs no subscription.")] = field(
        default_factory=AzureAccount
    )


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings:
    """Snapshots of what workloads have learned, in a directory, a database or a cloud's object storage."""

    directory: Annotated[
        str | None,
        FieldMetadata(
            "Directory of the snapshots, such as a volume that all daemons mount. Default: null; set another store"
            " instead.",
            example="/var/lib/forescale-snapshots",
        ),
    ] = None
    server: Annotated[
        PostgreSqlServer | None, FieldMetadata("Database of the snapshots. Default: null; set another store instead.")
    ] = None
    s3: Annotated[
        S3Bucket | None, FieldMetadata("S3 bucket of the snapshots. Default: null; set another store instead.")
    ] = None
    gcs: Annotated[
        GcsBucket | None,
        FieldMetadata("Cloud Storage bucket of the snapshots. Default: null; set another store instead."),
    ] = None
    azure_blob: Annotated[
        BlobContainer | None,
        FieldMetadata("Azure Blob container of the snapshots. Default: null; set another store instead."),
    ] = None
    table: Annotated[
        str,
        FieldMetadata(
            "Table of the snapshots, with server. The daemon creates it where its user may. Default:"
            " forescale_snapshots.",
            pattern=TABLE,
        ),
    ] = "forescale_snapshots"
    interval_s: Annotated[
        float,
        FieldMetadata(
            "Time between two snapshots of a workload. After a crash, another daemon continues without the ticks since"
            " the last one. The default of 60 loses four ticks of 15 s. Seconds.",
            ge=1,
            le=3600,
        ),
    ] = 60.0

    @property
    def store(self) -> str:
        """The setting of the store."""
        return next(store for store in STORES if getattr(self, store) is not None)

    def problems(self) -> Iterator[tuple[str, str]]:
        if sum(getattr(self, store) is not None for store in STORES) != 1:
            yield "", f"requires exactly one of {', '.join(STORES[:-1])} and {STORES[-1]}"
