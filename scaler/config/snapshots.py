"""Settings of snapshots, from which another daemon takes what a workload has learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from scaler.config.postgresql_server import TABLE, PostgreSqlServer


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings:
    """Snapshots of what workloads have learned, in a directory or a database."""

    directory: Annotated[
        str | None,
        FieldMetadata(
            "Directory of the snapshots, such as a volume that all daemons mount. Default: null; set server instead.",
            example="/var/lib/forescale-snapshots",
        ),
    ] = None
    server: Annotated[
        PostgreSqlServer | None, FieldMetadata("Database of the snapshots. Default: null; set directory instead.")
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

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.directory is None) == (self.server is None):
            yield "", "requires either directory or server"
