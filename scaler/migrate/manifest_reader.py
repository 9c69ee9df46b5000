"""A manifest's mapping, read key by key: values of the right kind, and every key that nobody read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from scaler.config.yaml_composer import Place
from scaler.migrate.findings import Remark, Voice
from scaler.registry import did_you_mean

QUANTITY: Final = re.compile(r"^([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
SUFFIXES: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal("1e3"),
    "M": Decimal("1e6"), "G": Decimal("1e9"), "T": Decimal("1e12"), "P": Decimal("1e15"), "E": Decimal("1e18"),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
"""Of a Kubernetes quantity (apimachinery, ``resource.Quantity``)."""
TRUE: Final = frozenset({"1", "t", "true"})
FALSE: Final = frozenset({"0", "f", "false"})
"""What Go's ``strconv.ParseBool`` takes, in small letters."""


def quantity(value: object) -> float | None:
    """Return a Kubernetes quantity (``500m``, ``1Gi``, 0.5) as a number; None if it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    found = QUANTITY.match(str(value).strip())
    if found is None:
        return None
    try:
        number = float(Decimal(found[1]) * SUFFIXES[found[2] or ""])
    except InvalidOperation:
        return None
    return number if abs(number) < float("inf") else None


@dataclass(slots=True)
class Cursor:
    """One mapping of a manifest. Reading marks a key as used; what is left over is told by `unread`.

    With `secret`, values are never shown: metadata of triggers may hold credentials.
    """

    voice: Voice
    place: Place
    data: Mapping[str, Any]
    secret: bool = False
    used: set[str] = field(default_factory=set)

    def at(self, key: str) -> Place:
        return (*self.place, key)

    def has(self, *keys: str) -> bool:
        return any(self.data.get(key) is not None for key in keys)

    def raw(self, key: str) -> Any:
        self.used.add(key)
        return self.data.get(key)

    def wrong(self, key: str, rule: str, hint: str = "") -> None:
        self.voice.error(self.at(key), rule, hint, ... if self.secret else self.data.get(key, ...))

    def text(self, key: str, default: str | None = None, *, required: bool = False) -> str | None:
        """Text; a number counts as its digits, as YAML without quotes has it."""
        value = self.raw(key)
        if value is None or value == "":
            if required:
                self.wrong(key, "is required")
            return default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.wrong(key, "must be text")
            return default
        return str(value).strip()

    def number(self, key: str, default: float | None = None, *, least: float = 0.0, above: bool = False) -> Any:
        """Return a quantity of at least `least`, or more than it; None as the default stands for required."""
        value = self.raw(key)
        if value is None or value == "":
            if default is None:
                self.wrong(key, "is required: a number")
            return default
        found = quantity(value)
        if found is None or found < least or (above and found == least):
            self.wrong(key, f"must be a number {'above' if above else 'of at least'} {least:g}")
            return default
        return int(found) if found.is_integer() else found

    def whole(self, key: str, default: int | None, *, least: int = 0) -> int | None:
        value = self.raw(key)
        if value is None or value == "":
            return default
        found = quantity(value)
        if found is None or not found.is_integer() or found < least:
            self.wrong(key, f"must be a whole number of at least {least}")
            return default
        return int(found)

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self.raw(key)
        if value is None or value == "":
            return default
        word = str(value).strip().lower()
        if word in TRUE or word in FALSE:
            return word in TRUE
        self.wrong(key, "must be true or false")
        return default

    def choice(self, key: str, words: Mapping[str, str], default: str) -> str:
        """Return one of the manifest's words, as ours."""
        value = self.raw(key)
        if value is None or value == "":
            return default
        if isinstance(value, str) and value in words:
            return words[value]
        self.wrong(key, f"must be one of {', '.join(words)}", did_you_mean(str(value), list(words)))
        return default

    def below(self, key: str, *, required: bool = False) -> Cursor:
        """Return the mapping under a key; an empty one where there is none."""
        value = self.raw(key)
        if value is None:
            if required:
                self.wrong(key, "is required")
            value = {}
        if not isinstance(value, dict):
            self.wrong(key, "must be a mapping")
            value = {}
        return Cursor(self.voice, self.at(key), value, self.secret)

    def items(self, key: str) -> list[Cursor]:
        """Return the mappings in the list under a key."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.wrong(key, "must be a list")
            return []
        found = []
        for i, item in enumerate(value):
            if isinstance(item, dict):
                found.append(Cursor(self.voice, (*self.at(key), i), item, self.secret))
            else:
                self.voice.error((*self.at(key), i), "must be a mapping")
        return found

    def skip(self, *keys: str) -> None:
        """Keys that mean nothing to a size."""
        self.used.update(keys)

    def unread(self, known: Collection[str] = ()) -> Iterator[Remark]:
        """Yield a remark for each key that was not read; `known` are its likely meanings."""
        for key in self.data:
            if key not in self.used:
                hint = did_you_mean(str(key), sorted({*known, *self.used})) or "see docs/import.md for what is read"
                value = ... if self.secret else self.data[key]
                yield self.voice.lost(self.at(str(key)), "is not read by this import", hint, value)
