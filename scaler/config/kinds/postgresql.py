"""PostgreSQL: numbers from a query, as of a table that serves as a queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from scaler.config.postgresql_server import PostgreSqlServer


@dataclass(frozen=True, kw_only=True)
class PostgreSql(PostgreSqlServer):
    """Numbers in the single row that a PostgreSQL query returns."""

    query: Annotated[
        str,
        FieldMetadata(
            "SQL query that returns one row. It runs in a read-only transaction, and the server ends it at the"
            " deadline: index what it filters by.",
            example="SELECT count(*) AS visible FROM jobs WHERE state = 'waiting'",
        ),
    ]
    columns: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Columns of the row, each a quantity of the same name. With one name here, a query's only column may have"
            " any name. Default: visible."
        ),
    ] = ("visible",)
    max_age_s: Annotated[
        float, FieldMetadata("Treat older values as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0)
    ] = 60.0

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.columns:
            yield "columns", "must name at least one column, such as visible"
        if len(set(self.columns)) < len(self.columns):
            yield "columns", "names a column twice; remove one"
        for column in self.columns:
            if not column.isascii() or not column.isidentifier():
                yield "columns", f"{column!r} is not a valid quantity name: use letters, digits and _, such as visible"

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.columns, self.max_age_s)
