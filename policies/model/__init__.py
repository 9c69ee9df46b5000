"""The vocabulary: what was seen, what was wanted, what was decided, what came of it.

All records are frozen. Times are seconds since the Unix epoch on the controller's clock; shares are 0 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, NewType, TypeAlias, TypeVar

from policies.model.rule_id import RuleId as RuleId

WorkloadName = NewType("WorkloadName", str)
PoolName = NewType("PoolName", str)
PolicyName = NewType("PolicyName", str)
SignalName = NewType("SignalName", str)
"""``source.quantity``, as in ``queue.visible``."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """A value recent enough to act on.

    `missing` says which part of a total did not answer; the value is then a lower bound, which may raise and not lower.
    """

    value: T
    measured_at: float
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Stale(Generic[T]):
    """The last value known, too old to act on: it is shown, and it blocks scale-in, but it moves nothing."""

    value: T
    measured_at: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Absent:
    """No value, and why. Never to be read as zero."""

    reason: str


Reading: TypeAlias = Fresh[T] | Stale[T] | Absent


@dataclass(frozen=True, slots=True)
class Shortfall:
    """The platform took a size and found later that it cannot give it.

    `at` is when it said so: one saying is one refusal, however often it is read. `quota` says that a limit of the
    account stands in the way, which heals more slowly; otherwise the platform has no capacity of this kind.
    """

    at: float
    reason: str
    quota: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A pool's replicas in one zone and market, where the platform tells them apart."""

    zone: str
    market: str
    ready: int
    pending: int = 0
    interruption_pending: int = 0


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The size of a pool as its platform tells it.

    `desired` is what the platform was last asked for, `ready` what can serve now. `foreign` names another writer of
    the same size (an HPA, a person), if one was seen. `version` is the platform's own token for this state, handed
    back as the precondition of a resize; empty where the platform has none. `doomed` are those of the ready ones that
    the cloud has said it will take (an interruption or rebalance notice); `interrupted` counts those that it took so
    far: it only grows, but for a restart of who counts. `failed` are those asked for of which the platform has said
    that they do not come, and `short` why. `reserved` is how many an active reservation holds, paid whether used or
    not; None where that is not known. `parts` tells ready and pending by zone and market.
    """

    desired: int
    ready: int
    other_writer: str | None = None
    version: str = ""
    interruption_pending: int = 0
    interrupted: int = 0
    failed: int = 0
    shortfall: Shortfall | None = None
    reserved: int | None = None
    parts: tuple[Part, ...] = ()

    @property
    def pending(self) -> int:
        """Replicas asked for that cannot serve yet, and may still come."""
        return max(0, self.desired - self.ready - self.failed)


@dataclass(frozen=True, slots=True)
class Quota:
    """So much at most, and why."""

    most: float
    reason: str


@dataclass(frozen=True, slots=True)
class Grant:
    """What the fleet lets one workload hold and remove now; None where the fleet sets no limit.

    `gpus` and `usd_per_hour` are the most that it may hold (less than it holds now: it is to give way), `removable`
    how many replicas it may remove. `removed` is how many all workloads removed within the blast radius's window: a
    pool whose quantum is larger than `removable` may remove one quantum less these.
    """

    gpus: Quota | None = None
    usd_per_hour: Quota | None = None
    removable: Quota | None = None
    removed: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """All that one turn saw of one workload, and which sources and pools could not be read, and why.

    `grant` is what the fleet allowed at that moment; None where no limit spans workloads.
    """

    workload: WorkloadName
    at: float
    readings: Mapping[SignalName, Reading[float]]
    pools: Mapping[PoolName, Reading[PoolStatus]]
    source_errors: Mapping[str, str] = field(default_factory=dict)
    pool_errors: Mapping[PoolName, str] = field(default_factory=dict)
    grant: Grant | None = None


class Evidence(StrEnum):
    """How much of what a policy asked to see was fresh."""

    FULL = "full"  # every signal: may raise and may lower
    PARTIAL = "partial"  # some: a lower bound of the need, so it may raise only
    BLIND = "blind"  # none: no opinion, and nobody else may lower


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What one policy wants, in replicas' worth of work (a fraction is a part of a replica), and why.

    `replicas` is None where the policy has no opinion. `active` says whether there is work that justifies leaving
    zero. `used` are the signals it looked at.

    The rest is for policies that settle by themselves or look back. `raw` is what the policy wanted before its own
    windows and limits made `replicas` of it; None where nothing lies between. `keeps` are the signals whose readings
    the history shall hold for it, `memory` what it hands on to its next turn: durations and counts, no times of day,
    so that a jump of the clock does not touch them. `pools` is how it shares `replicas` out over pools by itself; empty
    where that is the allocator's to decide. `work` is the demand it measured now, without forecast or margin; None
    where it does not tell. `peaks` are (quantile, replicas' worth of work) of the largest demand until a replica asked
    for now would serve, both rising. `because_late` is the part of `replicas` that is asked for because users wait too
    long rather than because load is there: growth on its behalf ends where the guard finds that it would not help.
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
        """What it wants before any window or limit."""
        return self.replicas if self.unstabilized is None else self.unstabilized


@dataclass(frozen=True, slots=True)
class Step:
    """One rule's effect on the size, on the way from demand to target.

    `replicas` is the size after the rule in replica equivalents of the serving pools; None where no size is known.
    """

    rule: RuleId
    replicas: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about one workload, and every reason on the way.

    `demand` is the largest honest need in replicas' worth of work, None when every policy is blind. `wanted` is what
    budgets and promises leave of that need as a whole number of replicas, before stabilization (a settling policy's own
    included). `current` is the size found (the sum of the pools' desired sizes) and `target` the size decided; both
    None when no pool's size is known. `targets` holds each pool that may be resized now.

    Where pools differ in market, price or worth, `current`, `ready` and `target` are replicas' worth, and `current` and
    `target` leave out what the allocator holds beyond the size: spares for losses, both ends of a move. `written_off`
    are replicas asked for that no longer count as supply. `cost_usd_per_hour` is what the targets cost, but for
    those; None where a price is not known. `doubted` are the sources that said 0 of everything and are not believed,
    and why.
    """

    at: float
    recommendations: tuple[Recommendation, ...]
    demand: float | None
    capped_need: int | None
    active: bool
    may_scale_in: bool
    current: int | None
    ready: int | None
    target: int | None
    steps: tuple[Step, ...]
    targets: Mapping[PoolName, int] = field(default_factory=dict)
    abandoned: Mapping[PoolName, int] = field(default_factory=dict)
    cost_usd_per_hour: float | None = None
    suspected_zeros: Mapping[str, str] = field(default_factory=dict)

    @property
    def reason(self) -> str:
        """The last rule that had a say, in words."""
        return self.steps[-1].reason if self.steps else "nothing to decide"


