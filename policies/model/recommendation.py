"""The recommendation of one policy, with its evidence and its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from policies.model.names import PolicyName, PoolName, SignalName


class Evidence(StrEnum):
    """Freshness of the signals that a policy reads."""

    FULL = "full"  # every signal is fresh: may raise and may lower the size
    PARTIAL = "partial"  # some signals are fresh: a lower bound of the need, which may only raise the size
    BLIND = "blind"  # no signal is fresh: no recommendation, and no policy may lower the size


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The size that one policy recommends, in replica equivalents of work, and why.

    - `replicas`: None where the policy has no recommendation. 2.5 is two and a half replicas of work.
    - `active`: whether there is work that keeps the workload from scaling to zero.
    - `used`: the signals that it read.

    The other fields are for policies with windows of their own, and for those that read the history:

    - `unstabilized`: the need before the policy's own windows and limits; None where it has none.
    - `retained_signals`: signals whose readings the history keeps for the policy.
    - `memory`: values for the policy's next tick. Durations and counts only, so that a clock jump changes nothing.
    - `pools`: the policy's own split of `replicas`; empty where the allocator splits.
    - `work`: the demand measured now, without forecast or margin; None where the policy does not report it.
    - `peaks`: pairs (quantile, replica equivalents) of the largest demand until a replica requested now serves, both
      rising: (0.5, 4) and (0.9, 8) mean a peak above 4 with a probability of 0.5, and above 8 with one of 0.1.
    - `latency_driven`: the part of `replicas` that is requested because latencies exceed the SLO, not because of load.
      The guard cuts it where it would not help.
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
