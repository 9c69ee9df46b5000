"""AWS's error codes by remedy: one table for every service.

The codes come from the service models and AWS's documents; EC2's capacity codes are those that karpenter treats as
"unfulfillable". An unknown code counts as transient and stays in the message.
"""

from __future__ import annotations

import re
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
        "AllAccessDisabled",
        "AuthFailure",
        "AuthorizationHeaderMalformed",  # of a bucket in another region
        "Client",  # EKS's name for a request that no retry fixes
        "ExpiredToken",  # the SDK renews its own tokens: this one was pasted, or the clock is wrong
        "IDPRejectedClaim",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidAddress",
        "InvalidBucketName",
        "InvalidChangeBatch",
        "InvalidClientTokenId",
        "InvalidFleetId",
        "InvalidIdentityToken",
        "InvalidInput",
        "InvalidParameter",
        "InvalidParameterCombination",
        "InvalidParameterValue",
        "InvalidRequest",
        "InvalidSecurity",
        "InvalidSignature",
        "Malformed",  # of EC2's InvalidFleetId.Malformed and its like
        "MissingAuthenticationToken",
        "NoSuchBucket",
        "NoSuchHealthCheck",
        "NoSuchHostedZone",
        "NoSuchKey",
        "NonExistentQueue",
        "NotAuthorized",
        "NotFound",  # of EC2's InvalidFleetId.NotFound and its like
        "OperationNotPermitted",
        "OptInRequired",
        "ParameterNotFound",
        "PermanentRedirect",  # the bucket is in another region
        "QueueDoesNotExist",
        "RequestExpired",
        "RuleNotFound",
        "SignatureDoesNotMatch",
        "TargetGroupAssociationLimit",
        "TargetGroupNotFound",
        "UnauthorizedOperation",
        "UnrecognizedClient",
        "UnsupportedOperation",
        "ResourceNotFound",
        "Validation",
        "ValidationError",
    }
)
"""Codes, as returned by `strip_prefix`, that no retry fixes. Codes in no table count as transient."""
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
"""No capacity of this type in this zone and market now."""
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
"""A limit of the account, which a human must raise."""
CONFLICTS: Final = frozenset(
    {
        "ConcurrentModification",
        "ConcurrentUpdate",
        "Conflict",
        "FleetNotInModifiableState",
        "IdempotentCallInProgress",
        "IdempotentParameterMismatch",
        "IncorrectState",
        "InstanceRefreshInProgress",
        "OperationNotPermittedInCurrentState",
        "PriorRequestNotComplete",
        "ResourceContention",
        "ResourceInUse",
        "ScalingActivityInProgress",
    }
)
"""Another operation is in progress: read again before writing."""
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


BUSY_WORDS: Final = re.compile(r"in-progress endpoint|while it is in state \W*\w+_IN_PROGRESS")
"""Words of SageMaker's `ValidationException` for an object that another operation changes now: it has no own code."""
REMEDIES: Final = (
    (MISCONFIGURED, Misconfigured),
    (CAPACITY, OutOfCapacity),
    (QUOTA, OutOfQuota),
    (CONFLICTS, Conflict),
)


def port_error(what: str, error: ClientError) -> PortError:
    """Return the port error for a service's refusal."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    message = one_line(error.response.get("Error", {}).get("Message", ""))
    prefix = "" if error.operation_name in what else f"{error.operation_name}: "
    return error_of_code(code, f"{what}: {prefix}{code}: {message}", error.response.get("ResponseMetadata", {}))


def error_of_code(code: str, text: str, metadata: Mapping[str, Any] = MappingProxyType({})) -> PortError:
    """Return the port error for an error code."""
    plain = strip_prefix(code)
    if plain == "Validation" and BUSY_WORDS.search(text):
        return Conflict(text)
    for codes, remedy in REMEDIES:
        if plain in codes:
            return remedy(text)
    wait_s = _retry_after_s(metadata.get("HTTPHeaders", {}))
    return Throttled(text, wait_s) if plain in THROTTLES else Unavailable(text, wait_s)


def strip_prefix(code: str) -> str:
    """Return a code without the prefixes and suffixes of the protocols.

    Examples: ``AWS.SimpleQueueService.X``, ``com.amazonaws.sqs#X`` and ``XException`` give ``X``.
    """
    return code.rpartition("#")[2].rpartition(".")[2].removesuffix("Exception")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the bounded pause that the service requests. Seconds."""
    units = {"retry-after": 1.0, "x-amz-retry-after": 0.001}
    return retry_after.requested_wait_s((headers.get(name, ""), unit_s) for name, unit_s in units.items())
