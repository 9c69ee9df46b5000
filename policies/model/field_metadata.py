"""Metadata of a configuration field: its meaning and its bounds, next to the field.

A parameter is a field of a frozen dataclass, annotated ``Annotated[float, FieldMetadata("Meaning. Unit.", gt=0)]``. The
configuration loader turns metadata into validation and into the published JSON Schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LARGEST: Final = 10**15
"""The largest absolute value of a number without a bound of its own: products of several stay finite."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Form of a text: a regular expression, and the same in words, as in "must be WORDS"."""

    regex: str
    words: str


@dataclass(frozen=True, slots=True)
class FieldMetadata:
    """Meaning of a field (`doc`, ending with its unit) and bounds of its values."""

    doc: str
    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    pattern: Pattern | None = None
    example: object = None
    """The value in the documented example where the field has no default."""


@dataclass(frozen=True, slots=True)
class ByKind:
    """Mark of a field of policies, sources or pools: records that ``kind`` selects."""

    registry: str
    required: bool = True
    """Whether there must be at least one record."""
