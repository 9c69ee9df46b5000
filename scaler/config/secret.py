"""Secrets stay out of configuration files, journals and logs: only where to find them is written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from policies.rules import Rule
from scaler.ports import Misconfigured


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Where a secret is found: an environment variable or a file (a mounted Kubernetes secret; read at each use)."""

    env: Annotated[str | None, Rule("Name of the environment variable.", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = None
    file: Annotated[str | None, Rule("Path of the file; surrounding white space is dropped.")] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        problem = self.problem()
        if problem:
            yield "", problem

    def problem(self) -> str | None:
        """What is wrong with the reference, without reading more than it must."""
        if (self.env is None) == (self.file is None):
            return "give either env or file"
        if self.env is not None and not os.environ.get(self.env):
            return f"the environment variable {self.env} is not set"
        if self.file is not None and not Path(self.file).is_file():
            return f"there is no file {self.file}"
        return None

    def read(self) -> str:
        """The secret itself. Raises `Misconfigured`."""
        problem = self.problem()
        if problem:
            raise Misconfigured(problem)
        if self.env is not None:
            return os.environ[self.env]
        assert self.file is not None  # noqa: S101 - `problem` made sure of it
        try:
            return Path(self.file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as e:
            raise Misconfigured(f"{self.file}: {e}") from e
