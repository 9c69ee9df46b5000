"""What a manifest says, in our words: neither how it was written nor what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from scaler.config.yaml_composer import Place
from scaler.migrate.findings import Remark, Voice

TargetType = Literal["average_value", "value", "mean"]
"""So much per replica of a total; the ready replicas times the ratio; a mean over the pods held at a value."""


@dataclass(frozen=True, slots=True)
class SourceDraft:
    """A source to read: its kind and settings, as a workload's file has them. Equal ones are one."""

    kind: str
    settings: tuple[tuple[str, Any], ...]
    remarks: tuple[Remark, ...] = field(default=(), compare=False)

    def __hash__(self) -> int:
        return hash((self.kind, repr(self.settings)))


@dataclass(frozen=True, slots=True)
class Signal:
    """One metric or trigger that reads something.

    `queries` are PromQL by quantity, `times` for when their samples were taken. `said` is the manifest's name of the
    target.
    """

    place: Place
    type: str
    source: SourceDraft
    quantities: tuple[str, ...]
    target: float
    said: str
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
    said: str
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True, slots=True)
class ResizeTarget:
    """What is resized."""

    api_version: str
    kind: str
    name: str
    namespace: str

    @property
    def pods(self) -> str:
        """A regular expression for the names of its pods (apps/v1's own naming)."""
        ends = {"Deployment": "-[a-z0-9]+-[a-z0-9]+", "StatefulSet": "-[0-9]+", "ReplicaSet": "-[a-z0-9]+"}
        return self.name + ends.get(self.kind, "-.+")


@dataclass(slots=True)
class Scaled:
    """One autoscaler object: a HorizontalPodAutoscaler, or a ScaledObject with the one behind it.

    `place` is the manifest's spec. `behavior` and `fallback` are in the form of the peers' (None: the older path, and
    none). `remarks` have no better place.
    """

    voice: Voice
    place: Place
    kind: Literal["hpa", "keda"]
    name: str
    target: ResizeTarget
    min_replicas: int
    max_replicas: int
    signals: list[Signal]
    clocks: list[CronSchedule] = field(default_factory=list)
    behavior: dict[str, Any] | None = None
    polling_interval_s: int = 30
    cooldown_s: int = 300
    initial_cooldown_s: int = 0
    active_replicas: int | None = None
    fallback: dict[str, Any] | None = None
    paused: tuple[Remark, ...] | None = None
    said: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, list[Remark]] = field(default_factory=dict)

    def remark(self, key: str, *remarks: Remark) -> None:
        """Remember remarks for a key of the workload's file."""
        self.remarks.setdefault(key, []).extend(remarks)
