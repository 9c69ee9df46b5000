"""AWS's launch failures and error codes by remedy, in AWS's published wording; batched calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from scaler.clock import SystemClock
from scaler.clouds.aws.errors import error_of_code
from scaler.clouds.aws.launch_failures import join_failures, launch_failure
from scaler.clouds.batching import Batch
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Unavailable

CAPACITY = [
    (
        (
            "We currently do not have sufficient p4d.24xlarge capacity in the Availability Zone you requested"
            " (us-east-1a). Our system will be working on provisioning additional capacity. You can currently get"
            " p4d.24xlarge capacity by not specifying an Availability Zone in your request or choosing us-east-1b."
            " Launching EC2 instance failed."
        ),
        "p4d.24xlarge, us-east-1a",
    ),
    (
        (
            "Could not launch Spot Instances. UnfulfillableCapacity - Unable to fulfill capacity due to your"
            " request configuration. Please adjust your request and try again. Launching EC2 instance failed."
        ),
        "",
    ),
    (
        (
            "Could not launch Spot Instances. InsufficientInstanceCapacity - There is no Spot capacity available"
            " that matches your request. Launching EC2 instance failed."
        ),
        "",
    ),
    ("The requested configuration is currently not supported. Unsupported - g6.12xlarge in eu-west-3c", "g6.12xlarge"),
    (
        (
            "p3.2xlarge, ami-1, Linux/UNIX, us-east-1d: Repeated errors have occurred processing the launch"
            " specification. It will not be retried for at least 13 minutes. Error message: There is no Spot"
            " capacity available (Service: AmazonEC2; Status Code: 500; Error Code: InsufficientInstanceCapacity)"
        ),
        "p3.2xlarge, us-east-1d",
    ),
]
LASTING = [
    (
        "You have requested more vCPU capacity than your current vCPU limit of 32 allows for the instance"
        " bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-"
        "us/ec2-request to request an adjustment to this limit. Launching EC2 instance failed."
    ),
    "Could not launch Spot Instances. MaxSpotInstanceCountExceeded - Max spot instance count exceeded.",
    ("Your quota allows for 0 more running instance(s). You requested at least 1. Launching EC2 instance failed."),
    "Could not launch On-Demand Instances. VcpuLimitExceeded - You have requested more vCPU capacity.",
    "You are not authorized to use launch template: lt-0123456789abcdef0",
    "The security group 'sg-1' does not exist in VPC. Launching EC2 instance failed.",
    "Invalid IAM Instance Profile name (Service: AmazonAutoScaling)",
]


@pytest.mark.parametrize(("text", "about"), CAPACITY, ids=range(len(CAPACITY)))
def test_a_capacity_error_is_transient(text: str, about: str) -> None:
    failure = launch_failure(text, market="on_demand")
    assert not failure.lasting
    assert isinstance(failure.error(), OutOfCapacity)
    assert failure.reason.startswith(about)
    assert "on-demand" in failure.reason


@pytest.mark.parametrize("text", LASTING, ids=range(len(LASTING)))
def test_quota_or_configuration_error_is_permanent(text: str) -> None:
    failure = launch_failure(text)
    assert failure.lasting
    assert isinstance(failure.error(), OutOfQuota)


@pytest.mark.parametrize(
    "text",
    [
        "Request limit exceeded. Launching EC2 instance failed.",
        "RequestLimitExceeded - Request limit exceeded.",
        "The instance ID 'i-0123456789abcdef0' does not exist. Launching EC2 instance failed.",
    ],
)
def test_throttle_or_unlisted_instance_is_transient(text: str) -> None:
    assert not launch_failure(text).lasting


def test_unknown_failure_message_is_transient_and_reported() -> None:
    failure = launch_failure(
        "The moon is in the wrong house.", zone="us-east-1a", instance_type="p5.48xlarge", market="spot"
    )
    assert not failure.lasting
    assert failure.reason == "p5.48xlarge, us-east-1a, spot: The moon is in the wrong house."


def test_joined_failures_are_permanent_only_if_all_are() -> None:
    quota, capacity = launch_failure("", "VcpuLimitExceeded"), launch_failure("", "InsufficientInstanceCapacity")
    assert join_failures([quota, quota]).lasting
    assert join_failures([quota, quota]).reason.count("VcpuLimitExceeded") == 1
    assert not join_failures([quota, capacity]).lasting


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("InvalidFleetId.NotFound", Misconfigured),
        ("InvalidCapacityReservationId.Malformed", Misconfigured),
        ("InvalidLaunchTemplateName.NotFoundException", Misconfigured),
        ("InvalidRequestException", Misconfigured),
        ("FleetNotInModifiableState", Conflict),
        ("InstanceRefreshInProgress", Conflict),
        ("ResourceInUseException", Conflict),
        ("IdempotentCallInProgress", Conflict),
        ("ServerException", Unavailable),
    ],
)
def test_error_code_maps_to_a_port_error(code: str, remedy: type[PortError]) -> None:
    assert type(error_of_code(code, "said")) is remedy


# --- batched calls


class Server:
    """Returns values for even numbers, refuses 13, and responds while its gate is open."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def fetch(self, keys: Sequence[int], *, urgent: bool) -> dict[int, str]:
        del urgent
        self.calls.append(list(keys))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        if 13 in keys:
            raise Misconfigured("13 is not a number")
        return {key: f"<{key}>" for key in keys if key % 2 == 0}


async def test_simultaneous_callers_share_calls_and_equal_keys() -> None:
    server = Server()
    batch = Batch(SystemClock(), server.fetch, 4)
    results = await asyncio.gather(*(batch.get(key) for key in (2, 4, 2, 6, 8, 10, 3)))
    assert [value for _, value in results] == ["<2>", "<4>", "<2>", "<6>", "<8>", "<10>", None]
    assert server.calls == [[2, 4, 6, 8], [10, 3]]


async def test_refused_key_does_not_fail_the_other_keys() -> None:
    server = Server()
    batch = Batch(SystemClock(), server.fetch, 100)
    results = await asyncio.gather(*(batch.get(key) for key in (2, 4, 13, 6)), return_exceptions=True)
    assert isinstance(results[2], Misconfigured)
    assert [f[1] for f in results if isinstance(f, tuple)] == ["<2>", "<4>", "<6>"]


async def test_cancelled_caller_does_not_cancel_the_batch() -> None:
    server = Server()
    batch = Batch(SystemClock(), server.fetch, 100)
    server.gate.clear()
    patient = asyncio.create_task(batch.get(2))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await batch.get(2)
    late = asyncio.create_task(batch.get(2))
    server.gate.set()
    assert (await patient)[1] == (await late)[1] == "<2>"
    assert server.calls == [[2], [2]]


async def test_error_reaches_all_pending_callers_and_no_later_caller() -> None:
    server = Server()
    batch = Batch(SystemClock(), server.fetch, 100)
    server.error = Unavailable("down")
    failed = await asyncio.gather(batch.get(2), batch.get(4), return_exceptions=True)
    assert [type(f) for f in failed] == [Unavailable, Unavailable]
    server.error = None
    assert (await batch.get(2))[1] == "<2>"


async def test_closing_a_batch_cancels_calls_in_flight() -> None:
    server = Server()
    batch = Batch(SystemClock(), server.fetch, 100)
    server.gate.clear()
    waiting = asyncio.create_task(batch.get(2))
    await asyncio.sleep(0.05)
    await batch.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting
