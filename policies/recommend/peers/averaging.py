"""The part that Knative, Ray Serve and SkyServe share: an average of past loads, windows, and a memory of both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from policies.model import Evidence, PolicyName, Recommendation
from policies.signals.demand import fresh_values, no_opinion, signal_names

if TYPE_CHECKING:
    from policies.model import PoolName, SignalName
    from policies.recommend.context import PolicyContext


@dataclass(frozen=True, slots=True)
class PeerSize:
    """The size that a peer decides on, after its own windows and limits, and `unstabilized` before them."""

    replicas: float
    unstabilized: float
    active: bool
    reason: str
    memory: Mapping[str, float]
    pools: Mapping[PoolName, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PeerTick:
    """One tick of a peer: fresh `values` of its signals, all of them or a part, and what it handed on before."""

    name: PolicyName
    view: PolicyContext
    values: Mapping[SignalName, float]
    evidence: Evidence
    memory: Mapping[str, float]
    ready: int
    desired: int


class AveragingPolicy(ABC):
    """A peer that sizes by the average of a load; its past values are kept, and what it remembers is handed on."""

    post_demand: ClassVar[bool] = False
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = True
    source: str | None

    @abstractmethod
    def needs(self) -> tuple[str, ...]: ...

    @abstractmethod
    def size(self, tick: PeerTick) -> PeerSize:
        """Return the size decided on."""

    def recommend(self, name: PolicyName, view: PolicyContext) -> Recommendation:
        used = signal_names(self.source, self.needs())
        values, evidence, wrong = fresh_values(used, view.readings)
        memory = view.history.memory(name)
        if evidence is Evidence.BLIND or view.ready is None or view.desired is None:
            return no_opinion(name, used, wrong or "the number of replicas is not known", memory)
        size = self.size(PeerTick(name, view, values, evidence, memory, view.ready, view.desired))
        return Recommendation(
            name,
            size.replicas,
            evidence,
            size.active,
            f"{size.reason}, at least ({wrong})" if wrong else size.reason,
            used,
            unstabilized=size.unstabilized,
            retained_signals=used,
            memory=size.memory,
            pools=size.pools,
        )
