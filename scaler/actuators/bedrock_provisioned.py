"""Provisioned throughput of Amazon Bedrock, bought by an approved plan.

Model units of a provisioned throughput cannot be changed. So a plan is carried out in steps, one in each tick: create a
second one, wait until it serves, write its ARN to the parameter that the applications read, wait, and delete the first.
Every step follows from what AWS reports, so another daemon can continue. Nothing is done without `approve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import session
from scaler.clouds.aws.launch_failures import launch_failure
from scaler.clouds.aws.resizer import AwsActuator
from scaler.clouds.response_validation import machine_count, one_line, unavailable_if_malformed
from scaler.config.kinds.bedrock_pools import BedrockProvisioned
from scaler.config.purchase import ID_DIGITS, bedrock_commitment
from scaler.ports import Conflict, Context, Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.session import AwsService

SERVING: Final = frozenset({"InService", "Updating"})
STATES: Final = SERVING | {"Creating", "Failed"}
RESOLUTION_S: Final = 1.0
"""Resolution of AWS's times: two writes within it have no order. Seconds."""
LIST: Final = "AWS bedrock:ListProvisionedModelThroughputs"


@dataclass(frozen=True, slots=True)
class Throughput:
    """One provisioned throughput.

    Times are Unix times. `committed_until` is None without a commitment.
    """

    name: str
    arn: str
    units: int
    state: str
    created_at: float
    committed_until: float | None

    @property
    def serves(self) -> bool:
        return self.state in SERVING


@dataclass(frozen=True, slots=True)
class Picture:
    """The plan's state on AWS.

    `planned` is the plan's throughput, `current` the one that the parameter names, `older` the others of this pool.
    """

    planned: Throughput | None
    current: Throughput | None
    older: tuple[Throughput, ...]
    parameter_set_at: float

    @property
    def is_moved(self) -> bool:
        """Whether the applications call the planned throughput."""
        return self.planned is not None and self.current == self.planned

    def deletable(self, now: float, drain_s: float) -> tuple[Throughput, ...]:
        """Return the older throughputs to delete.

        No application calls them any more, and their commitment is over.
        """
        if not self.is_moved or now - self.parameter_set_at < drain_s:
            return ()
        return tuple(t for t in self.older if t.committed_until is None or t.committed_until <= now)


async def open_bedrock_provisioned(
    spec: BedrockProvisioned, context: Context, workload: WorkloadName, pool: PoolName
) -> ProvisionedUnits:
    """Open the provisioned throughput of a model. Raises `Misconfigured`."""
    return await ProvisionedUnits(spec, context, workload, pool).connect()


