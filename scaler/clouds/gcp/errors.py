"""Google Cloud's error codes by remedy.

One table serves refusals, failed operations and instance groups' errors.

The codes come from the documents of the Compute and Container APIs and from cluster-autoscaler's GCE provider.
Container often names the code only in the message, so messages are searched too. An unknown code counts as transient
and stays in the message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds import retry_after
from scaler.clouds.response_validation import one_line
from scaler.clouds.rest import RestResponse
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable

ROLE: Final = "config/deploy/gcp-role.yaml"
SNAPSHOT_ROLE: Final = "config/deploy/gcp-snapshots-role.yaml"
CAPACITY: Final = frozenset(
    {
        "GCE_STOCKOUT",
        "INSUFFICIENT_CAPACITY",
        "REGION_RESOURCE_POOL_EXHAUSTED",
        "RESERVATION_CAPACITY_EXCEEDED",
        "RESERVATION_NOT_READY",
        "RESOURCE_POOL_EXHAUSTED",
        "RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "STOCKOUT",
        "VM_MIN_COUNT_NOT_REACHED",
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
    }
)
"""No capacity of this type in this zone and market now."""
QUOTA: Final = frozenset(
    {
        "GCE_QUOTA_EXCEEDED",
        "INSUFFICIENT_QUOTA",
        "IP_SPACE_EXHAUSTED",
        "IP_SPACE_EXHAUSTED_WITH_DETAILS",
        "LIMIT_EXCEEDED",
        "QUOTA_EXCEEDED",
        "QUOTAEXCEEDED",
    }
)
"""A limit of the project or its network, which a human must raise."""
CONFLICTS: Final = frozenset(
    {
        "ABORTED",
        "ALREADY_EXISTS",
        "ALREADYEXISTS",
        "CLUSTER_ALREADY_HAS_OPERATION",
        "CONDITIONNOTMET",
        "RESOURCEINUSEBYANOTHERRESOURCE",
        "RESOURCENOTREADY",
        "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE",
        "RESOURCE_NOT_READY",
    }
)
"""Another operation is in progress: read again before writing."""
THROTTLES: Final = frozenset(
    {"RATELIMITEXCEEDED", "RATE_LIMIT_EXCEEDED", "RESOURCE_OPERATION_RATE_EXCEEDED", "USERRATELIMITEXCEEDED"}
)
MISCONFIGURED: Final = frozenset(
    {
        "ACCESSNOTCONFIGURED",
        "BILLING_DISABLED",
        "CONSUMER_INVALID",
        "FORBIDDEN",
        "INVALID",
        "INVALID_ARGUMENT",
        "INVALID_RESERVATION",
        "INVALID_USAGE",
        "NOTFOUND",
        "NOT_FOUND",
        "OUT_OF_RANGE",
        "PERMISSION_DENIED",
        "PERMISSIONS_ERROR",
        "REQUIRED",
        "RESERVATION_NOT_FOUND",
        "RESOURCE_NOT_FOUND",
        "SERVICE_DISABLED",
        "UNAUTHENTICATED",
        "UNIMPLEMENTED",
        "UNSUPPORTED_OPERATION",
    }
)
"""Codes that no retry fixes."""
PHRASES: Final = (
    (
        re.compile(
            r"incompatible operation|concurrent operations quota|already has an operation|other operations running",
            re.IGNORECASE,
        ),
        "RESOURCE_NOT_READY",
    ),
    (
        re.compile(
            r"does not have enough resources|resource pool exhausted|out of resources"
            r"|machine type (is )?temporarily unavailable",
            re.IGNORECASE,
        ),
        "STOCKOUT",
    ),
    (
        re.compile(
            r"quota '?[\w-]+'? exceeded|insufficient (regional|project) quota|exceeded .*quota '"
            r"|quotas are exceeded: *\w|quota violated|do(es)? not have quota for",
            re.IGNORECASE,
        ),
        "QUOTA_EXCEEDED",
    ),
)
"""Phrases of messages without a code, each with the code that it stands for."""
RPC_CODES: Final = {
    3: "INVALID_ARGUMENT",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
}
"""Names of the codes in a `google.rpc.Status`. The other ones are transient."""
CODE_WORD: Final = re.compile(r"\b[A-Z][A-Z_]{5,}[A-Z]\b")
REMEDIES: Final = (
    (CONFLICTS, Conflict),
    (CAPACITY, OutOfCapacity),
    (QUOTA, OutOfQuota),
    (MISCONFIGURED, Misconfigured),
)


@dataclass(frozen=True, slots=True)
class GcpFailure:
    """A failure that an API reports: all its codes, and its message on one line."""

    codes: frozenset[str]
    message: str

    @property
    def is_shortfall(self) -> bool:
        """Whether capacity or quota is missing."""
        return not self.codes.isdisjoint(CAPACITY | QUOTA)

    @property
    def is_quota(self) -> bool:
        return self.codes.isdisjoint(CAPACITY) and not self.codes.isdisjoint(QUOTA)

    @property
    def is_final(self) -> bool:
        """Whether no retry fixes the failure."""
        return self.is_shortfall or not self.codes.isdisjoint(MISCONFIGURED)

    def shortfall(self, at: float) -> Shortfall:
        """Return the failure as the shortfall of a pool's status."""
        return Shortfall(at, self.message, self.is_quota)


