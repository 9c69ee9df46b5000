"""The common part of Knative, Ray Serve and SkyServe.

It has an average of recent loads, delayed moves, and a memory.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final

from policies.model import Evidence, PolicyName, Recommendation
from policies.recommend.peers.history_queries import JITTER_S, elapsed_s
from policies.recommend.peers.memory import MoveMemory, recall
from policies.signals.demand import fresh_values, no_opinion, signal_names

if TYPE_CHECKING:
    from policies.model import PoolName, SignalName
    from policies.recommend.context import PolicyContext


@dataclass(frozen=True, slots=True)
class PeerSize:
    """The size that a peer recommends.

    `replicas` is the size after the peer's own windows and limits, `unstabilized` the size before them.
    """

    replicas: float
    unstabilized: float
    active: bool
    reason: str
    memory: Mapping[str, float]
    pools: Mapping[PoolName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PeerTick:
    """One tick of a peer: the fresh `values` among its signals, and its memory."""

    name: PolicyName
    context: PolicyContext
    values: Mapping[SignalName, float]
    evidence: Evidence
    memory: Mapping[str, float]
    ready: int
    desired: int


@dataclass(frozen=True, slots=True)
class DelayedMove:
    """A move that is made only after the policy has recommended its direction for a delay."""

    memory: MoveMemory
    is_due: bool
    reason: str


NO_MOVE: Final = DelayedMove(MoveMemory(0.0, 0.0), is_due=False, reason="")


def delayed_move(tick: PeerTick, change: int, delay_s: float, first_s: float) -> DelayedMove:
    """Return the move by `change` replicas.

    It has the time for which the move has been recommended, and whether `delay_s` is over. The first tick counts for
    `first_s`. Scale-in with a part of the evidence gains no time, since a missing reading looks like less load.
    Example: +3 has been recommended for 20 s, and this tick adds 10 s. With a delay of 30 s the move is due, and the
    next move starts at 0.
    """
    direction = 1.0 if change > 0 else -1.0
    counts = change > 0 or tick.evidence is Evidence.FULL
    before = recall(MoveMemory, tick.memory)
    if before.direction == direction and before.agreed_s is not None:
        agreed_s = before.agreed_s + (elapsed_s(tick.context) if counts else 0.0)
    else:
        agreed_s = first_s if counts else 0.0
    is_due = agreed_s >= delay_s - JITTER_S
    memory = MoveMemory(0.0 if is_due else direction, agreed_s)
    return DelayedMove(memory, is_due, f"; recommended for {agreed_s:g} s of the {delay_s:g} s delay")


class AveragingPolicy(ABC):
    """A peer that sizes by the average of a load in the history.

    It has a memory between ticks.
    """

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = True
    source: str | None

    @abstractmethod
    def needs(self) -> tuple[str, ...]: ...

    @abstractmethod
    def size(self, tick: PeerTick) -> PeerSize:
        """Return the recommended size."""

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, problems = fresh_values(used, context.readings)
        memory = context.history.memory(name)
        if evidence is Evidence.BLIND or context.ready is None or context.desired is None:
            return no_opinion(name, used, problems or "the number of replicas is unknown", memory)
        size = self.size(PeerTick(name, context, values, evidence, memory, context.ready, context.desired))
        return Recommendation(
            name,
            size.replicas,
            evidence,
            size.active,
            f"{size.reason} (lower bound: {problems})" if problems else size.reason,
            used,
            unstabilized=size.unstabilized,
            retained_signals=used,
            memory=size.memory,
            pools=size.pools,
        )
