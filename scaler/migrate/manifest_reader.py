"""Reads a manifest's mapping key by key, and checks the values' types.

It reports the keys that are not read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from scaler.config.problems import plain_key
from scaler.config.yaml_composer import Place
from scaler.migrate.findings import Remark, Reporter
from scaler.migrate.manifest_keys import Levels, hint, level_of
from scaler.registry import did_you_mean

QUANTITY: Final = re.compile(r"^([+-]?[0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
SUFFIXES: Final = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal("1e3"),
    "M": Decimal("1e6"), "G": Decimal("1e9"), "T": Decimal("1e12"), "P": Decimal("1e15"), "E": Decimal("1e18"),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip
"""Suffixes of a Kubernetes quantity (apimachinery, ``resource.Quantity``)."""
TRUE: Final = frozenset({"1", "t", "true"})
FALSE: Final = frozenset({"0", "f", "false"})
"""Values that Go's ``strconv.ParseBool`` accepts, in lower case."""


def quantity(value: object) -> float | None:
    """Return a Kubernetes quantity as a number: 0.5 for ``500m``, 1024 for ``1Ki``.

    None if it is invalid.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    match = QUANTITY.match(str(value).strip())
    if match is None:
        return None
    try:
        number = float(Decimal(match[1]) * SUFFIXES[match[2] or ""])
    except InvalidOperation:
        return None
    return number if abs(number) < float("inf") else None


@dataclass(slots=True)
class Cursor:
    """One mapping of a manifest.

    Reading a key marks it as used, and `unread` reports the other ones.

    With `secret`, values are never shown: the metadata of a trigger may hold credentials. `levels` are the known keys
    of the object at `root`.
    """

    reporter: Reporter
    place: Place
    data: Mapping[str, Any]
    secret: bool = False
    levels: Levels = field(default_factory=dict)
    root: Place = ()
    used: set[str] = field(default_factory=set)

    def below(self, place: Place, data: Mapping[str, Any]) -> Cursor:
        """Return a cursor at a mapping below this one."""
        return Cursor(self.reporter, place, data, self.secret, self.levels, self.root)

    def place_of(self, key: str) -> Place:
        return (*self.place, key)

    def has(self, *keys: str) -> bool:
        return any(self.data.get(key) is not None for key in keys)

    def raw(self, key: str) -> Any:
        self.used.add(key)
        return self.data.get(key)

    def report_error(self, key: str, rule: str, hint: str = "") -> None:
        self.reporter.error(self.place_of(key), rule, hint, ... if self.secret else self.data.get(key, ...))

    def report_missing(self, key: str, kind: str = "") -> None:
        """Report a required key, with the unknown key that may be meant."""
        unknown = set(self.data) - set(self.levels.get(level_of(self.place, self.root), ())) - self.used
        meant = next((other for other in sorted(map(str, unknown)) if did_you_mean(key, [other])), None)
        hint = f"rename {plain_key(meant)} to {key}" if meant else ""
        self.report_error(key, f"is required{kind}", hint)

    def text(self, key: str, default: str | None = None, *, required: bool = False) -> str | None:
        """Return a text. A number without quotation marks is returned as text."""
        value = self.raw(key)
        if value is None or value == "":
            if required:
                self.report_missing(key)
            return default
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self.report_error(key, "must be text")
            return default
        return str(value).strip()

    def number(self, key: str, default: float | None = None, *, minimum: float = 0.0, exclusive: bool = False) -> Any:
        """Return a quantity of at least `minimum`, or above it if `exclusive`.

        A default of None requires the key.
        """
        value = self.raw(key)
        if value is None or value == "":
            if default is None:
                self.report_missing(key, ": a number")
            return default
        number = quantity(value)
        if number is None or number < minimum or (exclusive and number == minimum):
            self.report_error(key, f"must be a number {'above' if exclusive else 'of at least'} {minimum:g}")
            return default
        return int(number) if number.is_integer() else number

    def integer(self, key: str, default: int | None, *, minimum: int = 0) -> int | None:
        value = self.raw(key)
        if value is None or value == "":
            return default
        number = quantity(value)
        if number is None or not number.is_integer() or number < minimum:
            self.report_error(key, f"must be a whole number of at least {minimum}")
            return default
        return int(number)

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self.raw(key)
        if value is None or value == "":
            return default
        word = str(value).strip().lower()
        if word in TRUE or word in FALSE:
            return word in TRUE
        self.report_error(key, "must be true or false")
        return default

    def choice(self, key: str, translations: Mapping[str, str], default: str) -> str:
        """Return the translation in `translations` of the manifest's value."""
        value = self.raw(key)
        if value is None or value == "":
            return default
        if isinstance(value, str) and value in translations:
            return translations[value]
        self.report_error(
            key, f"must be one of {', '.join(translations)}", did_you_mean(str(value), list(translations))
        )
        return default

    def mapping(self, key: str, *, required: bool = False) -> Cursor:
        """Return a cursor at the mapping under a key, which is empty if absent."""
        value = self.raw(key)
        if value is None:
            if required:
                self.report_missing(key)
            value = {}
        if not isinstance(value, dict):
            self.report_error(key, "must be a mapping")
            value = {}
        return self.below(self.place_of(key), value)

    def items(self, key: str) -> list[Cursor]:
        """Return a cursor at each mapping in the list under a key."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list):
            self.report_error(key, "must be a list")
            return []
        cursors = []
        for i, item in enumerate(value):
            if isinstance(item, dict):
                cursors.append(self.below((*self.place_of(key), i), item))
            else:
                self.reporter.error((*self.place_of(key), i), "must be a mapping")
        return cursors

    def skip(self, *keys: str) -> None:
        """Mark keys as used that have no effect on a size."""
        self.used.update(keys)

    def unread(self, known: Collection[str] = ()) -> Iterator[Remark]:
        """Yield a remark for each key that was not read. `known` are valid keys for the hint."""
        for key in self.data:
            if key not in self.used:
                level = level_of(self.place, self.root)
                remedy = hint(str(key), level, self.levels, {*known, *self.used}) or "see docs/how-to/import.md"
                value = ... if self.secret else self.data[key]
                yield self.reporter.lost(self.place_of(str(key)), "is not supported by the import", remedy, value)
