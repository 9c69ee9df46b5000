"""Translates errors of pydantic to problems, for every kind of document."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from scaler.config.document import Document
from scaler.config.problems import Problem
from scaler.config.renamed_keys import new_name
from scaler.config.schema import json_schema_of
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
        rule = f"must be {context['expected']}"
    elif kind == "string_pattern_mismatch":
        rule = f"must match {context['pattern']}"
    else:
        rule = RULES.get(kind) or error["msg"].replace("Input should be", "must be")
    if kind == "missing" or (kind in NO_SCALARS and not isinstance(value, dict | list)):
        value = ...
    if place and place[-1] == "[key]":
        place, rule = place[:-1], f"names {rule}"
    return document.problem(place, rule, hint, value)


def _unknown_key(key: str, settings: list[str]) -> tuple[str, str]:
    """Return the rule and the remedy for an unknown key: its new name, or a key with a similar spelling."""
    if new := new_name(key, settings):
        return f"was renamed to {new}", f"write {new} with the same value"
    return "unknown key", did_you_mean(key, settings)


def _sibling_keys(model: type[BaseModel], loc: tuple[Any, ...]) -> list[str]:
    """Return the valid keys in place of the last one of `loc`."""
    definitions = json_schema_of(model)
    node: Any = definitions
    for key in loc[:-1]:
        node = _step(definitions, node, key)
    return list(_dereference(definitions, node).get("properties", {}))


def _step(definitions: Any, node: Any, key: Any) -> Any:
    node = _dereference(definitions, node)
    if isinstance(key, int):
        return node.get("items", {})
    if key in node.get("properties", {}):
        return node["properties"][key]
    mapping = node.get("discriminator", {}).get("mapping", {})
    if key in mapping:
        return {"$ref": mapping[key]}
    return next(iter(node.get("patternProperties", {}).values()), {})


def _dereference(definitions: Any, node: Any) -> Any:
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            node = option
    while isinstance(node, dict) and "$ref" in node:
        node = definitions["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    return node if isinstance(node, dict) else {}
