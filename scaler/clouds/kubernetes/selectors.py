"""Label selectors in objects, and in the text form of scale subresources."""

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
    """A selector: all of its terms must match. One without terms matches nothing here."""

    terms: tuple[Term, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return bool(self.terms) and all(term.matches(labels) for term in self.terms)

    def names(self, label: str) -> bool:
        """Return whether a term is about this label."""
        return any(term.key == label for term in self.terms)

    @property
    def key(self) -> tuple[str, str] | None:
        """A label and the value that all matching pods have; None without one."""
        for term in self.terms:
            if term.operator == "In" and len(term.values) == 1:
                return term.key, next(iter(term.values))
        return None


def parse_label_selector(body: Mapping[str, Any]) -> Selector:
    """Parse an object's `LabelSelector`. Raises `TypeError`, `KeyError` or `AttributeError`."""
    terms = [Term(key, "In", frozenset({str(value)})) for key, value in (body.get("matchLabels") or {}).items()]
    for entry in body.get("matchExpressions") or ():
        values = frozenset(str(value) for value in entry.get("values") or ())
        terms.append(Term(entry["key"], cast("Operator", entry["operator"]), values))
    return Selector(tuple(terms))


def parse_selector_text(text: str) -> Selector:
    """Parse a selector such as `app=llm,tier in (gpu,tpu),!canary`. Raises `ValueError`."""
    terms, at = [], 0
    while at < len(text):
        match = TERM.match(text, at)
        if match is None or match.end() == at:
            raise ValueError(f"{text!r} is not a label selector")
        terms.append(_term(match))
        at = match.end()
    return Selector(tuple(terms))


def _term(match: re.Match[str]) -> Term:
    if match["absent"]:
        return Term(match["no"], "DoesNotExist")
    if match["set"]:
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Term(match["key"], "In" if match["set"] == "in" else "NotIn", values)
    if match["op"]:
        return Term(match["key"], "NotIn" if match["op"] == "!=" else "In", frozenset({match["value"]}))
    return Term(match["key"], "Exists")
