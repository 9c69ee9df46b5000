"""Life cycle of a node: start-up phases, headroom tiers and states.

A start-up is a chain of phases with log-normal durations: measured load and boot times are skewed, with long tails
(Alibaba's GenAI cluster trace: model load 2.6 / 22.7 / 51.8 s at p10 / p50 / p99).
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
    """One phase of a start-up, with a log-normal duration.

    It is defined by its median and the standard deviation of its logarithm.
    """

    median_s: Annotated[float, FieldMetadata("Median duration; 0: the phase is skipped. Seconds.", ge=0, le=86400)]
    sigma: Annotated[
        float,
        FieldMetadata("Log-normal spread: p95 = median * exp(1.645 sigma). Default: 0, always the median.", ge=0, le=3),
    ] = 0.0

    def ps(self, normal: float) -> int:
        """Return the duration for a standard normal draw. Picoseconds.

        A median of 105 s and a sigma of 0.63 take 105 s at the draw 0 and 105 * exp(0.63 * 1.645) = 296 s at 1.645
        (p95).
        """
        return to_ps(self.median_s * math.exp(self.sigma * normal))


NODE: Final = Phase(median_s=105.0, sigma=0.63)
IMAGE: Final = Phase(median_s=230.0, sigma=0.3)
WEIGHTS: Final = Phase(median_s=33.0, sigma=0.3)
COMPILE: Final = Phase(median_s=46.0, sigma=0.1)
READY: Final = Phase(median_s=53.0, sigma=0.1)
RESTART: Final = Phase(median_s=60.0, sigma=0.25)
SLEEP: Final = Phase(median_s=11.2, sigma=0.1)
WAKE: Final = Phase(median_s=0.55, sigma=0.1)
"""Default phases; `StartUp` names the source of each. Sigmas of 0.1 and 0.3 are assumptions: no spread was measured."""


@dataclass(frozen=True, kw_only=True)
class StartUp:
    """Phases from the request for a node to its replica's first request.

    Defaults: Llama-3.1-8B on an H100.
    """

    node: Annotated[
        Phase,
        FieldMetadata(
            "Time from the request to a ready node. Default: a GPU node from the cloud's API serves 150 s (p50) and"
            " 420 s (p95) after the request, of which 45 s are the engine's."
        ),
    ] = NODE
    image: Annotated[
        Phase,
        FieldMetadata("Pull of the engine image. Default: 230 s for a GPU image on GKE; 20 s with image streaming."),
    ] = IMAGE
    weights: Annotated[
        Phase, FieldMetadata("Load of the weights. Default: 33 s for 16 GB from a local disk, vLLM on an L40S.")
    ] = WEIGHTS
    compile: Annotated[
        Phase,
        FieldMetadata(
            "Compilation and CUDA graph capture. Default: vLLM 0.24 on an H100, measured: 79 s of engine"
            " initialization, 33 s with a warm compile cache. Set it to 0 for a warm cache."
        ),
    ] = COMPILE
    ready: Annotated[
        Phase,
        FieldMetadata(
            "Imports, profiling, warm-up and health check. Default: vLLM 0.24 on an H100, measured: 22 s of imports and"
            " 31 s of initialization."
        ),
    ] = READY
    restart: Annotated[
        Phase,
        FieldMetadata("Start of a stopped instance. Default: 60 s; instances of an AWS warm pool take 40 to 90 s."),
    ] = RESTART
    sleep: Annotated[
        Phase, FieldMetadata("Level-1 sleep of a loaded engine. Default: vLLM 0.24 on an H100, measured: 11.2 s.")
    ] = SLEEP
    wake: Annotated[Phase, FieldMetadata("Wake-up from sleep. Default: vLLM 0.24 on an H100, measured: 0.55 s.")] = WAKE

    def durations(self, normals: Sequence[float]) -> Mapping[str, int]:
        """Return the duration of each phase in picoseconds.

        The input is a row of standard normals in the order of `PHASES`.
        """
        return {name: getattr(self, name).ps(z) for name, z in zip(PHASES, normals, strict=True)}

    def problems(self) -> Iterator[tuple[str, str]]:
        if all(getattr(self, name).median_s == 0 for name in SERVE[Tier.COLD]):
            yield "node", "at least one phase of a cold start must be above 0"


PHASES: Final = ("node", "image", "weights", "compile", "ready", "restart", "sleep", "wake")

CATALOGUE: Final[Mapping[str, StartUp]] = {
    "llama-3.1-8b-h100": StartUp(),
    "llama-3.1-8b-h100-streamed-image": StartUp(image=Phase(median_s=20.0, sigma=0.3)),
    "llama-3.1-8b-h100-warm-compile-cache": StartUp(image=Phase(median_s=20.0, sigma=0.3), compile=Phase(median_s=0.0)),
}
"""Start-ups by name. Engine phases are this project's measurements (vLLM 0.24, H100). Node, image and weights are the
published figures that `StartUp` names. A 20 s image is GKE's image streaming; a compile time of 0 is a warm cache."""


