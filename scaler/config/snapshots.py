"""Settings of snapshots, from which another daemon takes what a workload has learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.aws.bucket import S3Bucket
from scaler.clouds.azure.blob_container import BlobContainer
from scaler.clouds.gcp.bucket import GcsBucket
from scaler.config.postgresql_server import TABLE, PostgreSqlServer

STORES: Final = ("directory", "server", "s3", "gcs", "azure_blob")


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings:
    """Snapshots of what workloads have learned, in a directory, a database or object storage."""

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
