"""Translates the project's JSON Schema to the structural schema of a custom resource.

An API server refuses ``$ref``, ``const``, ``patternProperties``, ``discriminator``, ``type`` in a list of options, and
``additionalProperties: false``. Each is replaced by a construct that it accepts:

- an option ``null`` by ``nullable``, or by its absence where the value has a list of options and null is the
  default;
- the kinds of an entry by one object with the settings of all kinds. ``allOf`` has one condition for each kind: an
  entry is of another kind, or has the required settings and the limits of this one. A CEL rule refuses a setting of
  another kind;
- settings whose type depends on the kind by a value of any type and limited depth, which the daemon validates.

Defaults are left out: the API server would store them, and so fix those of one version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]
MAX_ENTRIES: Final = 64
"""Maximum number of sources, policies or pools of a workload: the cost limit of CEL rules needs a bound."""
MAX_EXACT: Final = 2**53
"""Integers up to this one are exact as floats."""
VALUE_LIMITS: Final[tuple[str, ...]] = (
    "enum",
    "pattern",
    "minimum",
    "exclusiveMinimum",
    "maximum",
    "exclusiveMaximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
)
"""Keywords that limit a value and may stand in a condition."""
RESERVED: Final = frozenset(
    (
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if"),
        *("import", "let", "loop", "package", "namespace", "return", "var", "void", "while"),
    )
)
"""Names that a CEL expression writes between two underscores on each side."""
TEXT: Final[Schema] = {"type": "string"}
"""Values of a map or list where no variant has one."""


class Translation:
    """Translates the nodes of one JSON Schema with its definitions."""

    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions

    def structural(self, node: Mapping[str, Any]) -> Schema:
        """Return the structural schema of a node.

        Raises `ValueError` for a construct without a translation.
        """
        node = self._resolve(node)
        if "patternProperties" in node:
            (entry,) = node["patternProperties"].values()
            return self._described(node, {"type": "object", **self._sizes(node), **self._entries(entry)})
        if "anyOf" in node:
            options = [option for option in node["anyOf"] if option.get("type") != "null"]
            if len(options) != 1 or len(options) == len(node["anyOf"]):
                raise ValueError(f"no structural schema for the options {json.dumps(node['anyOf'])}")
            inner = self.structural(options[0])
            if "enum" not in inner:
                inner["nullable"] = True
            elif node.get("default", ...) is not None:  # a server drops a null that is not allowed
                raise ValueError(f"no structural schema for null as one of {inner['enum']}, which is not the default")
            return self._described(node, inner)
        if "type" not in node:
            raise ValueError(f"no structural schema for {json.dumps(node)[:200]}")
        return self._described(node, {"type": node["type"], **self._limits(node), **self._content(node)})

    def _resolve(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a node with its reference replaced; its own description takes precedence."""
        if "$ref" not in node:
            return node
        target = self._definitions[node["$ref"].rsplit("/", 1)[-1]]
        return {**target, **{key: value for key, value in node.items() if key != "$ref"}}

    @staticmethod
    def _described(node: Mapping[str, Any], schema: Schema) -> Schema:
        return {"description": node["description"], **schema} if node.get("description") else schema

    @staticmethod
    def _sizes(node: Mapping[str, Any]) -> Schema:
        return {k: node[k] for k in ("minProperties",) if k in node} | {"maxProperties": MAX_ENTRIES}

    @staticmethod
    def _limits(node: Mapping[str, Any]) -> Schema:
        limits = {key: node[key] for key in VALUE_LIMITS if key in node and not _is_inexact(node[key])}
        if "const" in node:
            limits["enum"] = [node["const"]]
        for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if key in limits:
                limits[bound], limits[key] = limits[key], True
        return limits

    def _content(self, node: Mapping[str, Any]) -> Schema:
        """Return the items of a list, the properties of an object, or the values of a mapping."""
        if node["type"] == "array":
            return {"items": self.structural(node["items"])}
        if node["type"] != "object":
            return {}
        if isinstance(values := node.get("additionalProperties"), Mapping):
            return {"additionalProperties": self.structural(values)}
        properties = {name: self.structural(value) for name, value in node.get("properties", {}).items()}
        required = {"required": list(node["required"])} if node.get("required") else {}
        return {"properties": properties, **required}

    def _entries(self, entry: Mapping[str, Any]) -> Schema:
        mapping = entry["discriminator"]["mapping"]
        kinds = {kind: self.structural({"$ref": reference}) for kind, reference in mapping.items()}
        return {"additionalProperties": entry_of_kinds(kinds)}


def _is_inexact(limit: Any) -> bool:
    """Return whether a limit is too large for the server, which stores it as a float."""
    return isinstance(limit, int) and abs(limit) > MAX_EXACT


def entry_of_kinds(kinds: Mapping[str, Schema]) -> Schema:
    """Return the schema of an entry that has one of the kinds, with conditions and rules."""
    names = dict.fromkeys(name for schema in kinds.values() for name in schema["properties"] if name != "kind")
    properties: Schema = {"kind": {"type": "string", "maxLength": 63, "enum": list(kinds)}}
    rules = []
    for name in names:
        variants = {k: s["properties"][name] for k, s in kinds.items() if name in s["properties"]}
        properties[name] = merged(list(variants.values()))
        text = _described_by_kind(variants, len(kinds))
        if text:
            properties[name] = {"description": text, **properties[name]}
        if len(variants) < len(kinds) and ("type" in properties[name]):
            rules.append(_only_for(name, list(variants)))
    limits = {kind: _limits_of_kind(schema, properties) for kind, schema in kinds.items()}
    conditions = [{"anyOf": [limit, _not_kind(kind)]} for kind, limit in limits.items() if limit]
    entry: Schema = {"type": "object", "required": ["kind"], "properties": properties, "allOf": conditions}
    return {**entry, "x-kubernetes-validations": rules}


