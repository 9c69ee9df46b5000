"""Provisioned throughput of Bedrock with time: creation for minutes, commitments, tokens, and no quota at first.

It is strict: units never change, a repeated token is ignored, names are unique, and nothing is deleted before the end
of its commitment. It proves the contract as understood, not Bedrock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.servers.aws_wire import Refusal

if TYPE_CHECKING:
    from tests.servers.aws_world import World

ARN: Final = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/{id}"
MODEL: Final = "arn:aws:bedrock:us-east-1::foundation-model/{id}"
QUOTA: Final = (
    "You have exceeded the quota of model units for provisioned throughputs. Request an increase from support."
)
COMMITTED_S: Final = {"OneMonth": 30 * 86_400.0, "SixMonths": 180 * 86_400.0}
PAGE: Final = 2
"""Items of a page: few, so that a list has several."""


@dataclass(eq=False)
class Throughput:
    """One provisioned throughput. It serves when `create_s` is over; None: when `finish` is called."""

    id: str
    name: str
    model: str
    units: int
    commitment: str | None = None
    created_at: float = field(default_factory=time.time)
    state: str = "Creating"
    failure: str = ""

    @property
    def arn(self) -> str:
        return ARN.format(id=self.id)

    @property
    def committed_until(self) -> float | None:
        return None if self.commitment is None else self.created_at + COMMITTED_S[self.commitment]

    def finish(self, failure: str = "") -> None:
        """End the creation."""
        self.state, self.failure = ("Failed", failure) if failure else ("InService", "")


@dataclass
class Bedrock:
    """The provisioned throughputs of an account. `quota`: the most units that it may hold."""

    quota: int = 0
    create_s: float | None = None
    throughputs: dict[str, Throughput] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    made: int = 0
    unlisted: set[str] = field(default_factory=set)
    """Names that lists do not show yet."""

    def settle(self) -> None:
        """Update the state to the present time."""
        for one in self.throughputs.values():
            if one.state == "Creating" and self.create_s is not None and time.time() - one.created_at >= self.create_s:
                one.finish()

    def add(self, name: str, units: int, model: str = "claude", **settings: Any) -> Throughput:
        """Add a throughput, as if it was created before."""
        self.made += 1
        one = Throughput(f"{self.made:012d}", name, model, units, **settings)
        self.throughputs[one.id] = one
        return one

    def named(self, name: str) -> Throughput:
        return next(one for one in self.throughputs.values() if one.name == name)

    @property
    def units(self) -> int:
        """Units that are held, and paid for."""
        return sum(one.units for one in self.throughputs.values())


def _find(world: World, reference: str) -> Throughput:
    key = reference.rpartition("/")[2]
    if key not in world.bedrock.throughputs:
        raise Refusal("ResourceNotFoundException", f"The provisioned model {reference} was not found", 404)
    return world.bedrock.throughputs[key]


def create(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    bedrock, token = world.bedrock, fields.get("clientRequestToken")
    if token in bedrock.tokens:
        return {"provisionedModelArn": bedrock.tokens[token]}
    if any(one.name == fields["provisionedModelName"] for one in bedrock.throughputs.values()):
        raise Refusal("ValidationException", "The provided name is already in use")
    if bedrock.units + fields["modelUnits"] > bedrock.quota:
        raise Refusal("ServiceQuotaExceededException", QUOTA)
    one = bedrock.add(
        fields["provisionedModelName"],
        fields["modelUnits"],
        fields["modelId"],
        commitment=fields.get("commitmentDuration"),
    )
    if token is not None:
        bedrock.tokens[token] = one.arn
    return {"provisionedModelArn": one.arn}


def delete(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    one = _find(world, fields["provisionedModelId"])
    if one.state == "Creating":
        raise Refusal("ConflictException", "The provisioned model is being created", 400)
    if one.committed_until is not None and time.time() < one.committed_until:
        raise Refusal("ConflictException", "You can't delete a Provisioned Throughput before its commitment ends", 400)
    del world.bedrock.throughputs[one.id]
    return {}


def get(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    one = _find(world, fields["provisionedModelId"])
    return {**_summary(one), **({"failureMessage": one.failure} if one.failure else {})}


def list_(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    part = fields.get("nameContains", "")
    shown = [one for one in world.bedrock.throughputs.values() if one.name not in world.bedrock.unlisted]
    found = [one for one in shown if part in one.name]
    first = int(fields.get("nextToken") or 0)
    more = {"nextToken": str(first + PAGE)} if len(found) > first + PAGE else {}
    return {"provisionedModelSummaries": [_summary(one) for one in found[first : first + PAGE]], **more}


def _summary(one: Throughput) -> dict[str, Any]:
    terms: dict[str, Any] = {}
    if one.commitment is not None and one.committed_until is not None:
        terms = {"commitmentDuration": one.commitment, "commitmentExpirationTime": _when(one.committed_until)}
    model = MODEL.format(id=one.model)
    return {
        "provisionedModelName": one.name,
        "provisionedModelArn": one.arn,
        "modelArn": model,
        "desiredModelArn": model,
        "foundationModelArn": model,
        "modelUnits": one.units,
        "desiredModelUnits": one.units,
        "status": one.state,
        "creationTime": _when(one.created_at),
        "lastModifiedTime": _when(one.created_at),
        **terms,
    }


def _when(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


HANDLERS: Final[Mapping[tuple[str, str], Callable[[World, dict[str, Any]], Mapping[str, Any]]]] = {
    ("bedrock", "CreateProvisionedModelThroughput"): create,
    ("bedrock", "DeleteProvisionedModelThroughput"): delete,
    ("bedrock", "GetProvisionedModelThroughput"): get,
    ("bedrock", "ListProvisionedModelThroughputs"): list_,
}