class Result(StrEnum):
    """What came of a pool's target."""

    UNCHANGED = "unchanged"  # the platform already holds this size
    ACCEPTED = "accepted"  # the platform took the write; capacity follows later, or does not
    DRY_RUN = "dry_run"  # decided only
    UNAVAILABLE = "unavailable"  # no answer, throttled, refused: the next turn tries again
    OUT_OF_CAPACITY = "out_of_capacity"
    OUT_OF_QUOTA = "out_of_quota"  # a limit of the account: retried within the hour
    CONFLICT = "conflict"  # somebody else wrote
    MISCONFIGURED = "misconfigured"  # needs a human

    @property
    def refused(self) -> bool:
        """Whether a write was wanted and did not come through."""
        return self not in {Result.UNCHANGED, Result.ACCEPTED, Result.DRY_RUN}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one pool's target this turn."""

    pool: PoolName
    before: int
    after: int
    result: Result
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """The record of one turn: everything else (log line, metrics, dashboard, explain, replay) is drawn from it.

    `spec` is the fingerprint of the specification that decided; `history_len` how many ticks the history held then;
    `lateness_s` how long after its due time the turn began; `took_s` how long observing and acting took;
    `clock_step_s` by how much the wall clock had jumped since the turn before (0 nearly always).
    """

    spec: str
    observation: Observation
    decision: Decision
    outcomes: tuple[Outcome, ...]
    history_len: int
    lateness_s: float
    took_s: float
    clock_step_s: float = 0.0
    dry_run: bool = False

    @property
    def workload(self) -> WorkloadName:
        return self.observation.workload

    @property
    def at(self) -> float:
        return self.observation.at
