"""Problems of a configuration, without secrets.

Each has its place, value, rule and remedy.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from scaler.masking import is_secret_name, mask
from scaler.printable import printable

COMMAND_LINE: Final = "command line"
NOT_FILES: Final = frozenset({COMMAND_LINE, "--shadow"})
"""Values of a problem's `file` that name no file, and so have no lines."""
MAX_SHOWN = 80
"""Maximum length of a value in a problem, in characters: enough to recognise it."""
MAX_RULE: Final = 1500
"""Maximum length of a rule in characters. The longest of our own, which lists all kinds of pools, has 400."""
LONG_WORD: Final = re.compile(r"\S{200,}")
NOT_SHOWN: Final = "(not shown)"
TOKEN: Final = re.compile(r"[^\s,;:/|()\"'{}\[\]=<>._-]+")
"""A run of characters between separators."""
PASSWORD_CHARACTER: Final = re.compile(r"[@!$&*#~\\`?^%]|[^\x20-\x7e]")
"""Characters that passwords have, and names, numbers, times and addresses of ours do not."""
MIXED_LENGTH: Final = 6
"""Minimum length of a token of letters and digits that may be a password: ``hunter2`` may, ``p99`` and ``h100`` not."""
DENSE_LENGTH: Final = 20
DENSE_BITS: Final = 3.5
"""A word of at least this length and more bits of entropy per character may be a key: English has 2 to 3."""
MAX_QUOTED: Final = 2
"""Maximum length of a quotation from a YAML file: a character of its grammar, maybe escaped. More may be a secret."""
KEY: Final = re.compile(r"[^\s:=@'\"]{1,100}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a configuration.

    It has the dotted key `path`, its configured `value`, the broken `rule`, and the remedy `hint`. Line 0 stands for a
    place without lines.
    """

    file: str
    line: int
    path: str
    value: str
    rule: str
    hint: str = ""

    def __post_init__(self) -> None:
        """Hide secrets in quoted texts, and escape control characters.

        A problem is one readable line.
        """
        object.__setattr__(self, "path", printable(self.path))
        object.__setattr__(self, "value", printable(mask(self.value)))
        object.__setattr__(self, "rule", printable(masked_rule(_cut(self.rule))))
        object.__setattr__(self, "hint", printable(masked_rule(_cut(self.hint))))

    def __str__(self) -> str:
        place = self.file if self.file in NOT_FILES or not self.line else f"{self.file}:{self.line}"
        key = f"{self.path or 'the document'} = {self.value}" if self.value else self.path
        return ": ".join(filter(None, (place, key, self.rule))) + (f" ({self.hint})" if self.hint else "")

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def _cut(text: str) -> str:
    """Return a rule with long words and the whole cut to a readable length.

    A mistyped word may have a megabyte.
    """
    text = LONG_WORD.sub(lambda word: f"{word[0][: MAX_SHOWN - 1]}…", text)
    return text if len(text) <= MAX_RULE else f"{text[: MAX_RULE - 1]}…"


def value_text(value: object) -> str:
    """Return a value as YAML text, cut to `MAX_SHOWN` characters and encodable as UTF-8."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = "(a value that cannot be shown)"
    text = text.encode(errors="backslashreplace").decode()  # an unpaired surrogate cannot be encoded
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def shown_at(place: tuple[str | int, ...], value: object) -> str:
    """Return a configured value as YAML text, unless it may be a secret.

    Its place, type or form decides.
    """
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if any(isinstance(key, str) and is_secret_name(key) for key in place):
        return NOT_SHOWN
    if isinstance(value, int | float) or (isinstance(value, str) and is_harmless(value)):
        return value_text(value)
    return "(a mapping)" if isinstance(value, dict) else "(a list)" if isinstance(value, list) else NOT_SHOWN


def is_harmless(text: str) -> bool:
    """Return whether a text cannot be a secret by its form.

    Such a text has no credentials, no mixed token and no dense word.
    """
    if mask(text) != text or PASSWORD_CHARACTER.search(text):
        return False
    tokens = TOKEN.findall(text)
    mixed = any(len(t) >= MIXED_LENGTH and not t.isalpha() and not _is_number(t) for t in tokens)
    return not mixed and not any(len(word) >= DENSE_LENGTH and _bits(word) > DENSE_BITS for word in tokens)


def _is_number(token: str) -> bool:
    """Return whether a token is digits, maybe with a unit such as ``1500ms``.

    It must also be shorter than a key.
    """
    return len(token) < DENSE_LENGTH and re.fullmatch(r"[+-]?[0-9]+([A-Za-z]{1,2}|[TZ+][0-9+]*)?", token) is not None


def _bits(word: str) -> float:
    """Return the Shannon entropy of a word in bits per character.

    Example: 1.0 for "aabb", 2.0 for "abcd".
    """
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())


def plain_key(key: str, *, below_secret: bool = False) -> str:
    """Return a key, or "(key)" where it may be a secret in the wrong place."""
    if below_secret:
        is_key = key in {"env", "file"}
    else:
        is_key = KEY.fullmatch(key) is not None and mask(key) == key and not _is_dense(key)
    return key if is_key and key.isprintable() else "(key)"


def _is_dense(key: str) -> bool:
    return any(len(t) >= DENSE_LENGTH and not t.isalpha() and _bits(t) > DENSE_BITS for t in TOKEN.findall(key))


def masked_rule(text: str) -> str:
    """Return a rule with credentials masked, and quoted words replaced that may be secrets."""
    return re.sub(r"(?<!\w)'([^'\n]*)'(?!\w)", lambda m: m[0] if is_harmless(m[1]) else NOT_SHOWN, mask(text))


def yaml_rule(text: str) -> str:
    """Return a YAML parser's error without its quotations from the file.

    Quotations of single characters stay.
    """
    first_line = text.partition("\n")[0]
    return re.sub(r"(['\"])(.*?)\1", lambda m: m[0] if len(m[2]) <= MAX_QUOTED else NOT_SHOWN, first_line)


class ConfigError(Exception):
    """The configuration is invalid, with all its `problems`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.path)))
        super().__init__("\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        """Return how to build it again: a worker process raises it in its parent."""
        return ConfigError, (self.problems,)
