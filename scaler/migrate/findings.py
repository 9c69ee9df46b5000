"""Findings of an import: settings that are not carried over.

Each has its place in the manifest and the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scaler.config.document import Document
from scaler.config.problems import Problem
from scaler.config.yaml_composer import Place


@dataclass(slots=True)
class Findings:
    """Findings about the manifests, by severity.

    `errors` prevent a workload. `lost` are settings without a counterpart in the workload. `differs` are settings with
    another effect than in the autoscaler.
    """

    errors: list[Problem] = field(default_factory=list)
    lost: list[Problem] = field(default_factory=list)
    differs: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment for the workload file."""

    text: str


def sentence(problem: Problem) -> str:
    """Return a problem as a comment for the workload file.

    The comment has the manifest's key, the rule, and the remedy.
    """
    return f"{problem.path}: {problem.rule}" + (f" ({problem.hint})" if problem.hint else "")


@dataclass(frozen=True, slots=True)
class Reporter:
    """Collector of the findings about one document.

    It returns each finding as a comment for the workload file.
    """

    document: Document
    findings: Findings

    def error(self, place: Place, rule: str, hint: str = "", value: object = ...) -> None:
        self.findings.errors.append(self.document.problem(place, rule, hint, value))

    def lost(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Remark:
        problem = self.document.problem(place, rule, hint, value)
        self.findings.lost.append(problem)
        return Remark("NOT CARRIED OVER: " + sentence(problem))

    def differs(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Remark:
        problem = self.document.problem(place, rule, hint, value)
        self.findings.differs.append(problem)
        return Remark(sentence(problem))


class Unsupported(Exception):
    """A setting cannot be translated: its place, the rule and the remedy."""

    def __init__(self, place: Place, rule: str, hint: str) -> None:
        super().__init__(rule)
        self.place, self.rule, self.hint = place, rule, hint