class ProvisionedUnits(AwsActuator):
    """The actuator's port."""

    _bedrock: AwsService
    _parameters: AwsService

    def __init__(self, spec: BedrockProvisioned, context: Context, workload: WorkloadName, pool: PoolName) -> None:
        what = f"Bedrock provisioned throughput {spec.name}"
        super().__init__(spec.account, spec.other_writer_yield_s, context, what)
        self._spec = spec
        self._pool = f"{workload}/{pool}"
        self._plan_id = spec.plan_id(workload, pool)
        self._plan = spec.plan_text(workload, pool)
        self._own_name = re.compile(rf"{re.escape(spec.name)}-[0-9a-f]{{{ID_DIGITS}}}")
        self._unfinished = False

    async def _connect(self) -> None:
        self._bedrock = await session.service(self._context, "bedrock", self._account)
        self._parameters = await session.service(self._context, "ssm", self._account)

    async def _status(self) -> Fresh[PoolStatus]:
        at = self._context.clock.now()
        picture = await self._picture()
        planned, current = picture.planned, picture.current
        steps_left = not picture.is_moved or bool(picture.deletable(at, self._spec.drain_s))
        self._unfinished = self._is_approved and steps_left
        ready = current.units if current is not None and current.serves else 0
        shortfall = await self._failure(planned) if planned is not None and planned.state == "Failed" else None
        shown = planned or current
        desired = 0 if shown is None else shown.units
        failed = 0 if shortfall is None else max(0, desired - ready)
        return Fresh(PoolStatus(desired, ready, failed=failed, shortfall=shortfall), at)

    def unfinished(self) -> bool:
        """Return whether the approved plan still has a step."""
        return self._unfinished

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        spec = self._spec
        if replicas != spec.units:
            raise Misconfigured(f"{self._what}: {replicas} units are requested; the plan has {spec.units}, and decides")
        picture, now = await self._picture(urgent=True), self._context.clock.now()
        if picture.is_moved and not picture.deletable(now, spec.drain_s):
            return
        self._require_approval()
        if picture.planned is None:
            await self._create()
        elif not picture.is_moved:
            await self._move(picture, picture.planned)
        else:
            await self._delete(picture.deletable(now, spec.drain_s)[0])

    @property
    def _is_approved(self) -> bool:
        return self._spec.approve == self._plan_id

    @property
    def _unapproved(self) -> str:
        return (
            f"{self._what}: {self._plan} is not approved. Review it, then run: forescale approve {self._pool}"
            f" {self._plan_id} CONFIG"
        )

    def _require_approval(self) -> None:
        if not self._is_approved:
            raise Misconfigured(self._unapproved)

    async def _create(self) -> None:
        """Buy the plan's units. AWS ignores a repeated token, so a lost response buys nothing twice."""
        spec = self._spec
        commitment = bedrock_commitment(spec.term_h)
        terms: dict[str, Any] = {"commitmentDuration": commitment} if commitment else {}
        response = await self._bedrock.call(
            "CreateProvisionedModelThroughput",
            spec.name,
            write=True,
            clientRequestToken=f"forescale-{spec.name.replace('_', '-')}-{self._plan_id}",
            modelUnits=spec.units,
            provisionedModelName=f"{spec.name}-{self._plan_id}",
            modelId=spec.model,
            **terms,
        )
        if not response.get("provisionedModelArn"):
            raise Unavailable(f"{self._what}: malformed response: the created throughput has no ARN")

    async def _move(self, picture: Picture, planned: Throughput) -> None:
        """Let the applications call the planned throughput, once it serves."""
        if planned.state == "Failed":
            failure = await self._failure(planned)
            raise Misconfigured(f"{failure.reason}. Delete {planned.name}, and approve the plan again")
        if not planned.serves:
            return
        if picture.parameter_set_at > planned.created_at + RESOLUTION_S:
            raise Conflict(
                f"{self._what}: another writer set the parameter {self._spec.parameter} after {planned.name} was"
                f" created. Set it to {planned.arn} to continue, or approve another plan"
            )
        await self._parameters.call(
            "PutParameter",
            self._spec.parameter,
            write=True,
            repeat=True,
            Name=self._spec.parameter,
            Value=planned.arn,
            Type="String",
            Overwrite=True,
        )

    async def _delete(self, old: Throughput) -> None:
        await self._bedrock.call(
            "DeleteProvisionedModelThroughput", old.name, write=True, repeat=True, provisionedModelId=old.arn
        )

    async def _picture(self, *, urgent: bool = False) -> Picture:
        spec = self._spec
        listed = await self._bedrock.pages(
            "ListProvisionedModelThroughputs",
            "provisionedModelSummaries",
            spec.name,
            urgent=urgent,
            nameContains=f"{spec.name}-",
        )
        with unavailable_if_malformed(LIST):
            own = [parsed(item) for item in listed if self._own_name.fullmatch(str(item["provisionedModelName"]))]
        arn, set_at = await self._named(urgent=urgent)
        current = next((t for t in own if t.arn == arn), None)
        if current is None and arn.startswith("arn:"):  # bought by a person: it serves, and is never deleted
            current = await self._get(arn, urgent=urgent)
        planned = next((t for t in own if t.name == f"{spec.name}-{self._plan_id}"), None)
        older = tuple(t for t in own if t not in {planned, current})
        return Picture(planned, current, older, set_at)

    async def _named(self, *, urgent: bool) -> tuple[str, float]:
        """Return the ARN in the parameter, and the time at which it was set."""
        name = self._spec.parameter
        response = await self._parameters.call("GetParameter", name, write=urgent, repeat=True, Name=name)
        with unavailable_if_malformed(f"AWS ssm:GetParameter of {name}"):
            parameter = response["Parameter"]
            return str(parameter["Value"]).strip(), parameter["LastModifiedDate"].timestamp()

    async def _get(self, arn: str, *, urgent: bool = False) -> Throughput:
        with unavailable_if_malformed("AWS bedrock:GetProvisionedModelThroughput"):
            return parsed(await self._described(arn, urgent=urgent))

    async def _described(self, arn: str, *, urgent: bool = False) -> Mapping[str, Any]:
        response: Mapping[str, Any] = await self._bedrock.call(
            "GetProvisionedModelThroughput", arn, write=urgent, repeat=True, provisionedModelId=arn
        )
        return response

    async def _failure(self, planned: Throughput) -> Shortfall:
        """Return AWS's reason for a throughput that failed."""
        described = await self._described(planned.arn)
        reason = one_line(described.get("failureMessage") or "AWS reports no reason")
        cause = launch_failure(f"{self._what}: {planned.name} failed: {reason}")
        return Shortfall(planned.created_at, cause.reason, cause.lasting)

    async def scale_out_refusals(self) -> Sequence[str]:
        """Return why the plan would not be carried out, with remedies."""
        picture = await self._picture()
        if picture.is_moved or self._is_approved:
            return []
        return [self._unapproved]

    def _actions(self) -> Mapping[str, str]:
        names = ("Create", "Delete", "Get")
        throughputs = {f"bedrock:{name}ProvisionedModelThroughput": "*" for name in names}
        return {
            **throughputs,
            "bedrock:ListProvisionedModelThroughputs": "*",
            "ssm:GetParameter": "*",
            "ssm:PutParameter": "*",
        }


def parsed(item: Mapping[str, Any]) -> Throughput:
    """Return a described throughput. Raises the exceptions of `MALFORMED`, or `Unavailable`."""
    state, ends = str(item["status"]), item.get("commitmentExpirationTime")
    if state not in STATES:
        raise ValueError(f"the status {one_line(state)} is unknown")
    return Throughput(
        str(item["provisionedModelName"]),
        str(item["provisionedModelArn"]),
        machine_count(f"{LIST}: modelUnits", item["modelUnits"]),
        state,
        item["creationTime"].timestamp(),
        None if ends is None else ends.timestamp(),
    )