class Tier(StrEnum):
    """State of preparation in which a node waits. A tier nearer to serving is more expensive."""

    AWAKE_SPARE = "awake_spare"  # loaded and idle, without requests
    SLEPT = "slept"  # loaded, weights in host memory (vLLM sleep level 1)
    WARM_NODE = "warm_node"  # node and image ready
    STOPPED = "stopped"  # instance stopped: only its disk is paid for, and it holds no capacity
    COLD = "cold"  # no node


SERVE: Final[Mapping[Tier, tuple[str, ...]]] = {
    Tier.AWAKE_SPARE: (),
    Tier.SLEPT: ("wake",),
    Tier.WARM_NODE: ("weights", "compile", "ready"),
    Tier.STOPPED: ("restart", "weights", "compile", "ready"),
    Tier.COLD: ("node", "image", "weights", "compile", "ready"),
}
"""Phases from each tier until the replica serves, the fastest tier first."""
PREPARE: Final[Mapping[Tier, tuple[str, ...]]] = {
    Tier.AWAKE_SPARE: SERVE[Tier.COLD],
    Tier.SLEPT: (*SERVE[Tier.COLD], "sleep"),
    Tier.WARM_NODE: ("node", "image"),
    Tier.STOPPED: ("node", "image"),
}
"""Phases of a new node until it rests in its tier."""
HEADROOM: Final = tuple(PREPARE)

Plan = tuple[tuple[str, int], ...]
"""Remaining phases and the end of each. Picoseconds."""


def plan(durations: Mapping[str, int], phases: Sequence[str], start_ps: int) -> Plan:
    """Return the plan of `phases` in sequence from `start_ps` on.

    Phases of 20, 10 and 5 s from 7 s on end at 27, 37 and 42 s.
    """
    ends: list[tuple[str, int]] = []
    for name in phases:
        start_ps += durations[name]
        ends.append((name, start_ps))
    return tuple(ends)


class NodeState(IntEnum):
    """States of a node. A node only moves down this list."""

    PREPARING = 0  # prepares for its headroom tier
    RESTING = 1  # waits in its headroom tier
    STARTING = 2  # prepares to serve
    READY = 3
    DRAINING = 4  # takes no more requests
    GONE = 5


@dataclass(slots=True)
class SimulatedNode:
    """One node of a pool and the replica on it.

    `number` counts the pool's nodes; `engine` is the replica's number.

    `moves` holds (time, state) of each state. `life_end_ps` is the end of its random life, -1 for never;
    `interruption_ps` the time of its scheduled loss, if any; `interrupted` is true after the cloud interrupted it.
    """

    number: int
    zone: int
    tier: Tier
    born_ps: int
    moves: list[tuple[int, NodeState]] = field(default_factory=list)
    plan: Plan = ()
    engine: int = -1
    life_end_ps: int = -1
    interruption_ps: int | None = None
    interrupted: bool = False

    @property
    def state(self) -> NodeState:
        return self.moves[-1][1]

    @property
    def stopped(self) -> bool:
        """True if its instance is stopped: it holds no capacity, and only its disk is paid for."""
        return self.tier is Tier.STOPPED and self.state is NodeState.RESTING

    @property
    def due_ps(self) -> int:
        """End of the last phase of its plan; without a plan, the start of its state."""
        return self.plan[-1][1] if self.plan else self.moves[-1][0]

    def phase(self, now_ps: int) -> str | None:
        """Return its current start-up phase, or None."""
        if self.state not in {NodeState.PREPARING, NodeState.STARTING}:
            return None
        return next((name for name, end_ps in self.plan if end_ps > now_ps), None)

    def intervals(self, now_ps: int) -> Iterator[tuple[NodeState, int, int]]:
        """Yield (state, start, end) of each state up to now."""
        ends = [at for at, _ in self.moves[1:]] + [now_ps]
        for (start_ps, state), end_ps in zip(self.moves, ends, strict=True):
            if state is not NodeState.GONE:
                yield state, start_ps, end_ps


def to_serve(node: SimulatedNode, durations: Mapping[str, int], now_ps: int) -> Plan:
    """Return the plan of a headroom node from now until it serves.

    A node that is still in preparation continues with the phases of a cold start. One that is falling asleep completes
    its sleep, then wakes.
    """
    if node.state is NodeState.RESTING:
        return plan(durations, SERVE[node.tier], now_ps)
    direct = plan(durations, SERVE[Tier.COLD], node.born_ps)
    if direct[-1][1] > now_ps:
        return tuple((name, end_ps) for name, end_ps in direct if end_ps > now_ps)
    return plan(durations, SERVE[Tier.SLEPT], node.due_ps)
