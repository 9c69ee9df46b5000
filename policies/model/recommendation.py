"""What one policy recommends, on which evidence, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.model.names import PolicyName, PoolName, SignalName


class Evidence(StrEnum):
    """How much of what a policy reads was fresh."""

    FULL = "full"  # every signal: may raise and may lower the size
    PARTIAL = "partial"  # some signals: a lower bound of the need, so it may raise only
    BLIND = "blind"  # no signal: no opinion, and no policy may lower the size


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The size that one policy recommends, in replica equivalents of work, and why.

    - `replicas`: None where the policy has no opinion. A fraction is a part of a replica.
    - `active`: whether there is work that keeps the workload from scaling to zero.
    - `used`: the signals that it read.

    The other fields are for policies with windows of their own, and for those that look back:

    - `unstabilized`: the need before the policy's own windows and limits; None where it has none.
    - `retained_signals`: signals whose readings the history keeps for the policy.
    - `memory`: values for the policy's next tick. Durations and counts only, so that a clock jump changes nothing.
    - `pools`: the policy's own split of `replicas`; empty where the allocator splits.
    - `work`: the demand measured now, without forecast or margin; None where the policy does not report it.
    - `peaks`: pairs (quantile, replica equivalents) of the largest demand until a replica requested now serves, both
      rising.
    - `latency_driven`: the part of `replicas` requested because latencies exceed the SLO, not because of load. Growth
      on its behalf ends where the guard finds that it does not help.
    """

    policy: PolicyName
    replicas: float | None
    evidence: Evidence
    active: bool
    reason: str
    used: tuple[SignalName, ...] = ()
    unstabilized: float | None = None
    retained_signals: tuple[SignalName, ...] = ()
    memory: Mapping[str, float] = field(default_factory=dict)
    pools: Mapping[PoolName, int] = field(default_factory=dict)
    work: float | None = None
    peaks: tuple[tuple[float, float], ...] = ()
    latency_driven: float | None = None

    @property
    def need(self) -> float | None:
        """The need before any window or limit."""
        return self.replicas if self.unstabilized is None else self.unstabilized
