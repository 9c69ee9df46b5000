"""A node's life: how long it takes to serve, from where it rests, and what it went through.

Start-up is a chain of phases, each log-normal: measured load and boot times are skewed, with long tails (Alibaba's
GenAI cluster trace: model load 2.6 / 22.7 / 51.8 s at p10 / p50 / p99).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure.units import to_ps


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of a start-up: log-normal by its median and the standard deviation of its logarithm."""

    median_s: Annotated[
        float, FieldMetadata("Half of the starts take longer; 0: the phase is skipped. Seconds.", ge=0, le=86400)
    ]
    sigma: Annotated[
        float, FieldMetadata("Spread: the p95 is exp(1.645 sigma) medians; 0: always the median.", ge=0, le=3)
    ] = 0.0

    def ps(self, normal: float) -> int:
        """How long it takes for a standard normal draw. Picoseconds."""
        return to_ps(self.median_s * math.exp(self.sigma * normal))


NODE: Final = Phase(median_s=105.0, sigma=0.63)
IMAGE: Final = Phase(median_s=230.0, sigma=0.3)
WEIGHTS: Final = Phase(median_s=33.0, sigma=0.3)
COMPILE: Final = Phase(median_s=46.0, sigma=0.1)
READY: Final = Phase(median_s=53.0, sigma=0.1)
RESTART: Final = Phase(median_s=60.0, sigma=0.25)
SLEEP: Final = Phase(median_s=11.2, sigma=0.1)
WAKE: Final = Phase(median_s=0.55, sigma=0.1)
"""The defaults; each is told with its source in `StartUp`. Sigmas of 0.1 and 0.3 stand in for spreads not measured."""


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """How long a replica takes from the request for its node to its first request: Llama-3.1-8B on an H100."""

    node: Annotated[
        Phase,
        FieldMetadata(
            "Request to node ready. Default: a GPU node at once from the cloud's API serves 150 s (p50) and 420 s (p95)"
            " after the request, of which 45 s are the engine's."
        ),
    ] = NODE
    image: Annotated[
        Phase,
        FieldMetadata("Pulling the engine's image. Default: GKE's 230 s for a GPU image; streamed it takes 20 s."),
    ] = IMAGE
    weights: Annotated[
        Phase, FieldMetadata("Weights to the GPU. Default: 33 s for 16 GB from a local disk, vLLM on an L40S.")
    ] = WEIGHTS
    compile: Annotated[
        Phase,
        FieldMetadata(
            "Compiling and capturing. Default: measured, vLLM 0.24 on an H100, engine init 79 s cold and 33 s with the"
            " compile cache warm (then set it to 0)."
        ),
    ] = COMPILE
    ready: Annotated[
        Phase,
        FieldMetadata(
            "The rest: imports, profiling, warm-up, health. Default: measured there, 22 s of imports and 31 s of init."
        ),
    ] = READY
    restart: Annotated[
        Phase,
        FieldMetadata("A stopped instance to node ready. Default: a warm pool's stopped instance adds 40 to 90 s."),
    ] = RESTART
    sleep: Annotated[Phase, FieldMetadata("Level-1 sleep of a loaded engine. Default: measured there, 11.2 s.")] = SLEEP
    wake: Annotated[Phase, FieldMetadata("Waking from it. Default: measured there, 0.55 s.")] = WAKE

    def durations(self, normals: Sequence[float]) -> Mapping[str, int]:
        """How long each phase takes, for a row of standard normals, in picoseconds."""
        return {name: getattr(self, name).ps(z) for name, z in zip(PHASES, normals, strict=True)}

    def problems(self) -> Iterator[tuple[str, str]]:
        if all(getattr(self, name).median_s == 0 for name in SERVE[Tier.COLD]):
            yield "node", "a start must take time: all of its phases are zero"


PHASES: Final = ("node", "image", "weights", "compile", "ready", "restart", "sleep", "wake")

CATALOGUE: Final[Mapping[str, StartUp]] = {
    "llama-3.1-8b-h100": StartUp(),
    "llama-3.1-8b-h100-streamed-image": StartUp(image=Phase(median_s=20.0, sigma=0.3)),
    "llama-3.1-8b-h100-warm-compile-cache": StartUp(image=Phase(median_s=20.0, sigma=0.3), compile=Phase(median_s=0.0)),
}
"""Start-ups by name. Engine phases are this project's measurements (vLLM 0.24, H100); node, image and weights are the
published figures that `StartUp` names. A 20 s image is GKE's image streaming; without compiling, its cache is warm."""


