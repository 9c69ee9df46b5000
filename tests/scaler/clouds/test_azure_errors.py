"""Azure's refusals by remedy, in every field and at any depth."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaler.clouds.azure.errors import error_of_code, refuse, retry_after_s
from scaler.clouds.azure.virtual_machines import shortfall
from scaler.clouds.rest import RestResponse
from scaler.clouds.retry_after import MAX_RETRY_AFTER_S
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable

ROOT = Path(__file__).parents[3]
AKS_QUOTA = {
    "code": "BadRequest",
    "message": "Preflight validation failed.",
    "details": [
        {"code": "InsufficientVCPUQuota", "message": "Insufficient vcpu quota requested 80, remaining 40 for family X."}
    ],
}
AKS_CAPACITY = {
    "code": "CreateVMSSAgentPoolFailed",
    "message": "The VMSS could not be created.",
    "innererror": {"code": "ZonalAllocationFailed", "message": "We do not have sufficient capacity in this zone."},
}


@pytest.mark.parametrize(
    ("status", "error", "remedy"),
    [
        (400, AKS_QUOTA, OutOfQuota),
        (400, AKS_CAPACITY, OutOfCapacity),
        (409, {"code": "OperationNotAllowed", "message": "exceeding approved Total Regional Cores quota"}, OutOfQuota),
        (409, {"code": "OperationNotAllowed", "message": "Another operation is in progress"}, Conflict),
        (409, {"code": "SkuNotAvailable", "message": "Capacity Restrictions"}, OutOfCapacity),
        (409, {"code": "NeverHeardOf", "message": ""}, Conflict),
        (412, {"code": "", "message": ""}, Conflict),
        (400, {"code": "OutOfQuota", "message": "Region-wide VM capacity: retry later"}, OutOfCapacity),
        (400, {"code": "OutOfQuota", "message": "Not enough quota available for the VM size"}, OutOfQuota),
        (400, {"code": "InsufficientQuota", "message": "bigger than the current available capacity"}, OutOfQuota),
        (409, {"code": "RequestConflict", "message": "Another operation is being performed"}, Conflict),
        (409, {"code": "BadRequest", "message": "because it is in Updating provisioning state"}, Conflict),
        (500, {"code": "OperationCanceled", "message": "waiting for lock confirmation"}, Conflict),
        (400, {"code": "ImageBuildFailure", "message": "no image"}, Misconfigured),
        (403, {"code": "AuthorizationFailed", "message": "no"}, Misconfigured),
        (404, {"code": "ResourceNotFound", "message": "no"}, Misconfigured),
        (429, {"code": "TooManyRequests", "message": "your quota of requests"}, Throttled),
        (500, {"code": "InternalServerError", "message": "sorry"}, Unavailable),
        (503, {}, Unavailable),
    ],
)
def test_refusal_maps_to_a_port_error(status: int, error: dict[str, Any], remedy: type[PortError]) -> None:
    assert type(refuse("write of it", RestResponse(status, {"error": error}), 0.0)) is remedy


def test_innermost_known_error_code_is_used() -> None:
    text = str(refuse("write of it", RestResponse(400, {"error": AKS_CAPACITY}), 0.0))
    assert text == "Azure write of it: ZonalAllocationFailed: We do not have sufficient capacity in this zone."


def test_html_error_page_is_unavailable() -> None:
    assert isinstance(
        refuse("read of it", RestResponse(502, {"message": "<html>Bad Gateway</html>"}), 0.0), Unavailable
    )


def test_a_missing_permission_names_the_role() -> None:
    error = refuse("write", RestResponse(403, {"error": {"code": "AuthorizationFailed", "message": "no"}}), 0.0)
    assert "config/deploy/azure-role.json" in str(error)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"x-ms-retry-after-ms": "250"}, 0.25),
        ({"Retry-After": "86400"}, MAX_RETRY_AFTER_S),
        ({"Retry-After": "Fri, 27 Nov 2026 18:29:47 GMT"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "-3"}, None),
        ({}, None),
    ],
)
def test_a_requested_pause_is_parsed(headers: dict[str, str], wait_s: float | None) -> None:
    assert retry_after_s(headers) == wait_s
    throttled = refuse("read", RestResponse(429, {}, headers), 0.0)
    assert isinstance(throttled, Throttled)
    assert throttled.retry_after_s == wait_s


@pytest.mark.parametrize(
    ("code", "text", "quota"),
    [("AllocationFailed", "none", False), ("QuotaExceeded", "no more", True), ("NeverHeardOf", "what", False)],
)
def test_asynchronous_failure_is_a_capacity_or_quota_shortfall(code: str, text: str, quota: bool) -> None:
    failure = shortfall(code, text, 5.0)
    assert failure is not None
    assert (failure.at, failure.quota) == (5.0, quota)


def test_superseded_operation_is_not_a_failure() -> None:
    assert shortfall("OperationPreempted", "a newer one", 5.0) is None


@pytest.mark.parametrize("text", [None, "", "yesterday", "2026-11-27T15:00:00", 17])
def test_invalid_timestamp_is_replaced_by_the_default(text: object) -> None:
    assert seconds_of(text, 42.0) == 42.0


def test_timestamp_with_seven_fraction_digits_is_parsed() -> None:
    assert seconds_of("2026-11-27T15:00:00.1234567+00:00", 0.0) == pytest.approx(1_795_791_600.123, abs=0.001)


def test_unknown_error_code_without_a_status_is_transient() -> None:
    assert type(error_of_code("NeverHeardOf", "what")) is Unavailable


@pytest.mark.slow
def test_azure_sdk_is_imported_only_when_an_adapter_is_opened() -> None:
    script = (
        "import sys; from pathlib import Path; from scaler.config.load import load;"
        "load([Path('config/workloads/azure-aks-spot.yaml'), Path('config/workloads/azure-vmss.yaml')]);"
        "import scaler.app; print(sorted(m for m in sys.modules if m.split('.')[0] in ('azure', 'msal')))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
