"""The parts of the advice: figures with their formula and sources, gaps and sections."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MONTH_H: Final = 730.0
"""A twelfth of a year of 365 days. Hours."""


class Basis(StrEnum):
    """Kind of source of a number."""

    GIVEN = "given"  # the user's file or command line
    MEASURED = "measured"  # a journal's ticks
    SIMULATED = "simulated"  # a run of the scenario, or of engines alone
    CALIBRATED = "calibrated"  # a service model fitted to runs of a real engine
    PRIOR = "prior"  # published or assumed, until it is measured


@dataclass(frozen=True, slots=True)
class Citation:
    """A source of a figure: its kind, and its location (file, row and key) as text."""

    basis: Basis
    where: str

    def __str__(self) -> str:
        return f"{self.basis}: {self.where}"


@dataclass(frozen=True, slots=True)
class SourcedNumber:
    """An input number and its sources."""

    value: float
    sources: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A computed number with its formula (numbers filled in) and its sources.

    `about` is the offer, size or part that it describes. `low` and `high` are bounds from the known error of its
    sources; None: no bound is known.
    """

    key: str
    title: str
    value: float
    unit: str
    formula: str
    sources: tuple[Citation, ...]
    about: str = ""
    low: float | None = None
    high: float | None = None

    @property
    def rests_on_prior(self) -> bool:
        """True if one of its sources was never measured here."""
        return any(source.basis is Basis.PRIOR for source in self.sources)


@dataclass(frozen=True, slots=True)
class Gap:
    """A figure that is missing, the reason, and the remedy."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Section:
    """One question of the advice: findings in sentences, their figures, and gaps."""

    key: str
    title: str
    findings: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    gaps: tuple[Gap, ...] = ()

    def figure(self, key: str, about: str = "") -> Figure:
        """Return the figure of this key. Raises `KeyError`."""
        for figure in self.figures:
            if figure.key == key and figure.about == about:
                return figure
        raise KeyError((key, about))


def sources(*inputs: SourcedNumber | Figure | Citation) -> tuple[Citation, ...]:
    """Return all sources of the inputs, each once, in order."""
    return tuple(dict.fromkeys(source for item in inputs for source in _sources_of(item)))


def _sources_of(item: SourcedNumber | Figure | Citation) -> Iterable[Citation]:
    return (item,) if isinstance(item, Citation) else item.sources


def usd(value: float) -> str:
    """Return an amount with at least three significant digits.

    Fractions of a cent matter when they are multiplied.
    """
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:,.2f}" if value >= 1 else f"${value:.3f}" if value >= 0.1 else f"${value:.3g}"
