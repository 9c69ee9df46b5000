"""Why accepted launches fail on AWS: by a code where there is one, else by words, grouped by remedy.

Scaling activities and fleet events carry no code of their own. The words are AWS's published ones; words that are not
known are taken as a lack that may pass, and are reported as they are.
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
HUMAN_WORDS: Final = re.compile(
    r"not authorized|does not exist|is not valid|invalid (?:ami|iam|subnet|security|launch|key)|not subscribed"
    r"|opt[- ]in|AccessDenied|UnauthorizedOperation|NotFound\b",
    re.IGNORECASE,
)
PASSING_WORDS: Final = re.compile(r"request limit exceeded|rate exceeded|instance ID '?i-[0-9a-f]+", re.IGNORECASE)
"""Of throttles, and of instances that EC2 does not show yet: they look like the two above, and pass."""
FLEET_QUOTAS: Final = frozenset(
    {"iamFleetRoleInvalid", "spotFleetRequestConfigurationInvalid", "spotInstanceCountLimitExceeded"}
)
"""Sub-types of fleet events that a human must mend: a limit of the account, a role, a configuration."""


@dataclass(frozen=True, slots=True)
class LaunchFailure:
    """Why something did not come. `lasting`: waiting does not mend it, a human does."""

    reason: str
    lasting: bool

    def error(self) -> OutOfCapacity | OutOfQuota:
        return (OutOfQuota if self.lasting else OutOfCapacity)(self.reason)


def failure(text: str, code: str = "", *, zone: str = "", instance_type: str = "", market: str = "") -> LaunchFailure:
    """Return a launch failure with its type, zone and market, as far as they are known."""
    codes = {strip_prefix(code), *(strip_prefix(found) for found in CODE.findall(text))}
    if codes & QUOTA or code in FLEET_QUOTAS:
        lasting = True
    elif codes & (CAPACITY | THROTTLES) or PASSING_WORDS.search(text):
        lasting = False
    else:
        lasting = bool(QUOTA_WORDS.search(text) or HUMAN_WORDS.search(text))
    kinds, zones = TYPE.search(text), ZONE.search(text)
    where = (
        instance_type or (kinds[1] if kinds else ""),
        zone or (zones[1] if zones else ""),
        market.replace("_", "-"),
    )
    about = ", ".join(part for part in where if part)
    said = one_line(f"{code}: {text}" if code and code not in text else text)
    return LaunchFailure(f"{about}: {said}" if about else said, lasting)


def join_failures(failures: list[LaunchFailure]) -> LaunchFailure:
    """Return several failures as one, which is lasting only where each of them is."""
    return LaunchFailure("; ".join(dict.fromkeys(f.reason for f in failures)), all(f.lasting for f in failures))
