"""Writer of trace files. A file appears under its name only when it is complete."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from simulators.world.traffic.formats.options import Progress, no_progress
from simulators.world.traffic.trace import COLUMNS, RequestTrace, TraceError

BATCH_ROWS: Final = 100_000
"""Rows per batch: some megabytes."""


def write(trace: RequestTrace, path: Path, progress: Progress = no_progress) -> None:
    """Write a trace in the format of the suffix: .csv, .csv.gz or .parquet.

    Equal traces give equal bytes.
    """
    writer = writer_of(path)
    with replacing(path) as file:
        writer(trace, file, progress)


def writer_of(path: Path) -> Callable[[RequestTrace, IO[bytes], Progress], None]:
    """Return the writer for a file name. Raises `TraceError`."""
    for suffix, writer in WRITERS.items():
        if path.name.endswith(suffix):
            return writer
    raise TraceError(f"{path}: the file name must end in {', '.join(WRITERS)}")


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces `path` on success, and is deleted on an error."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as e:
        raise TraceError(f"{path}: cannot be written: {e.strerror}") from e
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException as e:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(e, OSError):
            raise TraceError(f"{path}: cannot be written: {e.strerror}") from e
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _csv(trace: RequestTrace, file: IO[bytes], progress: Progress) -> None:
    schema = _schema(trace)
    file.write(",".join(schema.names).encode() + b"\n")
    bare = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with pyarrow.csv.CSVWriter(file, schema, write_options=bare) as writer:
        for batch in _batches(trace, schema, progress):
            writer.write_batch(batch)


def _csv_gz(trace: RequestTrace, file: IO[bytes], progress: Progress) -> None:
    with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
        _csv(trace, packed, progress)  # type: ignore[arg-type]


def _parquet(trace: RequestTrace, file: IO[bytes], progress: Progress) -> None:
    schema = _schema(trace)
    with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for batch in _batches(trace, schema, progress):
            writer.write_batch(batch)


def _schema(trace: RequestTrace) -> Any:
    present = [c for c in COLUMNS if getattr(trace, c) is not None]
    return pa.schema([("arrival_s", pa.float64()), *((c, pa.int32()) for c in present)])


def _batches(trace: RequestTrace, schema: Any, progress: Progress) -> Iterator[Any]:
    for start in range(0, max(len(trace), 1), BATCH_ROWS):
        rows = slice(start, start + BATCH_ROWS)
        yield pa.record_batch([pa.array(getattr(trace, c)[rows]) for c in schema.names], schema=schema)
        progress(min(start + BATCH_ROWS, len(trace)), len(trace))


WRITERS: Final[Mapping[str, Callable[[RequestTrace, IO[bytes], Progress], None]]] = {
    ".csv": _csv,
    ".csv.gz": _csv_gz,
    ".parquet": _parquet,
}
