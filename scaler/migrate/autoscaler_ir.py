"""Intermediate representation of an autoscaler.

It is independent of the manifest's form and of the workload file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scaler.config.yaml_composer import Place
from scaler.migrate.findings import Remark, Reporter

TargetType = Literal["average_value", "value", "mean"]
"""The target is an amount of a total per replica, a ratio times the ready replicas, or a mean over the pods."""


@dataclass(frozen=True, slots=True)
class SourceDraft:
    """A source: its kind and settings as in a workload file. Equal drafts become one source."""

    kind: str
    settings: tuple[tuple[str, Any], ...]
    remarks: tuple[Remark, ...] = field(default=(), compare=False)

    def __hash__(self) -> int:
        return hash((self.kind, repr(self.settings)))


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric or trigger with a source.

    `queries` are PromQL by quantity, `times` the queries for the times of their samples. `label` is the manifest's
    name of the target.
    """

    place: Place
    type: str
    source: SourceDraft
    quantities: tuple[str, ...]
    target: float
    label: str
    target_type: TargetType = "average_value"
    activation: float = 0.0
    queries: Mapping[str, str] = field(default_factory=dict)
    times: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class CronSchedule:
    """A cron trigger."""

    place: Place
    replicas: int
    windows: list[dict[str, object]]
    time_zone: str
    label: str
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class ResizeTarget:
    """The object that an autoscaler resizes."""

    api_version: str
    kind: str
    name: str
    namespace: str

    @property
    def pods(self) -> str:
        """A regular expression for the names of its pods, by the naming scheme of apps/v1."""
        suffixes = {"Deployment": "-[a-z0-9]+-[a-z0-9]+", "StatefulSet": "-[0-9]+", "ReplicaSet": "-[a-z0-9]+"}
        return self.name + suffixes.get(self.kind, "-.+")


@dataclass(slots=True)
class Autoscaler:
    """One autoscaler object.

    It is a HorizontalPodAutoscaler, or a ScaledObject with the HorizontalPodAutoscaler behind it.

    `place` is the place of the manifest's spec. `behavior` and `fallback` have the form of the peer policies' settings;
    None is the default behavior, and no fallback. `labels` and `remarks` belong to keys of the workload file.
    """

    reporter: Reporter
    place: Place
    kind: Literal["hpa", "keda"]
    name: str
    target: ResizeTarget
    min_replicas: int
    max_replicas: int
    signals: list[Signal]
    schedules: list[CronSchedule] = field(default_factory=list)
    behavior: dict[str, Any] | None = None
    polling_interval_s: int = 30
    cooldown_s: int = 300
    initial_cooldown_s: int = 0
    active_replicas: int | None = None
    fallback: dict[str, Any] | None = None
    paused: tuple[Remark, ...] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[Remark]] = field(default_factory=dict)

    def remark(self, key: str, *remarks: Remark) -> None:
        """Add remarks for a key of the workload file."""
        self.remarks.setdefault(key, []).extend(remarks)
