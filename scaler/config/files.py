"""Lists and reads configuration files within a size limit.

It never reads from a pipe or a device.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from scaler.config.problems import Problem

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of a file: 10,000 workloads of 1 KB take 10 MB. A larger file would stall a reload."""
CHUNK_BYTES: Final = 64 * 1024
KINDS: Final = (
    (stat.S_ISDIR, "is a directory"),
    (stat.S_ISFIFO, "is a pipe"),
    (stat.S_ISSOCK, "is a socket"),
    (stat.S_ISCHR, "is a device"),
    (stat.S_ISBLK, "is a device"),
)


class Unreadable(OSError):
    """A file cannot be read, by `rule`. `hint` is the remedy."""

    def __init__(self, rule: str, hint: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.hint = hint


def files_of(paths: list[Path]) -> tuple[list[Path], list[Problem]]:
    """Return the YAML files of the paths, and the problems of paths without any.

    A directory stands for its files, sorted by name, without hidden files and subdirectories.
    """
    files: list[Path] = []
    problems: list[Problem] = []
    for path in paths:
        if path.is_dir():
            try:
                yaml_files = sorted(
                    p for p in path.iterdir() if p.suffix in {".yaml", ".yml"} and not p.name.startswith(".")
                )
            except OSError as e:
                problems.append(Problem(str(path), 1, "", "", f"the directory cannot be read: {e.strerror}"))
                continue
            if not yaml_files:
                problems.append(
                    Problem(
                        str(path), 1, "", "", "the directory has no .yaml or .yml file", "add one, or name another path"
                    )
                )
            files += yaml_files
        elif exists(path):
            files.append(path)
        else:
            problems.append(Problem(str(path), 1, "", "", "no such file or directory", "check the path"))
    return list(dict.fromkeys(files)), problems


def exists(path: Path) -> bool:
    """Return whether the path exists. An invalid path, such as one with a NUL, does not exist."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file of at most `MAX_FILE_BYTES`. Raises `Unreadable`.

    Neither open nor read can block: pipes and devices are refused by their type, large files by their size.
    """
    try:
        _require_regular(path.stat())  # before the open: opening a device may change its state
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _require_regular(os.fstat(descriptor))
            data = read_all(descriptor)
        finally:
            os.close(descriptor)
    except Unreadable:
        raise
    except OSError as e:
        raise Unreadable(f"cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise Unreadable(f"cannot be read: {e}") from e
    return data


def read_all(descriptor: int) -> bytes:
    """Return the content of an open file, which may grow while it is read.

    Raises `Unreadable` beyond the limit.
    """
    parts, size = [], 0
    while part := os.read(descriptor, CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > MAX_FILE_BYTES:
            raise _too_large(size)
    return b"".join(parts)


def read_text(path: Path) -> str:
    """Return a file's UTF-8 text within the limits of `read_bytes`. Raises `Unreadable`."""
    return decoded(read_bytes(path))


def decoded(data: bytes) -> str:
    """Return UTF-8 text. Raises `Unreadable`."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise Unreadable(f"is not UTF-8: {e.reason} at byte {e.start}", "save it as UTF-8") from e


def _require_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(status.st_mode)), "is not a file")
        raise Unreadable(f"cannot be read: it {kind}", "name a regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise _too_large(status.st_size)


def _too_large(size: int) -> Unreadable:
    return Unreadable(
        f"has {size:,} bytes; the limit is {MAX_FILE_BYTES:,} ({MAX_FILE_BYTES >> 20} MiB)",
        "split it into several files",
    )
