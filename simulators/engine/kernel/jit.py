"""How the kernel is compiled, and where the result is kept.

Numba checks a cached function against its own file alone, not against the functions it calls. So the kernel's cache
stands in a folder named after all of its sources: a change in any of them compiles everything anew.
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
    """Return this kernel's folder in the user's cache; None where no folder is there that only this user can write.

    What is cached is unpickled and run, so a link and a folder of or for other users is refused.
    """
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    try:
        root = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "forescale"
        root.parent.mkdir(parents=True, exist_ok=True)
        folders = (root, root / f"kernel-{digest.hexdigest()[:16]}")
        problem = next((problem for folder in folders if (problem := _problem(folder))), None)
    except (OSError, RuntimeError) as e:  # RuntimeError: the user has no home
        problem = str(e)
    if problem is None:
        return folders[1]
    remedy = "set XDG_CACHE_HOME to a folder of your own"
    logging.getLogger("forescale").warning("the kernel is compiled without a cache: %s (%s)", problem, remedy)
    return None


def _problem(folder: Path) -> str | None:
    """Make `folder` for this user alone where it is missing; why it cannot be trusted otherwise. Raises `OSError`."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    seen = folder.lstat()
    if not stat.S_ISDIR(seen.st_mode):
        return f"{folder} is a link or a file, and must be a folder"
    if seen.st_uid != os.geteuid():
        return f"{folder} belongs to user {seen.st_uid}, and must belong to user {os.geteuid()}"
    if seen.st_mode & 0o022:
        return f"{folder} has mode {stat.S_IMODE(seen.st_mode):o}: others may write to it"
    return None if os.access(folder, os.W_OK) else f"{folder} cannot be written to"


CACHE: Final = cache_folder()
if CACHE is not None:
    numba.config.CACHE_DIR = str(CACHE)

F = TypeVar("F", bound=Callable[..., Any])


class _Stillness(event.Listener):  # type: ignore[misc]
    """Holds the garbage collector still while something is compiled: it takes a sixth of that time."""

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


event.register("numba:compile", _Stillness())


def compiled(function: F) -> F:
    """Compile a function of the kernel that Python calls, and keep the result where there is a cache.

    Divisions do not check for zero (none is by one). Without Numba's reference counts (`_nrt`): nothing is allocated
    here, and counting each view of an array costs more than all else.
    """
    return cast("F", numba.njit(cache=CACHE is not None, error_model="numpy", _nrt=False)(function))


def inlined(function: F) -> F:
    """Compile a function into those that call it. Python cannot call it.

    An array is passed as seven words or nine, so that a call costs more than most functions here; and a wrapper for
    Python, which nobody would use, takes a seventh of the time to compile.
    """
    options = {"error_model": "numpy", "_nrt": False, "forceinline": True}
    return cast("F", numba.njit(**options, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function))


def uncompiled(function: F) -> F:
    """Return the Python function behind an inlined one: slower, and nothing to compile."""
    python: F = function.py_func  # type: ignore[attr-defined]
    return python
