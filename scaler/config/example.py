"""Generates the documented example: every key with its description and its default."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import yaml

from policies.model.field_metadata import ByKind
from policies.model.spec import WorkloadSpec
from scaler.config.daemon import DaemonSpec
from scaler.config.schema import plain_value, rule_of
from scaler.registry import REGISTRIES, resolve

WIDTH = 110
HEAD = """\
# Every setting of a workload, with its meaning and its default.
# Written by `make schema` from the code. Copy what you need; what you leave out has the value shown here.
# A key shown with an example where the default is null says so. For the embedded kinds see config/quickstart.
"""


def example() -> str:
    """Return the text of ``config/example/workload.yaml``: the daemon's document, then a workload's."""
    daemon = ["daemon:", *_record(DaemonSpec, 1)]
    return HEAD + "\n" + "\n".join([*daemon, "---", *_record(WorkloadSpec, 0)]) + "\n"


def _record(cls: Any, depth: int, kind: str | None = None) -> Iterator[str]:
    indent = "  " * depth
    hints = get_type_hints(cls, include_extras=True)
    fields = sorted(
        dataclasses.fields(cls), key=lambda f: (_by_kind(hints[f.name]) is not None, _nested(f) is not None)
    )
    if kind is not None:
        yield f"{indent}kind: {kind}"
    for field in fields:
        hint = hints[field.name]
        yield from _comment(hint, indent, field)
        value = _value(field, hint)
        if (by_kind := _by_kind(hint)) is not None:
            yield f"{indent}{field.name}:"
            yield from _kinds(by_kind, depth + 1)
        elif (nested := _nested(field)) is not None:
            yield f"{indent}{field.name}:"
            yield from _record(nested, depth + 1)
        else:
            yield f"{indent}{field.name}: {_flow(value)}"


def _kinds(by_kind: ByKind, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for kind in sorted(REGISTRIES[by_kind.registry].keys() - {"embedded"}):
        cls = resolve(by_kind.registry, kind)
        doc = (cls.__doc__ or "").strip().split("\n\n")[0]
        for line in textwrap.wrap(" ".join(doc.split()), WIDTH - len(indent)):
            yield f"{indent}# {line}"
        lines = [f"{indent}{kind.replace('_', '-')}:", *_record(cls, depth + 1, kind)]
        if getattr(cls, "owns_stabilization", False):
            yield f"{indent}# Brings its own windows, tolerance and limits: it must be the workload's only policy."
            lines = [f"{indent}# {line.removeprefix(indent)}" for line in lines]
        yield from lines


def _comment(hint: Any, indent: str, field: dataclasses.Field[Any]) -> Iterator[str]:
    text = rule_of(hint).doc
    if field.default is None and rule_of(hint).example is not None:
        text += " Default: null."
    for line in textwrap.wrap(text, WIDTH - len(indent)):
        yield f"{indent}# {line}"


def _value(field: dataclasses.Field[Any], hint: Any) -> Any:
    example = rule_of(hint).example
    if field.default_factory is not dataclasses.MISSING:
        return plain_value(field.default_factory())
    if field.default is dataclasses.MISSING or (field.default is None and example is not None):
        return plain_value(example)
    return plain_value(field.default)


def _by_kind(hint: Any) -> ByKind | None:
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((m for m in metadata if isinstance(m, ByKind)), None)


def _nested(field: dataclasses.Field[Any]) -> Any:
    """Return the class of a field that holds a record by default."""
    default = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
    return type(default) if dataclasses.is_dataclass(default) else None


def _flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping | list):
        return yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False).strip()
    return yaml.safe_dump(value, width=10_000).removesuffix("...\n").strip()
