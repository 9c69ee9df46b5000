"""What is wrong with a configuration: every problem at once, each with its place, value, rule and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

MAX_SHOWN = 80
"""Characters of an offending value shown: enough to recognise it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. `path` is the dotted key, `value` what stands there, `rule` what should, `hint` what to do."""

    file: str
    line: int
    path: str
    value: str
    rule: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: {self.path or '(document)'}"
        shown = f" = {self.value}" if self.value else ""
        return f"{where}{shown}: {self.rule}" + (f" ({self.hint})" if self.hint else "")

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def shown(value: object) -> str:
    """A value as a reader of YAML would write it, cut to length."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except ValueError:
        text = repr(value)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` has them all."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.path)))
        super().__init__("\n".join(map(str, self.problems)))