def merged(variants: Sequence[Schema]) -> Schema:
    """Return a schema that accepts every value of each variant, without a description."""
    first, *others = variants
    types = {variant.get("type") for variant in variants}
    if types == {"string", "integer"}:
        return {"x-kubernetes-int-or-string": True}
    if len(types) > 1 or None in types:
        return _of_any_type(variants)
    schema: Schema = {"type": first["type"]}
    schema |= {
        key: first[key] for key in VALUE_LIMITS if key in first and all(v.get(key) == first[key] for v in others)
    }
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound not in schema or any(v.get(key) != first.get(key) for v in others):
            schema.pop(key, None)
            if any(key in v for v in variants):
                schema.pop(bound, None)
    if any(variant.get("nullable") for variant in variants):
        schema["nullable"] = True
    if first["type"] == "array":
        schema["items"] = merged([v["items"] for v in variants])
    elif all("additionalProperties" in v for v in variants):
        schema["additionalProperties"] = merged([v["additionalProperties"] for v in variants])
    elif first["type"] == "object":
        schema |= _merged_properties(variants)
    return schema


def _of_any_type(variants: Sequence[Schema]) -> Schema:
    """Return a schema of values of any type, at most as deep as the variants.

    An API server from before July 2022 takes twice the time for each further map in a map that no schema describes:
    minutes at a depth of 20 (https://github.com/kubernetes-sigs/structured-merge-diff/pull/222). It first removes the
    keys that a schema lacks. So both the values of a map and the items of a list have a schema.
    """
    values = [value for variant in variants for value in _values(variant)]
    items = [variant["items"] for variant in variants if "items" in variant]
    return {
        "x-kubernetes-preserve-unknown-fields": True,
        "additionalProperties": merged(values or [TEXT]),
        "items": merged(items or [TEXT]),
    }


def _values(schema: Schema) -> list[Schema]:
    """Return the schemas of the values of an object; none for another type."""
    named = list(schema.get("properties", {}).values())
    return [*named, *([schema["additionalProperties"]] if "additionalProperties" in schema else [])]


def _merged_properties(variants: Sequence[Schema]) -> Schema:
    names = dict.fromkeys(name for variant in variants for name in variant["properties"])
    properties = {}
    for name in names:
        values = [variant["properties"][name] for variant in variants if name in variant["properties"]]
        texts = {value.get("description") for value in values}
        text = {"description": texts.pop()} if len(texts) == 1 and None not in texts else {}
        properties[name] = {**text, **merged(values)}
    required = [name for name in names if all(name in v.get("required", ()) for v in variants)]
    return {"properties": properties, **({"required": required} if required else {})}


def _described_by_kind(variants: Mapping[str, Schema], kinds: int) -> str:
    """Return the description of a setting, with the kinds that have it where they differ.

    Example: "asg, vmss: Minimum size. kubernetes: Name of the object."
    """
    texts: dict[str, list[str]] = {}
    for kind, schema in variants.items():
        texts.setdefault(schema.get("description", ""), []).append(kind)
    if len(texts) == 1 and len(variants) == kinds:
        return next(iter(texts))
    return " ".join(f"{', '.join(names)}: {text}" for text, names in texts.items() if text)


def _limits_of_kind(schema: Schema, properties: Mapping[str, Schema]) -> Schema:
    """Return the required settings of a kind, and its limits that the merged settings lack."""
    values = {name: value for name, value in schema["properties"].items() if name != "kind"}
    limits = {name: lost for name, value in values.items() if (lost := _lost(value, properties[name]))}
    required = [name for name in schema.get("required", ()) if name != "kind"]
    return {**({"properties": limits} if limits else {}), **({"required": required} if required else {})}


def _not_kind(kind: str) -> Schema:
    return {"not": {"properties": {"kind": {"enum": [kind]}}, "required": ["kind"]}}


def _lost(value: Schema, kept: Schema) -> Schema:
    """Return the limits of a value that the merged schema does not have."""
    lost = {key: value[key] for key in VALUE_LIMITS if key in value and kept.get(key) != value[key]}
    for key, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if key in lost:
            lost[bound] = value[bound]
    if "x-kubernetes-preserve-unknown-fields" in kept:
        return lost
    if "items" in value and "items" in kept and (inner := _lost(value["items"], kept["items"])):
        lost["items"] = inner
    if "properties" in value and "properties" in kept:
        inner = {n: limits for n, v in value["properties"].items() if (limits := _lost(v, kept["properties"][n]))}
        required = [name for name in value.get("required", ()) if name not in kept.get("required", ())]
        lost |= {"properties": inner} if inner else {}
        lost |= {"required": required} if required else {}
    return lost


def _only_for(name: str, kinds: Iterable[str]) -> Schema:
    listed = list(kinds)
    text = f"{name} is not a setting of this kind; {'the kinds' if len(listed) > 1 else 'the kind'} with it: "
    options = ", ".join(f"'{kind}'" for kind in listed)
    return {"rule": f"!has({field(name)}) || self.kind in [{options}]", "message": text + ", ".join(listed)}


def field(name: str) -> str:
    """Return the CEL expression of a setting of ``self``."""
    return f"self.__{name}__" if name in RESERVED else f"self.{name}"