def failure_of(error: object) -> GcpFailure:
    """Parse the failure in an error of any Google Cloud API.

    `error` is a `google.rpc.Status`, an API's error, or an operation's list of errors.
    """
    codes, messages = set[str](), list[str]()
    _collect(error, codes, messages)
    message = one_line("; ".join(dict.fromkeys(messages)))
    searched = CAPACITY | QUOTA | CONFLICTS
    codes |= {word for word in CODE_WORD.findall(message) if word in searched}
    codes |= {code for phrase, code in PHRASES if phrase.search(message)}
    return GcpFailure(frozenset(codes), message or ", ".join(sorted(codes)) or "no reason reported")


def _collect(error: object, codes: set[str], messages: list[str]) -> None:
    if not isinstance(error, Mapping):
        return
    for key in ("code", "status", "reason"):
        if isinstance(value := error.get(key), str):
            codes.add(value.upper())
        elif isinstance(value, int) and value in RPC_CODES:
            codes.add(RPC_CODES[value])
    if isinstance(message := error.get("message"), str) and message:
        messages.append(message)
    for key in ("errors", "details"):
        inner = error.get(key)
        for nested in inner if isinstance(inner, list) else ():
            _collect(nested, codes, messages)


def refuse(what: str, response: RestResponse, now: float) -> PortError:
    """Return the port error for a status other than success."""
    del now
    error = response.body.get("error", response.body)
    failure = failure_of(error)
    return port_error(what, failure, response.status, _retry_after_s(response.headers, error))


def port_error(what: str, failure: GcpFailure, status: int = 0, retry_after_s: float | None = None) -> PortError:
    """Return the port error for a refusal of `what`.

    The first word of `what` is the permission that it needs. `status`: 0 for a failure that came later, without one.
    """
    text = f"GCP {what}: {failure.message}"
    if failure.codes & THROTTLES and not failure.codes & CONFLICTS:
        return Throttled(text, retry_after_s)
    if "PERMISSION_DENIED" in failure.codes or (status == 403 and not failure.codes & (QUOTA | CAPACITY)):
        permission = what.split(maxsplit=1)[0]
        role = SNAPSHOT_ROLE if permission.startswith("storage.") else ROLE
        return Misconfigured(f"{text}: grant {permission} with the role in {role}")
    for codes, remedy in REMEDIES:
        if failure.codes & codes:
            return remedy(text)
    if "FAILED_PRECONDITION" in failure.codes:
        return Unavailable(text, retry_after_s)
    match status:
        case 429:
            return Throttled(text, retry_after_s)
        case 409 | 412:
            return Conflict(text)
        case 400 | 401 | 404 | 405 | 422:
            return Misconfigured(text)
    return Unavailable(f"{text} (HTTP {status})" if status else text, retry_after_s)


def _retry_after_s(headers: Mapping[str, str], error: Any) -> float | None:
    """Return the bounded pause that the API requests by header or `RetryInfo`. Seconds."""
    details = error.get("details") if isinstance(error, Mapping) else None
    delays = [str(d.get("retryDelay", "")).removesuffix("s") for d in details or () if isinstance(d, Mapping)]
    return retry_after.requested_wait_s((text, 1.0) for text in (headers.get("Retry-After", ""), *delays))
