"""What AWS refuses, by the remedy: one table of codes for every service.

Codes are those of the service models and the providers' documents; EC2's for capacity are the ones that karpenter takes
as "unfulfillable". An unknown code is taken as passing, and appears in the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from botocore.exceptions import ClientError

from scaler.clouds import retry_after
from scaler.clouds.response_validation import one_line
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable

MISCONFIGURED: Final = frozenset(
    {
        "AccessDenied",
        "AuthFailure",
        "Client",  # EKS's name for a request that no retry mends
        "ExpiredToken",  # the SDK renews those that it can: these are pasted ones, or the clock is wrong
        "IDPRejectedClaim",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidAddress",
        "InvalidClientTokenId",
        "InvalidFleetId",
        "InvalidIdentityToken",
        "InvalidParameter",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "InvalidRequest",
        "InvalidSecurity",
        "InvalidSignature",
        "Malformed",  # of EC2's InvalidFleetId.Malformed and its like
        "MissingAuthenticationToken",
        "NonExistentQueue",
        "NotAuthorized",
        "NotFound",  # of EC2's InvalidFleetId.NotFound and its like
        "OptInRequired",
        "QueueDoesNotExist",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClient",
        "UnsupportedOperation",
        "ResourceNotFound",
        "Validation",
        "ValidationError",
    }
)
"""Codes, as `strip_prefix` gives them, that no retry mends; every other one is taken as passing."""
CAPACITY: Final = frozenset(
    {
        "InsufficientCapacity",
        "InsufficientFreeAddressesInSubnet",
        "InsufficientHostCapacity",
        "InsufficientInstanceCapacity",
        "InsufficientReservedInstanceCapacity",
        "ReservationCapacityExceeded",
        "SpotMaxPriceTooLow",
        "UnfulfillableCapacity",
        "Unsupported",  # this type is not offered in this zone
    }
)
"""There is none of this type, in this zone and market, now."""
QUOTA: Final = frozenset(
    {
        "FleetLimitExceeded",
        "InstanceLimitExceeded",
        "LimitExceeded",
        "MaxFleetCountExceeded",
        "MaxSpotInstanceCountExceeded",
        "ResourceLimitExceeded",
        "ServiceQuotaExceeded",
        "VcpuLimitExceeded",
    }
)
"""A limit of the account: a human has it raised."""
CONFLICTS: Final = frozenset(
    {
        "ConcurrentModification",
        "FleetNotInModifiableState",
        "IdempotentCallInProgress",
        "IdempotentParameterMismatch",
        "IncorrectState",
        "InstanceRefreshInProgress",
        "OperationNotPermittedInCurrentState",
        "ResourceContention",
        "ResourceInUse",
        "ScalingActivityInProgress",
    }
)
"""Something else is under way there: look again before writing."""
THROTTLES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttled",
        "Throttling",
        "TooManyRequests",
    }
)


REMEDIES: Final = (
    (MISCONFIGURED, Misconfigured),
    (CAPACITY, OutOfCapacity),
    (QUOTA, OutOfQuota),
    (CONFLICTS, Conflict),
)


def port_error(what: str, error: ClientError) -> PortError:
    """Return a refusal of a service as the port error that names its remedy."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    message = one_line(error.response.get("Error", {}).get("Message", ""))
    by = "" if error.operation_name in what else f"{error.operation_name}: "
    return of_code(code, f"{what}: {by}{code}: {message}", error.response.get("ResponseMetadata", {}))


def of_code(code: str, text: str, metadata: Mapping[str, Any] = MappingProxyType({})) -> PortError:
    """Return the error of a code: of a refusal, of a fleet's answer, or of a scaling activity."""
    plain = strip_prefix(code)
    for codes, remedy in REMEDIES:
        if plain in codes:
            return remedy(text)
    wait_s = _retry_after_s(metadata.get("HTTPHeaders", {}))
    return Throttled(text, wait_s) if plain in THROTTLES else Unavailable(text, wait_s)


def strip_prefix(code: str) -> str:
    """Return a code without what the protocols add to it.

    Examples: ``AWS.SimpleQueueService.X``, ``com.amazonaws.sqs#X`` and ``XException`` give ``X``.
    """
    return code.rpartition("#")[2].rpartition(".")[2].removesuffix("Exception")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the pause that the service requests, within bounds. Seconds."""
    units = {"retry-after": 1.0, "x-amz-retry-after": 0.001}
    return retry_after.requested_wait_s((headers.get(name, ""), unit_s) for name, unit_s in units.items())
