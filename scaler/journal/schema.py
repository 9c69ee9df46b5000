"""The schema version of a journal's records, read from a line without decoding it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

SCHEMA: Final = 3
"""Schema of the records that this version writes."""
READABLE: Final = (2, SCHEMA)
"""Schemas of the records that this version reads. Schema 3 adds a tick's `epoch` and the result `fenced`."""
READERS: Final = {1: "0.1.0"}
"""Earlier schemas, and the last Forescale version that reads each."""
VERSION: Final = re.compile(rb'\{"v": ?([0-9]{1,9})[,}]')
"""The beginning of every record: the writer puts the schema first."""
HEAD: Final = rb'\{"v":[%s],"type":' % "".join(map(str, READABLE)).encode()
"""Pattern of a readable record's line until its type."""


def schema_of(line: bytes) -> int | None:
    """Return the schema of a record's line; None where it has none."""
    match = VERSION.match(line)
    return int(match[1]) if match else None


def is_unsupported(schema: int | None) -> bool:
    """Return whether a schema is known and this version does not read it."""
    return schema is not None and (schema > SCHEMA or schema in READERS)


def file_schema(path: Path) -> int | None:
    """Return the schema of a file's first readable record; None where there is none.

    Raises `OSError`.
    """
    with path.open("rb") as f:
        return next((schema for line in f if (schema := schema_of(line)) is not None), None)


def refusal(schema: int) -> str:
    """Return the reason why records of an unsupported schema are not read, with the remedy."""
    reads = " and ".join(map(str, READABLE))
    if schema > SCHEMA:
        return f"journal schema {schema} of a newer Forescale; this version reads {reads}. Use the newer version"
    return (
        f"journal schema {schema}; this version reads {reads}. Read it with Forescale {READERS[schema]}, "
        "or start a new journal folder (daemon.journal.directory)"
    )


def is_record(line: bytes, record_type: str) -> bool:
    """Return whether a line is a readable record of this type."""
    return re.match(HEAD + b'"%s",' % record_type.encode(), line) is not None
