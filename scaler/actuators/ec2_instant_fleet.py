"""EC2 instances launched by instant fleets.

The response to a launch lists the launched instances and the errors of the others. EC2 stores no size for a pool: the
size is the number of instances with the pool's tag. EC2 lists launches and terminations some seconds later, so both are
remembered for `SHOWN_S`. A launch whose response was lost is repeated under its own token before any other launch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.aws import session
from scaler.clouds.aws.fleets import target_capacity
from scaler.clouds.aws.instances import MAX_IDS, Ec2Instance, instances_in, parse_instance
from scaler.clouds.aws.launch_failures import LaunchFailure, join_failures, launch_failure
from scaler.clouds.aws.resizer import AwsResizer
from scaler.clouds.batching import Batch, batch
from scaler.config.kinds.aws_pools import Ec2InstantFleet
from scaler.ports import Context, PortError, Unavailable

TAG: Final = "forescale:pool"
"""Tag of the instances, with the value ``workload/pool``."""
SHOWN_S: Final = 60.0
"""Time after which EC2 lists its launches and terminations. Seconds."""
LOST_S: Final = 300.0
"""Time for which a launch with a lost response may be repeated; after it the demand may have changed. Seconds."""


async def open_ec2_instant_fleet(
    spec: Ec2InstantFleet, context: Context, workload: WorkloadName, pool: PoolName
) -> InstantResizer:
    """Open the instances of one pool. Raises `Misconfigured`."""
    return await InstantResizer(spec, context, f"{workload}/{pool}").connect()


@dataclass(frozen=True, slots=True)
class Launch:
    """A launch of `count` instances to reach `target` instances.

    It was first requested at `requested_at`.
    """

    token: str
    count: int
    target: int
    requested_at: float


class InstantResizer(AwsResizer):
    """The actuator's port."""

    _ec2: session.AwsService
    _tagged: Batch[str, list[Ec2Instance]]

    def __init__(self, spec: Ec2InstantFleet, context: Context, owner: str) -> None:
        super().__init__(spec, context, f"EC2 instances of {owner}")
        self._spec = spec
        self._owner = owner
        self._launched: dict[str, tuple[Ec2Instance, float]] = {}
        self._ended: dict[str, float] = {}
        self._lost: Launch | None = None

    async def _connect(self) -> None:
        self._ec2 = await session.service(self._context, "ec2", self._spec.account)
        ec2 = self._ec2

        async def fetch(owners: Sequence[str], *, urgent: bool) -> dict[str, list[Ec2Instance]]:
            filters = [
                {"Name": f"tag:{TAG}", "Values": list(owners)},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
            pages = await ec2.pages(
                "DescribeInstances", "Reservations", ", ".join(owners[:3]), urgent=urgent, Filters=filters
            )
            machines: dict[str, list[Ec2Instance]] = {owner: [] for owner in owners}
            for instance in instances_in(pages):
                machine = parse_instance(instance)
                if machine is not None:
                    machines[_owner(instance)].append(machine)
            return machines

        self._tagged = await batch(self._context, ("aws-tagged", self._spec.account), fetch, MAX_IDS)

    async def _machines(self, *, urgent: bool = False) -> tuple[float, list[Ec2Instance]]:
        """Return the time of the read, and the pool's instances. `urgent`: a write waits for it."""
        at, listed = await self._tagged.get(self._owner, urgent=urgent)
        now = self._context.clock.now()
        listed_ids = {m.id for m in listed or ()}
        self._launched = {
            i: (m, since)
            for i, (m, since) in self._launched.items()
            if i not in listed_ids and 0 <= now - since < SHOWN_S
        }
        self._ended = {i: since for i, since in self._ended.items() if 0 <= now - since < SHOWN_S}
        present = [*(listed or ()), *(m for m, _ in self._launched.values())]
        machines = [m for m in present if m.id not in self._ended]
        lost = self._lost
        if lost is not None and (len(machines) >= lost.target or not 0 <= now - lost.requested_at < LOST_S):
            self._lost = None
        return at, machines

    async def _status(self) -> Fresh[PoolStatus]:
        at, machines = await self._machines()
        return await self._pool_status(at, len(machines), machines, None, other_writer=None)

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        _, machines = await self._machines(urgent=True)
        lost = self._lost
        if lost is not None and len(machines) < lost.target <= replicas:
            await self._launch(lost)
            _, machines = await self._machines(urgent=True)
        if replicas > len(machines):
            count, now = replicas - len(machines), self._context.clock.now()
            await self._launch(Launch(f"forescale-{uuid4().hex}", count, replicas, now))
        elif replicas < len(machines):
            await self._terminate(self._victims(machines, len(machines) - replicas))

    async def _launch(self, launch: Launch) -> None:
        """Launch instances. Raises port errors, also where only some of them were launched."""
        self._lost = launch
        try:
            response = await self._ec2.call(
                "CreateFleet",
                self._owner,
                write=True,
                Type="instant",
                ClientToken=launch.token,
                LaunchTemplateConfigs=[self._template()],
                TargetCapacitySpecification=target_capacity(launch.count, self._spec.market),
                TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": TAG, "Value": self._owner}]}],
                **self._options(),
            )
        except PortError as e:
            if not isinstance(e, Unavailable):
                self._lost = None
            raise
        failures = [self._parse_error(e) for e in response.get("Errors", ())]
        launched = self._remember_launched(response.get("Instances", ()))
        if not launched and not failures:  # truncated: the repeated call has the same token
            raise Unavailable(f"AWS ec2:CreateFleet of {self._owner}: malformed response: neither instances nor errors")
        self._lost = None
        if launched < launch.count and failures:
            raise join_failures(failures).error()

    def _remember_launched(self, fleet_instances: Collection[Mapping[str, Any]]) -> int:
        """Remember the launched instances until EC2 lists them; return their number."""
        now = self._context.clock.now()
        for item in fleet_instances:
            zone = str(item.get("AvailabilityZone", ""))
            for instance in item.get("InstanceIds", ()):
                self._launched[instance] = (Ec2Instance(instance, zone, self._spec.market, ready=False), now)
        return sum(len(item.get("InstanceIds", ())) for item in fleet_instances)

    def _template(self) -> dict[str, Any]:
        template = self._spec.launch_template
        key = "LaunchTemplateId" if template.startswith("lt-") else "LaunchTemplateName"
        types: Sequence[dict[str, Any]] = [{"InstanceType": t} for t in self._spec.instance_types] or [{}]
        return {
            "LaunchTemplateSpecification": {key: template, "Version": self._spec.version},
            "Overrides": [{"SubnetId": subnet, **kind} for kind in types for subnet in self._spec.subnets],
        }

    def _options(self) -> dict[str, Any]:
        """Return EC2's allocation strategy among subnets and types.

        It aims at rare interruptions and a low price.
        """
        if self._spec.market == "spot":
            return {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        if self._spec.market == "reserved":
            return {
                "OnDemandOptions": {"CapacityReservationOptions": {"UsageStrategy": "use-capacity-reservations-first"}}
            }
        return {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}

    def _parse_error(self, error: Mapping[str, Any]) -> LaunchFailure:
        overrides = error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        return launch_failure(
            str(error.get("ErrorMessage", "")),
            str(error.get("ErrorCode", "")),
            zone=str(overrides.get("AvailabilityZone", overrides.get("SubnetId", ""))),
            instance_type=str(overrides.get("InstanceType", "")),
            market=str(error.get("Lifecycle", self._spec.market)),
        )

    def _victims(self, machines: Sequence[Ec2Instance], count: int) -> list[str]:
        """Return the ids of the instances to terminate.

        The first ones have an interruption pending, the next ones are not ready, and the others are from the fullest
        zone.

        Example: with 3 ready instances in zone a and 2 in zone b, the first victim is from a, then the zones are equal
        and the highest id goes.
        """
        assert self._interruptions is not None  # noqa: S101 - open by now
        pending = self._interruptions.pending([m.id for m in machines])
        candidates = sorted(machines, key=lambda m: m.id)
        count_by_zone = Counter(m.zone for m in candidates)
        victims: list[str] = []
        for _ in range(count):
            victim = max(candidates, key=lambda m: (m.id in pending, not m.ready, count_by_zone[m.zone], m.id))
            candidates.remove(victim)
            count_by_zone[victim.zone] -= 1
            victims.append(victim.id)
        return victims

    async def _terminate(self, victims: Sequence[str]) -> None:
        await self._ec2.call("TerminateInstances", self._owner, write=True, InstanceIds=list(victims))
        now = self._context.clock.now()
        self._ended.update(dict.fromkeys(victims, now))
        for victim in victims:
            self._launched.pop(victim, None)

    def _actions(self) -> Mapping[str, str]:
        return {"ec2:DescribeInstances": "*", "ec2:CreateFleet": "*", "ec2:TerminateInstances": "*"}


def _owner(instance: Mapping[str, Any]) -> str:
    owners = [str(t["Value"]) for t in instance["Tags"] if t["Key"] == TAG]
    if len(owners) != 1:
        raise Unavailable(
            f"AWS ec2:DescribeInstances: {instance.get('InstanceId')} is listed without the requested tag"
        )
    return owners[0]
