"""The tracked files of the project, its version, and the container image of that version."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VERSION: Final[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
REPOSITORY: Final = "ghcr.io/forescale/forescale"
IMAGE: Final = f"{REPOSITORY}:{VERSION}"


def tracked(*patterns: str) -> list[Path]:
    """Return the tracked files of the repository that match, relative to its root."""
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [Path(name) for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
