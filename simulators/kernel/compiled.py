"""How the kernel is compiled, and where the result is kept.

Numba checks a cached function against its own file alone, not against the functions it calls. So the kernel's cache
stands in a folder named after all of its sources: a change in any of them compiles everything anew.
"""

from __future__ import annotations

import gc
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba
from numba.core import event

SOURCES: Final = Path(__file__).parent


def cache_folder() -> Path:
    """The folder for this version of the kernel: in the user's cache, or in the temporary one if that is read-only."""
    digest = hashlib.sha256()
    for source in sorted(SOURCES.glob("*.py")):
        digest.update(source.name.encode() + source.read_bytes())
    name = f"kernel-{digest.hexdigest()[:16]}"
    chosen = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    for root in (Path(chosen) / "forescale", Path(tempfile.gettempdir()) / f"forescale-{os.getuid()}"):
        try:
            (root / name).mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(root / name, os.W_OK):
            return root / name
    return Path(tempfile.mkdtemp(prefix="forescale-"))


numba.config.CACHE_DIR = str(cache_folder())

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
    """Compile a function of the kernel that Python calls, and keep the result.

    Divisions do not check for zero (none is by one). Without Numba's reference counts (`_nrt`): nothing is allocated
    here, and counting each view of an array costs more than all else.
    """
    return cast("F", numba.njit(cache=True, error_model="numpy", _nrt=False)(function))


def inlined(function: F) -> F:
    """Compile a function into those that call it. Python cannot call it.

    An array is passed as seven words or nine, so that a call costs more than most functions here; and a wrapper for
    Python, which nobody would use, takes a seventh of the time to compile.
    """
    options = {"error_model": "numpy", "_nrt": False, "forceinline": True}
    return cast("F", numba.njit(**options, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function))


def uncompiled(function: F) -> F:
    """What Python calls in the place of an inlined function: slower, and nothing to compile."""
    python: F = function.py_func  # type: ignore[attr-defined]
    return python
