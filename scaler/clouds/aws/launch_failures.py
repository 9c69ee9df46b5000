"""Reasons of failed launches on AWS, by code or else by words, grouped by remedy.

Scaling activities and fleet events have no code. The words are AWS's published ones; a message with unknown words
counts as a transient lack of capacity and is reported unchanged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from scaler.clouds.aws.errors import CAPACITY, QUOTA, THROTTLES, strip_prefix
from scaler.clouds.response_validation import one_line
from scaler.ports import OutOfCapacity, OutOfQuota

CODE: Final = re.compile(r"\b([A-Z][A-Za-z]+(?:\.[A-Z][A-Za-z]+)?)\b")
ZONE: Final = re.compile(r"\b([a-z]{2}(?:-[a-z]+)+-[0-9][a-z])\b")
TYPE: Final = re.compile(
    r"\b([a-z][a-z0-9-]*[0-9][a-z0-9-]*\.(?:nano|micro|small|medium|large|[0-9]*xlarge|metal[a-z0-9-]*))"
)
QUOTA_WORDS: Final = re.compile(
    r"vCPU limit|exceeded your (?:limit|quota|maximum)|(?:quota|limit) (?:allows|of)|limit (?:has been )?exceeded"
    r"|request an (?:adjustment|increase)|maximum number of",
    re.IGNORECASE,
)
PERMANENT_WORDS: Final = re.compile(
    r"not authorized|does not exist|is not valid|invalid (?:ami|iam|subnet|security|launch|key)|not subscribed"
    r"|opt[- ]in|AccessDenied|UnauthorizedOperation|NotFound\b|ping health check",
    re.IGNORECASE,
)
TRANSIENT_WORDS: Final = re.compile(r"request limit exceeded|rate exceeded|instance ID '?i-[0-9a-f]+", re.IGNORECASE)
"""Words of throttles and of instances that EC2 does not list yet: they match the two above, but are transient."""
FLEET_QUOTAS: Final = frozenset(
    {"iamFleetRoleInvalid", "spotFleetRequestConfigurationInvalid", "spotInstanceCountLimitExceeded"}
)
"""Sub-types of fleet events that a human must fix: a limit of the account, a role, a configuration."""


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """The reason of a failed launch. `lasting`: a human must fix it, waiting does not."""

    reason: str
    lasting: bool

    def error(self) -> OutOfCapacity | OutOfQuota:
        return (OutOfQuota if self.lasting else OutOfCapacity)(self.reason)


def launch_failure(
    text: str, code: str = "", *, zone: str = "", instance_type: str = "", market: str = ""
) -> LaunchFailure:
    """Return the failure described by a code and text.

    It has the type, zone and market where they are known.
    """
    codes = {strip_prefix(code), *(strip_prefix(found) for found in CODE.findall(text))}
    if codes & QUOTA or code in FLEET_QUOTAS:
        lasting = True
    elif codes & (CAPACITY | THROTTLES) or TRANSIENT_WORDS.search(text):
        lasting = False
    else:
        lasting = bool(QUOTA_WORDS.search(text) or PERMANENT_WORDS.search(text))
    type_match, zone_match = TYPE.search(text), ZONE.search(text)
    placement = (
        instance_type or (type_match[1] if type_match else ""),
        zone or (zone_match[1] if zone_match else ""),
        market.replace("_", "-"),
    )
    place = ", ".join(part for part in placement if part)
    message = one_line(f"{code}: {text}" if code and code not in text else text)
    return LaunchFailure(f"{place}: {message}" if place else message, lasting)


def join_failures(failures: list[LaunchFailure]) -> LaunchFailure:
    """Return several failures as one, which is lasting only where each of them is."""
    return LaunchFailure("; ".join(dict.fromkeys(f.reason for f in failures)), all(f.lasting for f in failures))
