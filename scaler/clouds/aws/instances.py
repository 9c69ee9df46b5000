"""EC2 instances as pools count them: serving, pending, by zone and market, and interrupted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policies.model import Part, PoolStatus, Shortfall
from scaler.clouds.aws import session
from scaler.clouds.batching import Batch, batch
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.parts import sum_parts
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


def status(
    desired: int,
    machines: Sequence[Ec2Instance],
    tracker: InterruptionTracker,
    shortfall: Shortfall | None,
    **more: Any,
) -> PoolStatus:
    """Return a pool's status from its machines.

    `short` is why some do not come; None where nothing was reported.

    A machine that had an interruption notice and serves no more was interrupted. One that was only recommended for
    rebalancing was not: its group replaced it.
    """
    pending = tracker.observe({m.id: m.units for m in machines if m.ready})
    ready = sum(m.units for m in machines if m.ready)
    coming = sum(m.units for m in machines if not m.ready)
    return PoolStatus(
        desired,
        ready,
        interruption_pending=sum(m.units for m in machines if m.id in pending),
        interrupted=tracker.interrupted,
        failed=max(0, desired - ready - coming) if shortfall is not None else 0,
        shortfall=shortfall,
        parts=sum_parts(_part(m, m.id in pending) for m in machines),
        **more,
    )


def _part(machine: Ec2Instance, pending: bool) -> Part:
    ready = machine.units if machine.ready else 0
    return Part(machine.zone, machine.market, ready, machine.units - ready, machine.units if pending else 0)


def describe_instances(instance: Mapping[str, Any]) -> Ec2Instance | None:
    """Return an instance of DescribeInstances; None where it serves no more.

    Raises `Unavailable`.
    """
    state, name = instance["State"]["Name"], str(instance["InstanceId"])
    if state not in STATES or not name:
        raise Unavailable(f"AWS: an instance {name!r} in the state {state!r}: an answer that cannot be read")
    if not STATES[state]:
        return None
    zone = str(instance.get("Placement", {}).get("AvailabilityZone", ""))
    market = MARKETS.get(instance.get("InstanceLifecycle"), "on_demand")
    return Ec2Instance(name, zone, market, ready=state == "running")


def reserved_with(reservations: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the instances of DescribeInstances, which come by what they were launched with.

    Raises `Unavailable`.
    """
    found: list[Mapping[str, Any]] = []
    for one in reservations:
        listed = one["Instances"]
        if not isinstance(listed, list) or not listed:
            raise Unavailable("AWS ec2:DescribeInstances: a launch without its instances: an answer that is cut short")
        found += listed
    return found


async def machines(context: Context, account: AwsAccount) -> Batch[str, Ec2Instance]:
    """Return instances by id, many a call; one that serves no more is absent.

    Raises `Unavailable` or `Misconfigured`.
    """
    ec2 = await session.service(context, "ec2", account)

    async def fetch(ids: Sequence[str], *, urgent: bool) -> dict[str, Ec2Instance]:
        filters = [{"Name": "instance-id", "Values": list(ids)}]
        pages = await ec2.pages(
            "DescribeInstances", "Reservations", f"{len(ids)} instances", urgent=urgent, Filters=filters
        )
        found = map(describe_instances, reserved_with(pages))
        return {m.id: m for m in found if m is not None}

    return await batch(context, ("aws-machines", account), fetch, MOST_IDS)
