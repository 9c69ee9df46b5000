"""What Google Cloud refuses, by the remedy: one table for refusals, failed operations and what instance groups report.

Codes are those of the Compute and Container APIs' documents and of cluster-autoscaler's GCE provider. Container tells
many of them only in the words of a message, so that they are looked for there too. An unknown one is taken as passing,
and is told in the message.
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
"""There is none of this type, in this zone and market, now."""
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
"""A limit of the project, or of its network: a human has it raised."""
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
"""Something else is under way there: look again before writing."""
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
"""What no retry mends."""
PHRASES: Final = (
    (
        re.compile(r"incompatible operation|concurrent operations quota|already has an operation", re.IGNORECASE),
        "RESOURCE_NOT_READY",
    ),
    (re.compile(r"does not have enough resources|resource pool exhausted|out of resources", re.IGNORECASE), "STOCKOUT"),
    (
        re.compile(
            r"quota '?[\w-]+'? exceeded|insufficient (regional|project) quota|exceeded .*quota '", re.IGNORECASE
        ),
        "QUOTA_EXCEEDED",
    ),
)
"""What messages say where no code is given, and the code that it stands for."""
WORD: Final = re.compile(r"\b[A-Z][A-Z_]{5,}[A-Z]\b")
REMEDIES: Final = (
    (CONFLICTS, Conflict),
    (CAPACITY, OutOfCapacity),
    (QUOTA, OutOfQuota),
    (MISCONFIGURED, Misconfigured),
)


@dataclass(frozen=True, slots=True)
class GcpFailure:
    """What an API said of a failure: all codes found, and the message on one line."""

    codes: frozenset[str]
    message: str

    @property
    def is_shortfall(self) -> bool:
        """Whether what was requested does not come, for want of capacity or of quota."""
        return not self.codes.isdisjoint(CAPACITY | QUOTA)

    @property
    def is_quota(self) -> bool:
        return self.codes.isdisjoint(CAPACITY) and not self.codes.isdisjoint(QUOTA)

    @property
    def is_final(self) -> bool:
        """Whether what was requested does not come, for a reason that no second try mends."""
        return self.is_shortfall or not self.codes.isdisjoint(MISCONFIGURED)

    def shortfall(self, at: float) -> Shortfall:
        """Return the failure as the shortfall of a pool's status."""
        return Shortfall(at, self.message, self.is_quota)


def failure_of(error: object) -> GcpFailure:
    """Return the failure in an error's body.

    `google.rpc.Status`, an API's error, or an operation's list of errors.
    """
    codes, messages = set[str](), list[str]()
    _gather(error, codes, messages)
    message = one_line("; ".join(dict.fromkeys(messages)))
    known = CAPACITY | QUOTA | CONFLICTS
    codes |= {word for word in WORD.findall(message) if word in known}
    codes |= {code for phrase, code in PHRASES if phrase.search(message)}
    return GcpFailure(frozenset(codes), message or ", ".join(sorted(codes)) or "no reason given")


def _gather(error: object, codes: set[str], messages: list[str]) -> None:
    if not isinstance(error, Mapping):
        return
    for key in ("code", "status", "reason"):
        if isinstance(value := error.get(key), str):
            codes.add(value.upper())
    if isinstance(message := error.get("message"), str) and message:
        messages.append(message)
    for key in ("errors", "details"):
        inner = error.get(key)
        for one in inner if isinstance(inner, list) else ():
            _gather(one, codes, messages)


def refuse(what: str, response: RestResponse, now: float) -> PortError:
    """Return a status other than success as the port error that names its remedy."""
    del now
    error = response.body.get("error", response.body)
    found = failure_of(error)
    return of(what, found, response.status, _retry_after_s(response.headers, error))


def of(what: str, failure: GcpFailure, status: int, retry_after_s: float | None = None) -> PortError:
    """Return a refusal of `what`, whose first word is the permission that it needs."""
    text = f"GCP {what}: {failure.message}"
    if failure.codes & THROTTLES and not failure.codes & CONFLICTS:
        return Throttled(text, retry_after_s)
    if "PERMISSION_DENIED" in failure.codes or (status == 403 and not failure.codes & (QUOTA | CAPACITY)):
        return Misconfigured(f"{text}: grant {what.split(maxsplit=1)[0]} ({ROLE} has the role)")
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
    return Unavailable(f"{text} (HTTP {status})", retry_after_s)


def _retry_after_s(headers: Mapping[str, str], error: Any) -> float | None:
    """Return the pause that the API requests by header or by `RetryInfo`, within bounds.

    Seconds.
    """
    details = error.get("details") if isinstance(error, Mapping) else None
    delays = [str(d.get("retryDelay", "")).removesuffix("s") for d in details or () if isinstance(d, Mapping)]
    return retry_after.requested_wait_s((text, 1.0) for text in (headers.get("Retry-After", ""), *delays))
