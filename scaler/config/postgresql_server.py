"""A PostgreSQL database, as sources, leases and snapshots name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.tls import HOST, Tls
from scaler.config.secret import Secret

TABLE: Final = Pattern(
    r"^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$",
    "a table, optionally after its schema, in lower-case letters, digits and _",
)


@dataclass(frozen=True, kw_only=True)
class PostgreSqlServer:
    """A database of a PostgreSQL server."""

    host: Annotated[str, FieldMetadata("Host name of the server.", pattern=HOST, example="postgresql.llm")]
    database: Annotated[str, FieldMetadata("Name of the database.", example="jobs")]
    username: Annotated[
        str,
        FieldMetadata("User name. A source needs only SELECT on what its query reads.", example="forescale"),
    ]
    port: Annotated[int, FieldMetadata("Port of the server. Default: 5432, PostgreSQL's own.", ge=1, le=65535)] = 5432
    password: Annotated[Secret | None, FieldMetadata("Reference to the password. Default: null, no password.")] = None
    tls: Annotated[Tls | None, FieldMetadata("TLS to the server; {} trusts the system. Default: null, no TLS.")] = None
