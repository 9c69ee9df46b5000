"""Converts scalars of YAML to values.

It refuses spellings that YAML 1.1 and 1.2 read differently.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, ClassVar, Final

import yaml

CORE: Final = "tag:yaml.org,2002:"
PLAIN: Final = {f"{CORE}{name}" for name in ("str", "int", "float", "bool", "null")}
TYPE_NAMES: Final = {
    f"{CORE}int": "a whole number",
    f"{CORE}float": "a number",
    f"{CORE}bool": "true or false",
    f"{CORE}null": "null",
}
MAX_CACHED: Final = 64
"""Maximum length of a cached scalar in characters: keys, kinds and numbers repeat, long texts do not."""
OCTAL: Final = re.compile(r"[-+]?0[0-7_]*[0-7][0-7_]*")
BASE_60: Final = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")


class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML loader that reads a time as text, quoted or not.

    The setting's own code knows the time zone.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, form) for tag, form in resolvers if tag != f"{CORE}timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class BadScalar(Exception):
    """A scalar is refused, by `rule`. `hint` is the remedy."""

    def __init__(self, rule: str, hint: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.hint = hint


_RULES: Final = Loader("")
"""Provides the tables of implicit tags and constructors."""


def value_of(event: yaml.ScalarEvent, *, old_numbers: bool) -> Any:
    """Return the value of a scalar. Raises `BadScalar`.

    With `old_numbers` 010 and 1:30 are 8 and 90, as in YAML 1.1; otherwise they are refused.
    """
    text: str = event.value
    if "\0" in text:
        raise BadScalar("contains a NUL character", "remove the character")
    if event.tag is None or event.tag == "!":
        if not event.implicit[0]:
            return text  # quoted, or a block
        value = _plain_cached(text) if len(text) <= MAX_CACHED else _plain(text)
        if not old_numbers and isinstance(value, int | float) and text[-1:].isdigit():
            _require_decimal(text, value)
        return value
    if event.tag not in PLAIN:
        raise BadScalar(
            f"has the YAML tag '{event.tag.lstrip('!')[:MAX_CACHED]}', which is not supported", "remove the tag"
        )
    return _construct(event.tag, text)


def _plain(text: str) -> Any:
    tag = _RULES.resolve(yaml.ScalarNode, text, (True, False))
    return _construct(tag, text) if tag in PLAIN else text


_plain_cached = lru_cache(maxsize=8192)(_plain)


def _construct(tag: str, text: str) -> Any:
    if tag == f"{CORE}str":
        return text
    try:
        return getattr(_RULES, f"construct_yaml_{tag.removeprefix(CORE)}")(yaml.ScalarNode(tag, text))
    except (ValueError, KeyError, IndexError, OverflowError) as e:
        raise BadScalar(f"cannot be read as {TYPE_NAMES[tag]}", "correct it, or quote it if it is text") from e


def _require_decimal(text: str, value: float) -> None:
    """Refuse a number that YAML 1.1 and 1.2 read differently. Raises `BadScalar`."""
    if len(text) > MAX_CACHED:
        return
    if BASE_60.fullmatch(text):
        rule = f"is ambiguous: {text} is the base-60 number {value:g} in YAML 1.1 and text in YAML 1.2"
        raise BadScalar(rule, f"write {value:g} for the number, or '{text}' in quotes for the text")
    if OCTAL.fullmatch(text) and (decimal := int(text.replace("_", ""))) != value:
        rule = f"is ambiguous: {text} is the octal number {value} in YAML 1.1 and {decimal} in YAML 1.2"
        raise BadScalar(rule, f"write {value} or {decimal}, or '{text}' in quotes for the text")