class Tier(StrEnum):
    """Where a node waits for work: the nearer to serving, the dearer."""

    AWAKE_SPARE = "awake_spare"  # loaded and idle, not yet routed to
    SLEPT = "slept"  # loaded, weights in host memory (vLLM sleep level 1)
    WARM_NODE = "warm_node"  # node and image there
    STOPPED = "stopped"  # instance stopped: its disk is paid for, and it holds no capacity
    COLD = "cold"  # nothing there


SERVE: Final[Mapping[Tier, tuple[str, ...]]] = {
    Tier.AWAKE_SPARE: (),
    Tier.SLEPT: ("wake",),
    Tier.WARM_NODE: ("weights", "compile", "ready"),
    Tier.STOPPED: ("restart", "weights", "compile", "ready"),
    Tier.COLD: ("node", "image", "weights", "compile", "ready"),
}
"""What is left to do from each tier until the replica serves; the tiers in order of speed."""
PREPARE: Final[Mapping[Tier, tuple[str, ...]]] = {
    Tier.AWAKE_SPARE: SERVE[Tier.COLD],
    Tier.SLEPT: (*SERVE[Tier.COLD], "sleep"),
    Tier.WARM_NODE: ("node", "image"),
    Tier.STOPPED: ("node", "image"),
}
"""What a new node does until it rests in its tier."""
HEADROOM: Final = tuple(PREPARE)

Plan = tuple[tuple[str, int], ...]
"""Phases to come, and when each ends. Picoseconds."""


def plan(durations: Mapping[str, int], phases: Sequence[str], start_ps: int) -> Plan:
    """Return the phases one after the other from `start_ps` on."""
    ends: list[tuple[str, int]] = []
    for name in phases:
        start_ps += durations[name]
        ends.append((name, start_ps))
    return tuple(ends)


class NodeState(IntEnum):
    """A node's life only moves down this list."""

    PREPARING = 0  # on its way to rest in a tier
    RESTING = 1
    STARTING = 2  # on its way to serve
    READY = 3
    DRAINING = 4  # takes no more requests
    GONE = 5


@dataclass(slots=True)
class SimulatedNode:
    """One node of a pool and the replica on it. `number` counts the pool's nodes; `engine` is the replica's number.

    `moves` says when it came into each state; `ends_ps` when it ends by its own rate of losses, -1 for never;
    `doomed_ps` when the cloud takes it, if that is settled; `interrupted` whether the cloud did.
    """

    number: int
    zone: int
    tier: Tier
    born_ps: int
    moves: list[tuple[int, NodeState]] = field(default_factory=list)
    plan: Plan = ()
    engine: int = -1
    ends_ps: int = -1
    doomed_ps: int | None = None
    interrupted: bool = False

    @property
    def state(self) -> NodeState:
        return self.moves[-1][1]

    @property
    def stopped(self) -> bool:
        """Whether its instance is stopped: it holds no capacity, and only its disk is paid."""
        return self.tier is Tier.STOPPED and self.state is NodeState.RESTING

    @property
    def due_ps(self) -> int:
        """When the last phase of its plan ends; with nothing to do, when it came into its state."""
        return self.plan[-1][1] if self.plan else self.moves[-1][0]

    def phase(self, now_ps: int) -> str | None:
        """Return the start-up phase it is in; None when it is in none."""
        if self.state not in {NodeState.PREPARING, NodeState.STARTING}:
            return None
        return next((name for name, end_ps in self.plan if end_ps > now_ps), None)

    def intervals(self, now_ps: int) -> Iterator[tuple[NodeState, int, int]]:
        """Each state it was in, from when to when, up to now."""
        ends = [at for at, _ in self.moves[1:]] + [now_ps]
        for (start_ps, state), end_ps in zip(self.moves, ends, strict=True):
            if state is not NodeState.GONE:
                yield state, start_ps, end_ps


def to_serve(node: SimulatedNode, durations: Mapping[str, int], now_ps: int) -> Plan:
    """What a node of the headroom has yet to do to serve, if it is taken now.

    One still being prepared goes on as if it had been meant to serve; one falling asleep sleeps, then wakes.
    """
    if node.state is NodeState.RESTING:
        return plan(durations, SERVE[node.tier], now_ps)
    direct = plan(durations, SERVE[Tier.COLD], node.born_ps)
    if direct[-1][1] > now_ps:
        return tuple((name, end_ps) for name, end_ps in direct if end_ps > now_ps)
    return plan(durations, SERVE[Tier.SLEPT], node.due_ps)
