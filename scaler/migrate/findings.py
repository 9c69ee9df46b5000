"""What an import could not carry over, with its place in the manifest and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass, field

from scaler.config.document import Document
from scaler.config.problems import Problem
from scaler.config.yaml_composer import Place


@dataclass(slots=True)
class Notes:
    """What is said about the manifests, in three weights.

    `errors` make a workload impossible. `lost` is part of today's behaviour that the workload does not have. `differs`
    is done another way, by a rule of the house or because there is nothing to set.
    """

    errors: list[Problem] = field(default_factory=list)
    lost: list[Problem] = field(default_factory=list)
    differs: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment for the workload file; empty text says nothing."""

    text: str


def sentence(problem: Problem) -> str:
    """Return a problem as a comment in the workload file: the manifest's key, the rule, the remedy."""
    return f"{problem.path}: {problem.rule}" + (f" ({problem.hint})" if problem.hint else "")


@dataclass(frozen=True, slots=True)
class Voice:
    """Says things about one document, and gives each back as a comment."""

    document: Document
    notes: Notes

    def error(self, place: Place, rule: str, hint: str = "", value: object = ...) -> None:
        self.notes.errors.append(self.document.problem(place, rule, hint, value))

    def lost(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Remark:
        problem = self.document.problem(place, rule, hint, value)
        self.notes.lost.append(problem)
        return Remark("NOT CARRIED OVER: " + sentence(problem))

    def differs(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Remark:
        problem = self.document.problem(place, rule, hint, value)
        self.notes.differs.append(problem)
        return Remark(sentence(problem))


class Named(Exception):
    """Something that cannot be read as it stands: where, which rule, what to do."""

    def __init__(self, at: Place, rule: str, hint: str) -> None:
        super().__init__(rule)
        self.at, self.rule, self.hint = at, rule, hint
