"""Google Cloud's refusals by remedy."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.clouds.gcp.errors import failure_of, refuse
from scaler.clouds.rest import RestResponse
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable

WHAT = "compute.instanceGroupManagers.update of vllm"


def compute(status: int, reason: str, message: str = "words") -> RestResponse:
    """Return a refusal in Compute Engine's format."""
    inner = [{"reason": reason, "message": message, "domain": "global"}]
    return RestResponse(status, {"error": {"code": status, "message": message, "errors": inner}})


def rpc(status: int, name: str, message: str = "words", reason: str = "") -> RestResponse:
    """Return a refusal in the newer APIs' format."""
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}] if reason else []
    return RestResponse(status, {"error": {"code": status, "message": message, "status": name, "details": details}})


@pytest.mark.parametrize(
    ("answer", "remedy"),
    [
        (compute(503, "ZONE_RESOURCE_POOL_EXHAUSTED"), OutOfCapacity),
        (rpc(429, "RESOURCE_EXHAUSTED", "The zone does not have enough resources available"), OutOfCapacity),
        (compute(403, "quotaExceeded", "Quota 'GPUS_ALL_REGIONS' exceeded.  Limit: 0.0 globally."), OutOfQuota),
        (rpc(403, "RESOURCE_EXHAUSTED", "Insufficient regional quota to satisfy request"), OutOfQuota),
        (
            rpc(503, "UNAVAILABLE", "Machine type temporarily unavailable, please deploy with a different"),
            OutOfCapacity,
        ),
        (rpc(429, "RESOURCE_EXHAUSTED", "The following quotas are exceeded: CustomModelServingL4GPUs"), OutOfQuota),
        (rpc(400, "FAILED_PRECONDITION", "Quota violated: NvidiaL4GpuAlloc requested: 3 allowed: 1"), OutOfQuota),
        (rpc(400, "FAILED_PRECONDITION", "There are other operations running on the Endpoint"), Conflict),
        (compute(403, "rateLimitExceeded"), Throttled),
        (compute(403, "userRateLimitExceeded"), Throttled),
        (rpc(429, "RESOURCE_EXHAUSTED", "Quota exceeded for quota metric", "RATE_LIMIT_EXCEEDED"), Throttled),
        (rpc(429, "RESOURCE_EXHAUSTED"), Throttled),
        (
            rpc(429, "RESOURCE_EXHAUSTED", "Too many operations: cluster hits the concurrent operations quota 5"),
            Conflict,
        ),
        (rpc(400, "FAILED_PRECONDITION", "Cluster is running incompatible operation operation-1."), Conflict),
        (rpc(400, "FAILED_PRECONDITION", "words", "CLUSTER_ALREADY_HAS_OPERATION"), Conflict),
        (compute(412, "conditionNotMet"), Conflict),
        (compute(400, "resourceNotReady"), Conflict),
        (compute(400, "resourceInUseByAnotherResource"), Conflict),
        (rpc(409, "ALREADY_EXISTS"), Conflict),
        (rpc(409, "ABORTED"), Conflict),
        (compute(403, "forbidden"), Misconfigured),
        (rpc(403, "PERMISSION_DENIED"), Misconfigured),
        (rpc(403, "PERMISSION_DENIED", "words", "SERVICE_DISABLED"), Misconfigured),
        (compute(404, "notFound"), Misconfigured),
        (compute(400, "invalid"), Misconfigured),
        (rpc(401, "UNAUTHENTICATED"), Misconfigured),
        (compute(500, "backendError"), Unavailable),
        (rpc(503, "UNAVAILABLE"), Unavailable),
        (RestResponse(502, {"message": "<html>Bad gateway</html>"}), Unavailable),
        (RestResponse(503, {}), Unavailable),
    ],
)
def test_refusal_maps_to_a_port_error(answer: RestResponse, remedy: type[PortError]) -> None:
    assert type(refuse(WHAT, answer, 0.0)) is remedy


def test_a_refusal_names_the_permission_and_the_role() -> None:
    text = str(refuse(WHAT, compute(403, "forbidden"), 0.0))
    assert "grant compute.instanceGroupManagers.update" in text
    assert "config/deploy/gcp-role.yaml" in text


@pytest.mark.parametrize(
    ("headers", "details", "pause_s"),
    [
        ({"Retry-After": "7"}, [], 7.0),
        ({}, [{"@type": "google.rpc.RetryInfo", "retryDelay": "12.5s"}], 12.5),
        ({"Retry-After": "86400"}, [], 60.0),
        ({"Retry-After": "Fri, 27 Nov 2026 10:00:00 GMT"}, [], None),
        ({}, [], None),
    ],
    ids=["header", "retry info", "a day", "a date", "nothing"],
)
def test_retry_pause_of_a_throttle_is_parsed_and_bounded(
    headers: dict[str, str], details: list[Any], pause_s: float | None
) -> None:
    answer = RestResponse(
        429, {"error": {"status": "RESOURCE_EXHAUSTED", "message": "slow", "details": details}}, headers
    )
    error = refuse(WHAT, answer, 0.0)
    assert isinstance(error, Throttled)
    assert error.retry_after_s == pause_s


@pytest.mark.parametrize(
    ("error", "short", "quota"),
    [
        ({"errors": [{"code": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "message": "no"}]}, True, False),
        ({"errors": [{"code": "QUOTA_EXCEEDED", "message": "no"}]}, True, True),
        ({"code": 8, "message": "[GCE_STOCKOUT]: Instance creation failed"}, True, False),
        ({"code": 14, "message": "Machine type temporarily unavailable"}, True, False),
        ({"code": 14, "message": "The service is currently unavailable."}, False, False),
        ({"code": 8, "message": "The following quotas are exceeded: CustomModelServingL4GPUs"}, True, True),
        ({"code": 8, "message": "Instance 'x' creation failed: Quota 'CPUS' exceeded.  Limit: 24.0"}, True, True),
        ({"errors": [{"code": "RESERVATION_CAPACITY_EXCEEDED", "message": "no"}]}, True, False),
        ({"errors": [{"code": "QUOTA_EXCEEDED"}, {"code": "STOCKOUT"}]}, True, False),
        ({"errors": [{"code": "INVALID_USAGE", "message": "no"}]}, False, False),
        ({}, False, False),
        (None, False, False),
        ("words", False, False),
    ],
)
def test_a_failed_operation_has_a_shortfall(error: object, short: bool, quota: bool) -> None:
    assert (failure_of(error).is_shortfall, failure_of(error).is_quota) == (short, quota)
