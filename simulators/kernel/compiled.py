"""How the kernel is compiled, and where the result is kept.

Numba checks a cached function against its own file alone, not against the functions it calls. So the kernel's cache
stands in a folder named after all of its sources: a change in any of them compiles everything anew.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba

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


def compiled(function: F) -> F:
    """Compile a function of the kernel.

    Divisions do not check for zero (none is by one). Without Numba's reference counts (`_nrt`): nothing is allocated
    here, and counting each view of an array costs more than all else.
    """
    return cast("F", numba.njit(cache=True, error_model="numpy", _nrt=False)(function))
