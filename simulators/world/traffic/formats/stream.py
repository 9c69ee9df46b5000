"""A file's uncompressed bytes, with detection of truncated files."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import zlib
from pathlib import Path
from typing import Any, Final, cast

from simulators.world.traffic.formats.options import Progress, no_progress
from simulators.world.traffic.trace import TraceError

GZIP: Final = b"\x1f\x8b"
HEAD_BYTES: Final = 65_536
"""Bytes read to detect the format: enough for any header."""


class Stream(io.RawIOBase):
    """A file, gunzipped if its content is gzip.

    After its end, `is_truncated` and `last_byte` describe the end.
    """

    def __init__(
        self, path: Path, progress: Progress = no_progress, *, forgive_cut: bool = False, must_be_text: bool = False
    ) -> None:
        self.is_truncated = False
        self.last_byte = b""
        self._progress = progress
        self._ended = False
        self._forgive_cut = forgive_cut
        self._decoder = codecs.getincrementaldecoder("utf-8")() if must_be_text else None
        self._path = path
        try:
            self._packed = path.open("rb")
        except OSError as e:
            raise TraceError(f"{path}: cannot be read: {e.strerror}") from e
        self._size = os.fstat(self._packed.fileno()).st_size
        is_gzip = self._packed.read(2) == GZIP
        self._packed.seek(0)
        self._bytes = cast("io.BufferedIOBase", gzip.GzipFile(fileobj=self._packed)) if is_gzip else self._packed

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if self._ended:
            return 0
        buffer = memoryview(into)
        filled = 0
        while filled < len(buffer) and not self.is_truncated:
            try:
                read = self._bytes.readinto1(buffer[filled:])  # small reads keep the bytes before a break
            except (EOFError, zlib.error, gzip.BadGzipFile) as e:
                self._broken(e)
                break
            if not read:
                break
            filled += read
        if filled:
            self.last_byte = bytes(buffer[filled - 1 : filled])
        self._check_text(bytes(buffer[:filled]))
        self._progress(self._packed.tell(), self._size)
        return filled

    def _check_text(self, read: bytes) -> None:
        """Raise `TraceError` for bytes that are no UTF-8, which Arrow would report on stderr."""
        try:
            if self._decoder is not None:
                self._decoder.decode(read, final=not read)
        except UnicodeDecodeError as e:
            raise TraceError(f"{self._path}: is not UTF-8 text: {e.reason}: {e.object[e.start : e.end]!r}") from e

    def _broken(self, error: Exception) -> None:
        self.is_truncated = True
        if not self._forgive_cut:
            raise TraceError(
                f"{self._path}: the compressed data is truncated or damaged ({error}): download the file again"
                " (--skip-bad keeps the complete rows before the damage)"
            ) from error

    def end(self) -> None:
        """End the file here for threads that read ahead."""
        self._ended = True

    def close(self) -> None:
        self._bytes.close()
        self._packed.close()
        super().close()


def head(path: Path) -> bytes:
    """Return the first bytes of a file, unpacked."""
    with Stream(path, forgive_cut=True) as stream:
        return io.BufferedReader(stream).read(HEAD_BYTES)


def whole(path: Path, progress: Progress) -> bytes:
    """Return all of a file, unpacked."""
    with Stream(path, progress) as stream:
        return stream.readall() or b""
