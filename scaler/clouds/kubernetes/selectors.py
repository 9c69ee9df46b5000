"""Label selectors, as objects carry them and as their scale subresources tell them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, cast

Operator: TypeAlias = Literal["In", "NotIn", "Exists", "DoesNotExist"]
TERM: Final = re.compile(
    r"\s*(?:(?P<absent>!\s*(?P<no>[^\s,!=()]+))"
    r"|(?P<key>[^\s,!=()]+)\s*(?:(?P<set>notin|in)\s*\((?P<values>[^)]*)\)|(?P<op>==|=|!=)\s*(?P<value>[\w.-]*))?)"
    r"\s*(?:,|$)"
)


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement on a label."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == "In":
            return value in self.values
        if self.operator == "NotIn":
            return value not in self.values
        return (value is not None) == (self.operator == "Exists")


@dataclass(frozen=True, slots=True)
class Selector:
    """All of its terms must be met; one without terms selects nothing here."""

    terms: tuple[Term, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return bool(self.terms) and all(term.matches(labels) for term in self.terms)

    def names(self, label: str) -> bool:
        """Return whether it looks at a label."""
        return any(term.key == label for term in self.terms)

    @property
    def key(self) -> tuple[str, str] | None:
        """A label with the value that all matching pods have; None where there is no such label."""
        for term in self.terms:
            if term.operator == "In" and len(term.values) == 1:
                return term.key, next(iter(term.values))
        return None


def of_object(body: Mapping[str, Any]) -> Selector:
    """Parse a `LabelSelector` of an object. Raises `TypeError`, `KeyError` or `AttributeError`."""
    terms = [Term(key, "In", frozenset({str(value)})) for key, value in (body.get("matchLabels") or {}).items()]
    for entry in body.get("matchExpressions") or ():
        values = frozenset(str(value) for value in entry.get("values") or ())
        terms.append(Term(entry["key"], cast("Operator", entry["operator"]), values))
    return Selector(tuple(terms))


def of_text(text: str) -> Selector:
    """Parse a selector such as `app=llm,tier in (gpu,tpu),!canary`. Raises `ValueError`."""
    terms, at = [], 0
    while at < len(text):
        found = TERM.match(text, at)
        if found is None or found.end() == at:
            raise ValueError(f"{text!r} is no label selector")
        terms.append(_term(found))
        at = found.end()
    return Selector(tuple(terms))


def _term(found: re.Match[str]) -> Term:
    if found["absent"]:
        return Term(found["no"], "DoesNotExist")
    if found["set"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Term(found["key"], "In" if found["set"] == "in" else "NotIn", values)
    if found["op"]:
        return Term(found["key"], "NotIn" if found["op"] == "!=" else "In", frozenset({found["value"]}))
    return Term(found["key"], "Exists")
