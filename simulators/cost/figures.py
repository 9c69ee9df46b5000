"""What advice consists of: figures with the formula that made them and the sources that they rest on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MONTH_H: Final = 730.0
"""A twelfth of a year of 365 days. Hours."""


class Basis(StrEnum):
    """What a number rests on."""

    GIVEN = "given"  # the user's file or command line
    MEASURED = "measured"  # a journal's turns
    SIMULATED = "simulated"  # a run of the scenario, or of engines alone
    CALIBRATED = "calibrated"  # a service model fitted to runs of a real engine
    PRIOR = "prior"  # published or assumed, until it is measured


@dataclass(frozen=True, slots=True)
class Citation:
    """One thing that a figure rests on: what kind it is, and where it stands (file, row and key), in words."""

    basis: Basis
    where: str

    def __str__(self) -> str:
        return f"{self.basis}: {self.where}"


@dataclass(frozen=True, slots=True)
class Known:
    """A number that is not made here, and where it comes from."""

    value: float
    sources: tuple[Citation, ...]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its formula, the numbers filled in, and its sources.

    `about` is the offer, size or part it is told of. `low` and `high` bound it where what it rests on is known to be
    off by so much; None: no such bound is known.
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
        """Whether something that was never measured here stands behind it."""
        return any(source.basis is Basis.PRIOR for source in self.sources)


@dataclass(frozen=True, slots=True)
class Gap:
    """What cannot be told, why, and what to give so that it can."""

    what: str
    why: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Section:
    """One question answered: findings in sentences, the figures behind them, and what cannot be told."""

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


def sources(*found: Known | Figure | Citation) -> tuple[Citation, ...]:
    """All that these rest on, each once, in order."""
    return tuple(dict.fromkeys(source for one in found for source in _of(one)))


def _of(one: Known | Figure | Citation) -> Iterable[Citation]:
    return (one,) if isinstance(one, Citation) else one.sources


def usd(value: float) -> str:
    """Money with three digits at least: fractions of cents count where they are multiplied."""
    if value >= 100:
        return f"${value:,.0f}"
    return f"${value:,.2f}" if value >= 1 else f"${value:.3f}" if value >= 0.1 else f"${value:.3g}"
