"""Compilation of the kernel with Numba, and the cache of the compiled code.

Numba checks a cached function against its own source file only, not against the functions that it calls. So the cache
folder is named after a hash of all kernel sources: a change in any of them compiles everything again.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba.core import event

SOURCES: Final = Path(__file__).parent


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return this kernel's folder in the user's cache.

    The result is None if there is no folder that only this user can write. Numba unpickles and runs the cached files,
    so a link, or a folder that another user owns or can write, is refused.
    """
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    try:
        root = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forescale"
        root.parent.mkdir(parents=True, exist_ok=True)
        folders = (root, root / f"kernel-{digest.hexdigest()[:16]}")
        problem = next((problem for folder in folders if (problem := _distrust_reason(folder))), None)
    except (OSError, RuntimeError) as e:  # RuntimeError: the user has no home
        problem = str(e)
    if problem is None:
        return folders[1]
    remedy = "set XDG_CACHE_HOME to a folder that you own"
    logging.getLogger("forescale").warning(
        "the kernel is compiled at each start, without a cache: %s (%s)", problem, remedy
    )
    return None


def _distrust_reason(folder: Path) -> str | None:
    """Create `folder` for this user if it is missing; return why it cannot be trusted, or None.

    Raises `OSError`.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        return f"{folder} must be a folder, not a link or a file"
    if status.st_uid != os.geteuid():
        return f"{folder} must belong to user {os.geteuid()}, not {status.st_uid}"
    if status.st_mode & 0o022:
        return f"{folder} has mode {stat.S_IMODE(status.st_mode):o}: other users can write to it"
    return None if os.access(folder, os.W_OK) else f"{folder} is not writable"


CACHE: Final = cache_folder()
if CACHE is not None:
    numba.config.CACHE_DIR = str(CACHE)

F = TypeVar("F", bound=Callable[..., Any])


class _GarbageCollectionPause(event.Listener):  # type: ignore[misc]
    """Pause of the garbage collector during compilation, where it takes a sixth of the time."""

    def __init__(self) -> None:
        self.depth, self.collecting = 0, False

    def on_start(self, _event: object) -> None:
        if self.depth == 0:
            self.collecting = gc.isenabled()
            gc.disable()
        self.depth += 1

    def on_end(self, _event: object) -> None:
        self.depth -= 1
        if self.depth == 0 and self.collecting:
            gc.enable()


event.register("numba:compile", _GarbageCollectionPause())


def compiled(function: F) -> F:
    """Compile a kernel function that Python calls, and cache the result.

    Divisions do not check for zero: no divisor is 0. Numba's reference counts (`_nrt`) are off: the kernel allocates
    nothing, and counting each view of an array would cost more than everything else.
    """
    return cast("F", numba.njit(cache=CACHE is not None, error_model="numpy", _nrt=False)(function))


def inlined(function: F) -> F:
    """Compile a function into its callers. Python cannot call it.

    An array is passed as seven to nine words, so a call costs more than the body of most functions here. The wrapper
    for Python calls is left out: it would take a seventh of the compile time.
    """
    options = {"error_model": "numpy", "_nrt": False, "forceinline": True}
    return cast("F", numba.njit(**options, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function))


def uncompiled(function: F) -> F:
    """Return the Python function of an inlined one: slower, but without compilation."""
    python: F = function.py_func  # type: ignore[attr-defined]
    return python
