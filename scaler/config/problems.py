"""What is wrong with a configuration: every problem at once, each with its place, value, rule and remedy."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Final

from scaler.masking import is_secret_name, mask

MAX_SHOWN = 80
"""Characters of an offending value shown: enough to recognise it."""
MAX_RULE: Final = 1500
"""Characters of a rule shown: the longest of our own, which lists all kinds of pools, has 400."""
LONG_WORD: Final = re.compile(r"\S{200,}")
NOT_SHOWN: Final = "(not shown)"
TOKEN: Final = re.compile(r"[^\s,;:/|()\"'{}\[\]=<>._-]+")
"""A run of characters between separators."""
STRANGE: Final = re.compile(r"[@!$&*#~\\`?^%]|[^\x20-\x7e]")
"""Characters that passwords have, and names, numbers, times and addresses of ours do not."""
MIXED_LENGTH: Final = 6
"""Characters from which a token of letters and digits (``hunter2``) may be a password; ``p99`` and ``h100`` may not."""
DENSE_LENGTH: Final = 20
DENSE_BITS: Final = 3.5
"""A word so long with so many bits of entropy a character is rather a key than a name: English has 2 to 3."""
QUOTED_LENGTH: Final = 2
"""Characters quoted from a YAML file that are part of its grammar, escaped or not; more may be a secret."""
KEY: Final = re.compile(r"[^\s:=@'\"]{1,100}")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong. `path` is the dotted key, `value` what stands there, `rule` what should, `hint` what to do."""

    file: str
    line: int
    path: str
    value: str
    rule: str
    hint: str = ""

    def __post_init__(self) -> None:
        """Hide secrets in what is quoted, and escape control characters: a problem is one readable line."""
        object.__setattr__(self, "path", _escaped(self.path))
        object.__setattr__(self, "value", _escaped(mask(self.value)))
        object.__setattr__(self, "rule", _escaped(masked_rule(_cut(self.rule))))
        object.__setattr__(self, "hint", _escaped(masked_rule(_cut(self.hint))))

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: {self.path or '(document)'}"
        shown = f" = {self.value}" if self.value else ""
        return f"{where}{shown}: {self.rule}" + (f" ({self.hint})" if self.hint else "")

    def as_dict(self) -> dict[str, str | int]:
        return asdict(self)


def _escaped(text: str) -> str:
    """Return a text with what cannot be printed escaped, as Python does: an escape character shows as a code."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _cut(text: str) -> str:
    """Return a rule with what it quotes cut to a readable length: a mistyped word may have a megabyte."""
    text = LONG_WORD.sub(lambda word: f"{word[0][: MAX_SHOWN - 1]}…", text)
    return text if len(text) <= MAX_RULE else f"{text[: MAX_RULE - 1]}…"


def value_text(value: object) -> str:
    """Return a value as a reader of YAML would write it, cut to length; always text that UTF-8 can encode."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = f"a {type(value).__name__} that cannot be shown"
    text = text.encode(errors="backslashreplace").decode()  # half a surrogate pair can be written nowhere
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def shown_at(place: tuple[str | int, ...], value: object) -> str:
    """Return a configured value as YAML has it, unless it can be a secret: by its place, its kind or its form."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if any(isinstance(key, str) and is_secret_name(key) for key in place):
        return NOT_SHOWN
    if isinstance(value, int | float) or (isinstance(value, str) and is_harmless(value)):
        return value_text(value)
    return "(a mapping)" if isinstance(value, dict) else "(a list)" if isinstance(value, list) else NOT_SHOWN


def is_harmless(text: str) -> bool:
    """Return whether a text can be no secret, by its form.

    No credentials, no mixture of letters and digits, no dense word.
    """
    if mask(text) != text or STRANGE.search(text):
        return False
    tokens = TOKEN.findall(text)
    mixed = any(len(t) >= MIXED_LENGTH and not t.isalpha() and not _is_number(t) for t in tokens)
    return not mixed and not any(len(word) >= DENSE_LENGTH and _bits(word) > DENSE_BITS for word in tokens)


def _is_number(token: str) -> bool:
    """Digits, or digits with a unit such as ``1500ms``; not digits as long as a key."""
    return len(token) < DENSE_LENGTH and re.fullmatch(r"[+-]?[0-9]+([A-Za-z]{1,2}|[TZ+][0-9+]*)?", token) is not None


def _bits(word: str) -> float:
    """Shannon entropy of a word's characters, in bits a character."""
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())


def plain_key(key: str, *, below_secret: bool = False) -> str:
    """Return a key as it may be shown: not one that is rather a value in the wrong place."""
    known = key in {"env", "file"} if below_secret else KEY.fullmatch(key) and mask(key) == key and not _is_dense(key)
    return key if known and key.isprintable() else "(key)"


def _is_dense(key: str) -> bool:
    return any(len(t) >= DENSE_LENGTH and not t.isalpha() and _bits(t) > DENSE_BITS for t in TOKEN.findall(key))


def masked_rule(text: str) -> str:
    """Return a rule without secrets: credentials masked, and quoted words left out that may be some."""
    return re.sub(r"(?<!\w)'([^'\n]*)'(?!\w)", lambda m: m[0] if is_harmless(m[1]) else NOT_SHOWN, mask(text))


def yaml_rule(text: str) -> str:
    """Return a YAML parser's complaint without what it quotes from the file, single characters aside."""
    first_line = text.partition("\n")[0]
    return re.sub(r"(['\"])(.*?)\1", lambda m: m[0] if len(m[2]) <= QUOTED_LENGTH else NOT_SHOWN, first_line)


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` has them all."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line, p.path)))
        super().__init__("\n".join(map(str, self.problems)))
