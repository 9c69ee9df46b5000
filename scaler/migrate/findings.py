"""Findings of an import: parts of the manifests that are left out or work differently.

Each has its place in the manifest and the remedy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from scaler.config.document import Document
from scaler.config.problems import NOT_SHOWN, Problem, is_harmless, plain_key
from scaler.config.yaml_composer import Place


@dataclass(frozen=True, slots=True)
class Omission(Problem):
    """A part of a manifest without a counterpart in the workload.

    A person accepts it by all of its `names`: the type of a trigger, the name of a metric, or the manifest's key.
    """

    names: tuple[str, ...] = ()

    @property
    def shown_names(self) -> tuple[str, ...]:
        """The names without those that may be a secret in the wrong place."""
        return tuple(n if n.isalpha() or is_harmless(n) else NOT_SHOWN for n in map(plain_key, self.names))

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "names": list(self.shown_names)}


@dataclass(slots=True)
class Findings:
    """Findings about the manifests, by severity.

    `errors` prevent a workload. `lost` are settings without a counterpart in the workload; those that the user expects
    are `accepted`. `differs` are settings with another effect than in the autoscaler.
    """

    errors: list[Problem] = field(default_factory=list)
    lost: list[Omission] = field(default_factory=list)
    accepted: list[Omission] = field(default_factory=list)
    differs: list[Problem] = field(default_factory=list)

    def extend(self, other: Findings) -> None:
        """Add the findings of another part of the manifests."""
        self.errors += other.errors
        self.lost += other.lost
        self.accepted += other.accepted
        self.differs += other.differs

    def accept(self, names: frozenset[str]) -> None:
        """Move the omissions with these names from `lost` to `accepted`."""
        self.accepted += [omission for omission in self.lost if names.issuperset(omission.names)]
        self.lost = [omission for omission in self.lost if not names.issuperset(omission.names)]


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

    def lost(self, place: Place, rule: str, hint: str = "", value: object = ..., names: tuple[str, ...] = ()) -> Remark:
        """Report an omission, by default under the last key of its place."""
        names = names or tuple(key for key in place if isinstance(key, str))[-1:]
        problem = self.document.problem(place, rule, hint, value)
        omission = Omission(**asdict(problem), names=names)
        self.findings.lost.append(omission)
        return Remark("NOT CARRIED OVER: " + sentence(omission))

    def differs(self, place: Place, rule: str, hint: str = "", value: object = ...) -> Remark:
        problem = self.document.problem(place, rule, hint, value)
        self.findings.differs.append(problem)
        return Remark(sentence(problem))


class Unsupported(Exception):
    """A setting cannot be translated: its place, the rule and the remedy."""

    def __init__(self, place: Place, rule: str, hint: str) -> None:
        super().__init__(rule)
        self.place, self.rule, self.hint = place, rule, hint
