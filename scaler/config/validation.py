"""Translates errors of pydantic to problems with a remedy, for every kind of document."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from policies.model.names import NAME
from scaler.config.document import Document
from scaler.config.problems import Problem
from scaler.config.renamed_keys import new_name
from scaler.config.schema import FORM, json_schema_of
from scaler.config.yaml_composer import Place
from scaler.registry import did_you_mean

RULES: Final = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "finite_number": "must be finite",
    "missing": "is required",
    "too_short": "must not be empty",
}
UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
"""Units of time that people write after a number. Seconds."""
NUMBER: Final = re.compile(rf"(?P<number>[0-9]+(\.[0-9]+)?) ?(?P<unit>{'|'.join(UNITS_S)})?")
NUMBERS: Final = frozenset({"float_type", "int_type", "less_than", "less_than_equal"})
NO_SCALARS: Final = frozenset({"list_type", "dict_type", "model_type", "model_attributes_type"})
"""Errors of a text in place of a mapping or list. The text is not shown: it may be a secret one level too high."""


def problem_of(document: Document, error: ErrorDetails, place: Place, model: type[BaseModel]) -> Problem:
    """Translate an error of `model` at `place` to a problem."""
    kind, context = error["type"], error.get("ctx", {})
    value: object = error["input"]
    hint = ""
    if kind == "extra_forbidden":
        rule, hint = _unknown_key(str(error["loc"][-1]), _sibling_keys(model, error["loc"]))
        value = ...  # it may be a secret under a misspelled key
    elif kind == "literal_error":
        options = re.findall(r"'([^']*)'", context["expected"])
        rule, hint = (
            f"must be {'one of ' * (len(options) > 1)}{', '.join(options)}",
            did_you_mean(value, options) if isinstance(value, str) else "",
        )
    elif kind == "string_pattern_mismatch":
        rule = _form(model, error["loc"])
    else:
        rule = RULES.get(kind) or error["msg"].replace("Input should be", "must be")
        hint = _corrected(str(place[-1]) if place else "", value, context) if kind in NUMBERS else ""
    if kind == "missing" or (kind in NO_SCALARS and not isinstance(value, dict | list)):
        value = ...
    if place and place[-1] == "[key]":
        place, rule = place[:-1], f"name {rule}"
    return document.problem(place, rule, hint, value)


def _unknown_key(key: str, settings: list[str]) -> tuple[str, str]:
    """Return the rule and the remedy for an unknown key.

    The remedy is its new name, or a key with a similar spelling.
    """
    if new := new_name(key, settings):
        return f"was renamed to {new}", f"write {new} with the same value"
    return "unknown key", did_you_mean(key, settings)


def _form(model: type[BaseModel], loc: tuple[Any, ...]) -> str:
    """Return the form of a text in words, with the example or default of its setting."""
    if loc[-1] == "[key]":
        return f"must be {NAME.words}"
    schema = _schema_at(model, loc)
    example = next(iter(schema.get("examples", ())), schema.get("default"))
    form: str = schema.get(FORM, "must be in the required form")
    return form + (f", such as {example}" if example else "")


def _corrected(key: str, value: object, bounds: Mapping[str, Any]) -> str:
    """Return the remedy for a number with a unit, in quotes, or in percent; else empty.

    Example: ``interval_s: "2m"`` gives 120, ``share: 99`` gives 0.99.
    """
    if isinstance(value, str):
        match = NUMBER.fullmatch(value)
        if match is None or (match["unit"] and not key.endswith("_s")):
            return ""
        number = f"{float(match['number']) * UNITS_S.get(match['unit'], 1.0):.12g}"
        return f"seconds, without a unit: {number}" if match["unit"] else f"without quotes: {number}"
    if isinstance(value, int | float) and bounds.get("le", bounds.get("lt")) == 1 and 1 < value <= 100:
        return f"a share is 0 to 1: {value / 100:g}"
    return ""


def _sibling_keys(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Return the valid keys in place of the last one of `loc`."""
    return list(_schema_at(model, loc[:-1]).get("properties", {}))


def _schema_at(model: type[BaseModel], loc: tuple[Any, ...]) -> dict[str, Any]:
    """Return the JSON Schema of the setting at `loc`; empty where there is none."""
    definitions = json_schema_of(model)
    node: Any = definitions
    for key in loc:
        node = _step(definitions, node, key)
    schema: dict[str, Any] = _dereference(definitions, node)
    return schema


def _step(definitions: Any, node: Any, key: Any) -> Any:
    node = _dereference(definitions, node)
    if isinstance(key, int):
        return node.get("items", {})
    if key in node.get("properties", {}):
        return node["properties"][key]
    mapping = node.get("discriminator", {}).get("mapping", {})
    if key in mapping:
        return {"$ref": mapping[key]}
    return next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties") or {})


def _dereference(definitions: Any, node: Any) -> Any:
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            node = option
    while isinstance(node, dict) and "$ref" in node:
        node = definitions["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node if isinstance(node, dict) else {}
