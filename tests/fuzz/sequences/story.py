"""A decision sequence as data: the observations of each tick and the result of each write. Playing it draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.model import Grant
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload

Fault = Literal["", "absent", "old", "ahead", "partial", "unavailable", "misconfigured", "raises_wait"]
WriteResult = Literal["accepted", "lost", "refused", "capacity", "quota", "conflict", "misconfigured"]
"""Result of a write. `lost`: the platform accepts it, and its response does not arrive."""


@dataclass(frozen=True, slots=True)
class SourceValue:
    """Value of one quantity, and the fault of its reading."""

    value: float
    fault: Fault = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one source. With `error` the whole source fails."""

    levels: Mapping[str, SourceValue]
    error: Fault = ""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """Events of one pool before a tick, in this order, and the result of the tick's write to it.

    `starts` is the share of the pending replicas that become ready, `loses` the share of the ready ones that fail their
    readiness probe (the requested size stays), `interrupts` and `fails` are replicas, `sets` the size that another
    writer sets. `serves` is False while lost replicas stay lost.
    """

    starts: float = 1.0
    loses: float = 0.0
    interrupts: int = 0
    interruption_pending: int = 0
    fails: int = 0
    shortage: Literal["", "capacity", "quota"] = ""
    sets: int | None = None
    other_writer: bool = False
    error: Fault = ""
    write_result: WriteResult = "accepted"


@dataclass(frozen=True, slots=True)
class Scene:
    """Observations of one workload at one tick.

    With `share_served` the engines' totals are those of the ready replicas alone, each with the same load as before.
    With `saturated` the ready replicas are also full: shares are 1 and requests wait.
    """

    readings: Mapping[str, Readings]
    pools: Mapping[str, PoolEvent]
    share_served: bool = False
    saturated: bool = False
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class StoryTick:
    """One tick of every running workload. `edits` are reloads before it: the new workload, or None if removed."""

    after_s: float
    scenes: Mapping[str, Scene]
    clock_step_s: float = 0.0
    edits: Mapping[str, Workload | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Story:
    """A whole sequence. `sizes` are the initial sizes of the pools."""

    seed: int
    workloads: Mapping[str, Workload]
    sizes: Mapping[str, Mapping[str, int]]
    ticks: tuple[StoryTick, ...]
    fleet: FleetLimits | None = None
