"""EC2 instances as pools count them: which serve, which come, in which zone and market, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policies.model import Part, PoolStatus, Shortfall
from scaler.clouds.aws import session
from scaler.clouds.aws.batching import Batch, batch
from scaler.clouds.interruptions import Board
from scaler.ports import Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MOST_IDS: Final = 200
"""Values that one filter of a describe takes."""
MARKETS: Final[Mapping[str | None, str]] = {
    None: "on_demand",
    "spot": "spot",
    "capacity-block": "reserved",
    "interruptible-capacity-reservation": "reserved",
}
"""An instance's `InstanceLifecycle` as a market."""
STATES: Final[Mapping[str, bool]] = {
    "pending": True,
    "running": True,
    "shutting-down": False,
    "stopped": False,
    "stopping": False,
    "terminated": False,
}
"""An instance's states, and whether it counts."""


@dataclass(frozen=True, slots=True)
class Ec2Instance:
    """An instance that serves (`ready`) or is on its way; `units` is what it counts for in its pool's size."""

    id: str
    zone: str
    market: str
    ready: bool
    units: int = 1


class Ec2InterruptionTracker:
    """What the cloud says of a pool's machines, and how many it has taken. Asked once a status."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._known: dict[str, int] = {}
        self._taken = 0

    def of(self, machines: Collection[Ec2Instance]) -> tuple[frozenset[str], int]:
        """The ids of those that will be taken, and how many units were so far.

        A machine that had the notice of an interruption and serves no more was taken. One recommended for rebalancing
        only was not: its group replaced it.
        """
        ready = {m.id: m.units for m in machines if m.ready}
        gone = self._known.keys() - ready.keys()
        for machine, notice in self._board.of(gone).items():
            self._taken += self._known[machine] if notice.kind == "interruption" else 0
            self._board.unpin(machine)
        self._known = ready
        return frozenset(self._board.of(ready)), self._taken


def status(
    desired: int, machines: Sequence[Ec2Instance], fates: Ec2InterruptionTracker, short: Shortfall | None, **more: Any
) -> PoolStatus:
    """A pool's status, told by its machines. `short` is why some do not come; None where nothing was said."""
    doomed, interrupted = fates.of(machines)
    ready = sum(m.units for m in machines if m.ready)
    coming = sum(m.units for m in machines if not m.ready)
    return PoolStatus(
        desired,
        ready,
        interruption_pending=sum(m.units for m in machines if m.id in doomed),
        interrupted=interrupted,
        failed=max(0, desired - ready - coming) if short is not None else 0,
        shortfall=short,
        parts=parts(machines, doomed),
        **more,
    )


def parts(machines: Sequence[Ec2Instance], doomed: Collection[str]) -> tuple[Part, ...]:
    """Machines by zone and market."""
    ready: Counter[tuple[str, str]] = Counter()
    coming: Counter[tuple[str, str]] = Counter()
    leaving: Counter[tuple[str, str]] = Counter()
    for m in machines:
        (ready if m.ready else coming)[m.zone, m.market] += m.units
        leaving[m.zone, m.market] += m.units if m.id in doomed else 0
    places = sorted(ready.keys() | coming.keys())
    return tuple(Part(zone, market, ready[p], coming[p], leaving[p]) for p in places for zone, market in (p,))


def describe_instances(instance: Mapping[str, Any]) -> Ec2Instance | None:
    """An instance of DescribeInstances; None where it serves no more. Raises `Unavailable`."""
    state, name = instance["State"]["Name"], str(instance["InstanceId"])
    if state not in STATES or not name:
        raise Unavailable(f"AWS: an instance {name!r} in the state {state!r}: an answer that cannot be read")
    if not STATES[state]:
        return None
    zone = str(instance.get("Placement", {}).get("AvailabilityZone", ""))
    market = MARKETS.get(instance.get("InstanceLifecycle"), "on_demand")
    return Ec2Instance(name, zone, market, ready=state == "running")


def reserved_with(reservations: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The instances of DescribeInstances, which come by what they were launched with. Raises `Unavailable`."""
    found: list[Mapping[str, Any]] = []
    for one in reservations:
        listed = one["Instances"]
        if not isinstance(listed, list) or not listed:
            raise Unavailable("AWS ec2:DescribeInstances: a launch without its instances: an answer that is cut short")
        found += listed
    return found


async def machines(context: Context, account: AwsAccount) -> Batch[str, Ec2Instance]:
    """Instances by id, many a call; one that serves no more is not there. Raises `Unavailable` or `Misconfigured`."""
    ec2 = await session.service(context, "ec2", account)

    async def fetch(ids: Sequence[str], *, first: bool) -> dict[str, Ec2Instance]:
        asked = [{"Name": "instance-id", "Values": list(ids)}]
        pages = await ec2.pages(
            "DescribeInstances", "Reservations", f"{len(ids)} instances", first=first, Filters=asked
        )
        found = map(describe_instances, reserved_with(pages))
        return {m.id: m for m in found if m is not None}

    return await batch(context, ("aws-machines", account), fetch, MOST_IDS)
