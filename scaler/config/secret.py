"""References to secrets.

Configuration files, journals and logs contain the place of a secret, never its value.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.config.problems import is_harmless
from scaler.masking import remember
from scaler.ports import Misconfigured

VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)+|[A-Z]+")
PATH: Final = re.compile(r"[.~]{0,2}/.+")


@dataclass(frozen=True, kw_only=True)
class Secret:
    """Reference to a secret: an environment variable, or a file that is read at each use."""

    env: Annotated[
        str | None,
        FieldMetadata(
            "Name of the environment variable. Default: null; set file instead.",
            pattern=Pattern(r"^[A-Za-z_][A-Za-z0-9_]*$", "letters, digits and _, without a leading digit"),
        ),
    ] = None
    file: Annotated[
        str | None,
        FieldMetadata("Path of the file; surrounding white space is removed. Default: null; set env instead."),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        problem = self.problem()
        if problem:
            yield "", problem

    def problem(self) -> str | None:
        """Return the problem of the reference, without reading the secret; None if there is none."""
        if (self.env is None) == (self.file is None):
            return "requires either env or file"
        if self.env is not None and not os.environ.get(self.env):
            return (
                f"environment variable{_shown_name(self.env, VARIABLE)} is not set; set it in the daemon's environment"
            )
        if self.file is not None and not Path(self.file).is_file():
            return f"file{_shown_name(self.file, PATH)} does not exist; create it, or mount the Secret there"
        return None

    def read(self) -> str:
        """Return the secret: printable UTF-8 on one line.

        `mask` hides it from then on. Raises `Misconfigured`.
        """
        problem = self.problem()
        if problem:
            raise Misconfigured(problem)
        place = f"environment variable {self.env}" if self.env is not None else f"file {self.file}"
        try:
            value = os.environb[os.fsencode(self.env)] if self.env is not None else Path(self.file or "").read_bytes()
            text = value.decode()
        except OSError as e:
            raise Misconfigured(f"{place} cannot be read: {e.strerror}") from e
        except UnicodeDecodeError as e:
            # No `from e`: that exception contains the secret's bytes.
            raise Misconfigured(f"{place} is not UTF-8 at byte {e.start}; write the secret again") from None
        text = text.strip() if self.file is not None else text
        if not text or not text.isprintable():
            raise Misconfigured(f"{place} must contain printable text on one line, without control characters")
        remember(text)
        return text


def _shown_name(word: str, form: re.Pattern[str]) -> str:
    """Return the name of a variable or file.

    Returns "" where it may be the secret itself in the wrong place.
    """
    return f" {word}" if form.fullmatch(word) and is_harmless(word) else ""
