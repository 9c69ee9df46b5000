"""Converts frozen dataclasses with rules to pydantic models, and back.

The models serve validation and JSON Schema.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal, NewType, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from policies.model.field_metadata import LARGEST, ByKind, FieldMetadata
from policies.model.names import NAME
from scaler.registry import REGISTRIES, resolve

CONFIG = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=False)
FORM = "patternErrorMessage"
"""Keyword of JSON Schema for the words of a pattern. VS Code shows it in place of the regular expression."""


@cache
def model_of(cls: Any, kind: str | None = None) -> type[BaseModel]:
    """Return the pydantic model of a dataclass.

    With `kind`, the model also has that value under ``kind``.
    """
    fields: dict[str, Any] = {}
    if kind is not None:
        fields["kind"] = (Literal[kind], Field(description="Kind of this entry, which selects its other settings."))
    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        fields[field.name] = (_translate(hints[field.name]), _field(field, hints[field.name]))
    doc = (cls.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
    return create_model(cls.__name__, __config__=CONFIG, __doc__=doc, **fields)


def _field(field: dataclasses.Field[Any], hint: Any) -> FieldInfo:
    rule = rule_of(hint)
    if field.default_factory is not dataclasses.MISSING:
        default: dict[str, Any] = {"default_factory": _shared_default(field.default_factory)}
    elif field.default is not dataclasses.MISSING:
        default = {"default": plain_value(field.default)}
    else:
        default = {}
    bounds = {k: getattr(rule, k) for k in ("gt", "ge", "lt", "le") if getattr(rule, k) is not None}
    bounds |= _default_bounds(hint, bounds)
    if rule.pattern is not None:
        bounds |= {"pattern": rule.pattern.regex, "json_schema_extra": {FORM: f"must be {rule.pattern.words}"}}
    examples = [rule.example] if rule.example is not None else None
    info: FieldInfo = Field(description=rule.doc, examples=examples, validate_default=True, **bounds, **default)
    return info


def _default_bounds(hint: Any, bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Return the bounds of a number that its rule does not set.

    Returns nothing for a type without numbers.
    """
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    kinds = get_args(inner) if get_origin(inner) in {Union, types.UnionType} else (inner,)
    if int not in kinds and float not in kinds:
        return {}
    high = {} if bounds.keys() & {"lt", "le"} else {"le": LARGEST}
    low = {} if bounds.keys() & {"gt", "ge"} else {"ge": -LARGEST}
    return {**high, **low}


_defaults: dict[int, Any] = {}
"""Records of default models by the models' ids. The models live as long as their classes."""


def _shared_default(factory: Callable[[], Any]) -> Callable[[], Any]:
    """Return a factory of a field's default.

    One model of a record is shared by all workloads that leave it out.
    """

    @cache
    def shared() -> BaseModel:
        default = factory()
        cls: Any = type(default)
        model = model_of(cls).model_validate(plain_value(default))
        _defaults[id(model)] = default
        return model

    return lambda: shared() if dataclasses.is_dataclass(factory) else plain_value(factory())


def rule_of(hint: Any) -> FieldMetadata:
    """Return the `FieldMetadata` of an annotation, or an empty one."""
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((m for m in metadata if isinstance(m, FieldMetadata)), FieldMetadata(""))


def _translate(hint: Any) -> Any:
    """Return the type by which pydantic validates a dataclass field."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        by_kind = next((m for m in args[1:] if isinstance(m, ByKind)), None)
        return _choice(by_kind) if by_kind else _translate(args[0])
    if origin in {Union, types.UnionType}:
        return Union[tuple(_translate(a) for a in args)]  # noqa: UP007 - built at run time
    if origin is tuple:
        return list[_item(args[0])]  # type: ignore[misc]
    if origin is not None and _is_kind_of(origin, Mapping):
        return dict[_translate(args[0]), _item(args[1])]  # type: ignore[misc]
    if isinstance(hint, NewType):
        return _translate(hint.__supertype__)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return model_of(hint)
    return hint


def _item(hint: Any) -> Any:
    """Return the type of an item of a list or mapping, with the default bounds of a number."""
    bounds = _default_bounds(hint, {})
    return Annotated[_translate(hint), Field(**bounds)] if bounds else _translate(hint)


def _is_kind_of(cls: Any, parent: type) -> bool:
    return isinstance(cls, type) and issubclass(cls, parent)


def _choice(by_kind: ByKind) -> Any:
    """Return the type of a mapping from names to any of a registry's kinds.

    The discriminator is ``kind``.
    """
    kinds = REGISTRIES[by_kind.registry]
    models = tuple(model_of(resolve(by_kind.registry, kind), kind) for kind in kinds)
    name = Annotated[str, Field(pattern=NAME.regex)]
    entry = Annotated[Union[models], Field(discriminator="kind")]  # type: ignore[valid-type]  # noqa: UP007
    return Annotated[dict[name, entry], Field(min_length=int(by_kind.required))]


def plain_value(value: Any) -> Any:
    """Return a value as plain data: dataclasses as mappings, tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain_value(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [plain_value(v) for v in value]
    if isinstance(value, Mapping):
        return {k: plain_value(v) for k, v in value.items()}
    return value


Build = Callable[[Any], Any]
"""Converts a validated model's value to the value of the record's field."""


def _unchanged(value: Any) -> Any:
    return value


def _builder(hint: Any) -> Build:
    """Return the conversion of a validated model's value.

    The conversion's result is the value of a dataclass field of type `hint`.
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        by_kind = next((m for m in args[1:] if isinstance(m, ByKind)), None)
        return _by_kind_builder(by_kind.registry) if by_kind else _builder(args[0])
    if origin in {Union, types.UnionType}:
        build_value = _builder(next(a for a in args if a is not type(None)))
        return lambda value: None if value is None else build_value(value)
    if origin is tuple:
        build_item = _builder(args[0])
        return lambda value: tuple(map(build_item, value))
    if origin is not None and _is_kind_of(origin, Mapping):
        build_entry = _builder(args[1])
        return lambda value: {k: build_entry(v) for k, v in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return lambda value: record(hint, value)
    return _unchanged


def _by_kind_builder(registry: str) -> Build:
    return lambda value: {name: record(resolve(registry, v.kind), v) for name, v in value.items()}


@cache
def annotations_of(cls: Any) -> tuple[tuple[str, Build], ...]:
    """Return each field of a dataclass with its conversion.

    Cached: reading annotations is the slowest part.
    """
    hints = get_type_hints(cls, include_extras=True)
    return tuple((f.name, _builder(hints[f.name])) for f in dataclasses.fields(cls))


def record(cls: type[Any], model: BaseModel) -> Any:
    """Return the dataclass `cls` with the values of its validated model."""
    if (default := _defaults.get(id(model))) is not None:
        return default
    key: Any = cls
    return cls(**{name: build(getattr(model, name)) for name, build in annotations_of(key)})


@cache
def json_schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of a model. Cached: it takes 80 ms for a workload's."""
    return model.model_json_schema()
