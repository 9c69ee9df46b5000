"""EC2 instances bought by instant fleets: the answer tells at once what came, and why the rest did not.

EC2 keeps no size for them: it is how many instances with the pool's tag are there. EC2 shows what was launched or
terminated some seconds later, so both are remembered for a while. A launch whose answer was lost is said again under
its own token before anything else is bought.
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
from scaler.clouds.aws.instances import MOST_IDS, Ec2Instance, describe_instances, reserved_with
from scaler.clouds.aws.launch_failures import LaunchFailure, failure, join_failures
from scaler.clouds.aws.resizer import AwsResizer
from scaler.clouds.batching import Batch, batch
from scaler.config.kinds.aws_pools import Ec2InstantFleet
from scaler.ports import Context, PortError, Unavailable

TAG: Final = "forescale:pool"
"""Whose value is ``workload/pool``."""
SHOWN_S: Final = 60.0
"""By then EC2 shows what it did."""
LOST_S: Final = 300.0
"""How long a launch whose answer was lost may be said again: what it was for is another matter after that."""


async def open_ec2_instant_fleet(
    spec: Ec2InstantFleet, context: Context, workload: WorkloadName, pool: PoolName
) -> InstantResizer:
    """Open the instances of one pool. Raises `Misconfigured`."""
    return await InstantResizer(spec, context, f"{workload}/{pool}").connect()


@dataclass(frozen=True, slots=True)
class Launch:
    """A purchase of `count` instances, so that there are `wanted`, first asked for at `at`."""

    token: str
    count: int
    wanted: int
    at: float


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
            asked = [
                {"Name": f"tag:{TAG}", "Values": list(owners)},
                {"Name": "instance-state-name", "Values": ["pending", "running"]},
            ]
            pages = await ec2.pages(
                "DescribeInstances", "Reservations", ", ".join(owners[:3]), urgent=urgent, Filters=asked
            )
            found: dict[str, list[Ec2Instance]] = {owner: [] for owner in owners}
            for instance in reserved_with(pages):
                machine = describe_instances(instance)
                if machine is not None:
                    found[_owner(instance)].append(machine)
            return found

        self._tagged = await batch(self._context, ("aws-tagged", self._spec.account), fetch, MOST_IDS)

    async def _machines(self, *, urgent: bool = False) -> tuple[float, list[Ec2Instance]]:
        """The pool's instances, and a time that this is no older than. `urgent`: a write waits for it."""
        at, found = await self._tagged.get(self._owner, urgent=urgent)
        now = self._context.clock.now()
        seen = {m.id for m in found or ()}
        self._launched = {
            i: (m, since) for i, (m, since) in self._launched.items() if i not in seen and 0 <= now - since < SHOWN_S
        }
        self._ended = {i: since for i, since in self._ended.items() if 0 <= now - since < SHOWN_S}
        present = [*(found or ()), *(m for m, _ in self._launched.values())]
        machines = [m for m in present if m.id not in self._ended]
        lost = self._lost
        if lost is not None and (len(machines) >= lost.wanted or not 0 <= now - lost.at < LOST_S):
            self._lost = None
        return at, machines

    async def _status(self) -> Fresh[PoolStatus]:
        at, machines = await self._machines()
        return await self._pool_status(at, len(machines), machines, None, other_writer=None)

    async def _resize(self, replicas: int, seen: PoolStatus) -> None:
        _, machines = await self._machines(urgent=True)
        lost = self._lost
        if lost is not None and len(machines) < lost.wanted <= replicas:
            await self._launch(lost)
            _, machines = await self._machines(urgent=True)
        if replicas > len(machines):
            count, now = replicas - len(machines), self._context.clock.now()
            await self._launch(Launch(f"forescale-{uuid4().hex}", count, replicas, now))
        elif replicas < len(machines):
            await self._terminate(self._victims(machines, len(machines) - replicas))

    async def _launch(self, launch: Launch) -> None:
        """Buy instances. Raises port errors, also where only a part of them came."""
        self._lost = launch
        try:
            answer = await self._ec2.call(
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
        failures = [self._refused(e) for e in answer.get("Errors", ())]
        came = self._note(answer.get("Instances", ()))
        if not came and not failures:  # cut short: said again, it has the same token
            raise Unavailable(f"AWS ec2:CreateFleet of {self._owner}: an answer with neither instances nor errors")
        self._lost = None
        if came < launch.count and failures:
            raise join_failures(failures).error()

    def _note(self, bought: Collection[Mapping[str, Any]]) -> int:
        """Remember what came until EC2 shows it; how many."""
        now = self._context.clock.now()
        for one in bought:
            zone = str(one.get("AvailabilityZone", ""))
            for instance in one.get("InstanceIds", ()):
                self._launched[instance] = (Ec2Instance(instance, zone, self._spec.market, ready=False), now)
        return sum(len(one.get("InstanceIds", ())) for one in bought)

    def _template(self) -> dict[str, Any]:
        named = self._spec.launch_template
        key = "LaunchTemplateId" if named.startswith("lt-") else "LaunchTemplateName"
        types: Sequence[dict[str, Any]] = [{"InstanceType": t} for t in self._spec.instance_types] or [{}]
        return {
            "LaunchTemplateSpecification": {key: named, "Version": self._spec.version},
            "Overrides": [{"SubnetId": subnet, **kind} for kind in types for subnet in self._spec.subnets],
        }

    def _options(self) -> dict[str, Any]:
        """How EC2 chooses among subnets and types: where interruptions are rare and the price is low."""
        if self._spec.market == "spot":
            return {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        if self._spec.market == "reserved":
            return {
                "OnDemandOptions": {"CapacityReservationOptions": {"UsageStrategy": "use-capacity-reservations-first"}}
            }
        return {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}

    def _refused(self, error: Mapping[str, Any]) -> LaunchFailure:
        overrides = error.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
        return failure(
            str(error.get("ErrorMessage", "")),
            str(error.get("ErrorCode", "")),
            zone=str(overrides.get("AvailabilityZone", overrides.get("SubnetId", ""))),
            instance_type=str(overrides.get("InstanceType", "")),
            market=str(error.get("Lifecycle", self._spec.market)),
        )

    def _victims(self, machines: Sequence[Ec2Instance], count: int) -> list[str]:
        """Which go: those that will be taken anyway, those that do not serve yet, then from the fullest zone."""
        assert self._interruptions is not None  # noqa: S101 - open by now
        pending = self._interruptions.pending([m.id for m in machines])
        left = sorted(machines, key=lambda m: m.id)
        held = Counter(m.zone for m in left)
        victims: list[str] = []
        for _ in range(count):
            victim = max(left, key=lambda m: (m.id in pending, not m.ready, held[m.zone], m.id))
            left.remove(victim)
            held[victim.zone] -= 1
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
    found = [str(t["Value"]) for t in instance["Tags"] if t["Key"] == TAG]
    if len(found) != 1:
        raise Unavailable(f"AWS ec2:DescribeInstances: {instance.get('InstanceId')} without the tag it was asked by")
    return found[0]
