"""Azure's error codes by remedy, in one table for all services.

The services are Resource Manager, Compute, AKS, Machine Learning, Azure OpenAI, metrics and Service Bus. The codes
come from the services' documents; Compute's capacity codes are those that karpenter and Cluster Autoscaler use. Quota
errors have several codes, so their words decide too. For an unknown code the HTTP status decides; without a status it
counts as transient.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, ParamSpec, TypeVar

from scaler.clouds import response_validation, retry_after
from scaler.clouds.response_validation import one_line
from scaler.clouds.rest import RestResponse
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
CAPACITY: Final = frozenset(
    {
        "AllocationFailed",
        "InsufficientCapacity",
        "OutOfCapacity",
        "OverconstrainedAllocationRequest",
        "OverconstrainedZonalAllocationRequest",
        "SkuNotAvailable",
        "SpotPriceGreaterThanProvidedMaxPrice",
        "ZonalAllocationFailed",
    }
)
"""No capacity of this size in this zone and market now."""
QUOTA: Final = frozenset(
    {
        "OutOfQuota",  # Machine Learning: a lack of capacity in the region by its words
        "QuotaExceeded",
        "ResourceCountExceedsLimitDueToTemplate",
        "ResourceQuotaExceeded",
        "VCPUQuotaError",
        "InsufficientQuota",
        "InsufficientVCPUQuota",
    }
)
"""A limit of the subscription, which a human must raise."""
CONFLICTS: Final = frozenset(
    {
        "AnotherOperationInProgress",
        "ConcurrentOperationInProgress",
        "ConflictingConcurrentWriteNotAllowed",
        "EtagMismatch",
        "OperationCanceled",  # Machine Learning: an operation with higher priority took the lock
        "OperationNotAllowed",  # AKS: another operation is in progress, or a quota error by its words
        "OperationPreempted",  # a newer write replaced it
        "PreconditionFailed",
        "RequestConflict",
        "ResourceModified",
    }
)
"""Another operation is in progress, or another writer wrote: read again before writing."""
MISCONFIGURED: Final = frozenset(
    {
        "AuthenticationFailed",
        "AuthorizationFailed",
        "BadArgument",
        "BadRequest",
        "ClusterNotFound",
        "ExpiredAuthenticationToken",
        "ImageBuildFailure",
        "InvalidAuthenticationToken",
        "InvalidAuthenticationTokenTenant",
        "InvalidParameter",
        "InvalidSubscriptionId",
        "LinkedAuthorizationFailed",
        "MissingSubscriptionRegistration",
        "NotFound",
        "PropertyChangeNotAllowed",
        "RequestDisallowedByPolicy",
        "ResourceGroupNotFound",
        "ResourceNotFound",
        "ResourceNotReady",
        "ScopeLocked",
        "SubscriptionNotFound",
    }
)
THROTTLES: Final = frozenset(
    {
        "50009",  # Service Bus: the namespace is throttled
        "OperationNotAllowedThrottled",
        "ResourceCollectionRequestsThrottled",
        "ServerBusy",
        "SubscriptionRequestsThrottled",
        "Throttled",
        "ThrottlingException",
        "TooManyRequests",
    }
)
FORBIDDEN: Final = frozenset({"AuthorizationFailed", "LinkedAuthorizationFailed"})
STATUSES: Final[Mapping[int, type[PortError]]] = {
    400: Misconfigured,
    401: Misconfigured,
    403: Misconfigured,
    404: Misconfigured,
    405: Misconfigured,
    409: Conflict,
    412: Conflict,
    422: Misconfigured,
    429: Throttled,
}
REMEDIES: Final = (
    (THROTTLES, Throttled),
    (CAPACITY, OutOfCapacity),
    (QUOTA, OutOfQuota),
    (CONFLICTS, Conflict),
    (MISCONFIGURED, Misconfigured),
)
QUOTA_WORDS: Final = re.compile(r"\bquotas?\b|exceed\w* (the )?approved|core limit", re.IGNORECASE)
"""Words of quota errors: Compute reports them as OperationNotAllowed, InvalidParameter and other codes."""
REGION_WORDS: Final = re.compile(r"region-?wide|lack of .{0,40}\bcapacity\b|not enough capacity", re.IGNORECASE)
"""Words of Machine Learning's OutOfQuota where the region has no machines of the size."""
LOCK_WORDS: Final = re.compile(
    r"\bin \w+ provisioning state|waiting for lock|operation with higher priority", re.IGNORECASE
)
"""Words of refusals while another operation holds a lock, whatever their code."""
ROLE: Final = "grant it with the custom role in config/deploy/azure-role.json"


def validated(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a method that reads Azure's responses: a malformed one raises `Unavailable`."""
    return response_validation.validated("Azure")(method)


def refuse(what: str, response: RestResponse, now: float) -> PortError:
    """Return the port error for a refusal of Resource Manager."""
    code, message = error_text(response.body)
    wait_s = retry_after_s(response.headers)
    return error_of_code(code, f"Azure {what}: {code or f'HTTP {response.status}'}: {message}", response.status, wait_s)


def error_of_code(code: str, text: str, status: int | None = None, retry_after_s: float | None = None) -> PortError:
    """Return the port error for a code of a refusal, a failed operation, or a machine's status."""
    remedy = remedy_of(code, text, status)
    if remedy is Misconfigured and (code in FORBIDDEN or status == 403):
        text = f"{text}: {ROLE}"
    return remedy(text, retry_after_s) if issubclass(remedy, Unavailable) else remedy(text)


def remedy_of(code: str, text: str, status: int | None = None) -> type[PortError]:
    """Return the class of the port error for a code."""
    if LOCK_WORDS.search(text):
        return Conflict
    if code == "OutOfQuota" and REGION_WORDS.search(text):
        return OutOfCapacity
    if code not in THROTTLES and status != 429 and QUOTA_WORDS.search(text):
        return OutOfQuota
    for codes, remedy in REMEDIES:
        if code in codes:
            return remedy
    return STATUSES.get(status or 0, Unavailable)


def error_text(body: Mapping[str, Any]) -> tuple[str, str]:
    """Return code and message of an error's body.

    The first specific known code takes precedence, then any known code, then any code. Example: `BadRequest` with
    `AllocationFailed` in its details gives `AllocationFailed`.
    """
    errors = _errors(body.get("error", body))
    known = [error for error in errors if any(error[0] in codes for codes, _ in REMEDIES)]
    specific = [error for error in known if error[0] not in {"BadRequest", "NotFound"}]
    return next(iter(specific or known or errors), ("", ""))


def _errors(error: Any, depth: int = 0) -> list[tuple[str, str]]:
    """Return every code and message in an error, the outermost first.

    AKS wraps Compute's errors in its own.
    """
    if not isinstance(error, Mapping) or depth > 5:
        return []
    details = error.get("details")
    inner = [e for d in details if d for e in _errors(d, depth + 1)] if isinstance(details, list) else []
    inner += _errors(error.get("innererror"), depth + 1)
    code, message = str(error.get("code") or ""), one_line(error.get("message") or "")
    return [(code, message), *inner] if code or message else inner


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the bounded pause that the service requests. Seconds."""
    units = {"Retry-After": 1.0, "retry-after-ms": 0.001, "x-ms-retry-after-ms": 0.001}
    return retry_after.requested_wait_s((headers.get(name, ""), unit_s) for name, unit_s in units.items())
