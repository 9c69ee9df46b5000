"""The version of the project, and the container image of that version."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
VERSION: Final[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
REPOSITORY: Final = "ghcr.io/forescale/forescale"
IMAGE: Final = f"{REPOSITORY}:{VERSION}"
