"""What a configuration field means and which values it takes, said once, beside the field.

A parameter is a field of a frozen dataclass, annotated ``Annotated[float, Rule("Meaning.", gt=0)]``. The configuration
loader turns rules into validation and into the published JSON Schema; nothing here knows how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LARGEST: Final = 10**15
"""The largest value of a number whose rule names none, either way: products of several stay finite."""


@dataclass(frozen=True, slots=True)
class FieldMetadata:
    """The meaning of a field (`doc`, ending with its unit) and the bounds of its values, `LARGEST` by default."""

    doc: str
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    pattern: str | None = None
    example: object = None
    """What the documented example shows where the field has no default."""


@dataclass(frozen=True, slots=True)
class ByKind:
    """Marks a field whose values are records chosen by their ``kind`` from a registry: policy, source or pool."""

    registry: str
