"""EC2 instances of pools: serving, pending and interrupted, by zone and market."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policies.model import PoolPart, PoolStatus, Shortfall
from scaler.clouds.aws import session
from scaler.clouds.batching import Batch, batch
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.parts import sum_parts
from scaler.ports import Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MAX_IDS: Final = 200
"""Maximum values of one filter in a describe call."""
MARKETS: Final[Mapping[str | None, str]] = {
    None: "on_demand",
    "spot": "spot",
    "capacity-block": "reserved",
    "interruptible-capacity-reservation": "reserved",
}
"""Market by an instance's `InstanceLifecycle`."""
STATES: Final[Mapping[str, bool]] = {
    "pending": True,
    "running": True,
    "shutting-down": False,
    "stopped": False,
    "stopping": False,
    "terminated": False,
}
"""Instance states, and whether an instance in it counts."""


@dataclass(frozen=True, slots=True)
class Ec2Instance:
    """An instance that serves (`ready`) or is pending. `units` is its weight in the pool's size."""

    id: str
    zone: str
    market: str
    ready: bool
    units: int = 1


def pool_status(
    desired: int,
    machines: Sequence[Ec2Instance],
    tracker: InterruptionTracker,
    shortfall: Shortfall | None,
    **fields: Any,
) -> PoolStatus:
    """Return a pool's status from its machines.

    `shortfall` is the reported reason for missing machines. Example: desired 5, two ready, one pending and a shortfall:
    5 - 2 - 1 = 2 failed. A machine with an interruption notice that no longer serves was interrupted. One with only a
    rebalance recommendation was not: its group replaced it.
    """
    pending = tracker.observe({m.id: m.units for m in machines if m.ready})
    ready = sum(m.units for m in machines if m.ready)
    starting = sum(m.units for m in machines if not m.ready)
    return PoolStatus(
        desired,
        ready,
        interruption_pending=sum(m.units for m in machines if m.id in pending),
        interrupted=tracker.interrupted,
        failed=max(0, desired - ready - starting) if shortfall is not None else 0,
        shortfall=shortfall,
        parts=sum_parts(_part(m, m.id in pending) for m in machines),
        **fields,
    )


def _part(machine: Ec2Instance, pending: bool) -> PoolPart:
    ready = machine.units if machine.ready else 0
    return PoolPart(machine.zone, machine.market, ready, machine.units - ready, machine.units if pending else 0)


def parse_instance(instance: Mapping[str, Any]) -> Ec2Instance | None:
    """Parse an instance of DescribeInstances; None where it no longer counts.

    Raises `Unavailable`.
    """
    state, name = instance["State"]["Name"], str(instance["InstanceId"])
    if state not in STATES or not name:
        raise Unavailable(f"AWS: malformed response: instance {name!r} has state {state!r}")
    if not STATES[state]:
        return None
    zone = str(instance.get("Placement", {}).get("AvailabilityZone", ""))
    market = MARKETS.get(instance.get("InstanceLifecycle"), "on_demand")
    return Ec2Instance(name, zone, market, ready=state == "running")


def instances_in(reservations: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the instances in the launches that DescribeInstances lists. Raises `Unavailable`."""
    instances: list[Mapping[str, Any]] = []
    for reservation in reservations:
        launched = reservation["Instances"]
        if not isinstance(launched, list) or not launched:
            raise Unavailable("AWS ec2:DescribeInstances: truncated response: a reservation without instances")
        instances += launched
    return instances


async def instances_by_id(context: Context, account: AwsAccount) -> Batch[str, Ec2Instance]:
    """Return the batch of instances by id; one that no longer counts is absent.

    Raises `Unavailable` or `Misconfigured`.
    """
    ec2 = await session.service(context, "ec2", account)

    async def fetch(ids: Sequence[str], *, urgent: bool) -> dict[str, Ec2Instance]:
        filters = [{"Name": "instance-id", "Values": list(ids)}]
        pages = await ec2.pages(
            "DescribeInstances", "Reservations", f"{len(ids)} instances", urgent=urgent, Filters=filters
        )
        instances = map(parse_instance, instances_in(pages))
        return {m.id: m for m in instances if m is not None}

    return await batch(context, ("aws-machines", account), fetch, MAX_IDS)
