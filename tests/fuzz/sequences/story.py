"""A decision sequence on paper: what each tick sees and what each write meets. Playing it draws nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from policies.model import Grant
from policies.quota.fleet_quota import FleetLimits
from scaler.config.load import Workload

Fault = Literal["", "absent", "old", "ahead", "partial", "unavailable", "misconfigured", "raises_wait"]
Meets = Literal["accepted", "lost", "refused", "capacity", "quota", "conflict", "misconfigured"]
"""What a write meets. `lost`: the platform takes it, and its answer does not arrive."""


@dataclass(frozen=True, slots=True)
class Level:
    """One quantity: its value, and what is wrong with the reading."""

    value: float
    fault: Fault = ""


@dataclass(frozen=True, slots=True)
class Readings:
    """What one source reports. With `error` the whole source fails."""

    levels: Mapping[str, Level]
    error: Fault = ""


@dataclass(frozen=True, slots=True)
class PoolEvent:
    """What happens to one pool before a tick, in this order, and what the tick's write to it meets.

    `starts` is the share of the pending replicas that become ready, `loses` the share of the ready ones that fail their
    readiness probe (the size asked for stays), `interrupts` and `fails` are replicas, `sets` the size that another
    writer sets. `serves` is False while lost replicas stay lost.
    """

    starts: float = 1.0
    loses: float = 0.0
    interrupts: int = 0
    doomed: int = 0
    fails: int = 0
    short: Literal["", "capacity", "quota"] = ""
    sets: int | None = None
    foreign: bool = False
    error: Fault = ""
    meets: Meets = "accepted"


@dataclass(frozen=True, slots=True)
class Scene:
    """What one workload sees in one tick.

    With `share_served` the engines' totals are those of the ready replicas alone, as if each carried what it did
    before; with `saturated` the ready replicas are full besides: shares are 1 and requests wait.
    """

    readings: Mapping[str, Readings]
    pools: Mapping[str, PoolEvent]
    share_served: bool = False
    saturated: bool = False
    grant: Grant | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """One tick of every workload that runs. `edits` are reloads before it: another workload, or None: removed."""

    after_s: float
    scenes: Mapping[str, Scene]
    clock_step_s: float = 0.0
    edits: Mapping[str, Workload | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Story:
    """A whole sequence. `sizes` are the pools' sizes at its beginning."""

    seed: int
    workloads: Mapping[str, Workload]
    sizes: Mapping[str, Mapping[str, int]]
    moments: tuple[Moment, ...]
    fleet: FleetLimits | None = None
