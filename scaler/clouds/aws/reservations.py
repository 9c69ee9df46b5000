"""Capacity reservations (ODCR) and capacity blocks: how many instances are paid for, used or not."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from scaler.clouds.aws import session
from scaler.clouds.batching import Batch, batch
from scaler.clouds.response_validation import MALFORMED, whole
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MOST_IDS: Final = 100
BLOCK_DRAINS_S: Final = 1800.0
"""Instances of a capacity block are terminated from this long before its end on: what is left of it holds nothing."""
STATES: Final = frozenset(
    {
        "active",
        "assessing",
        "cancelled",
        "cancelling",
        "delayed",
        "expired",
        "failed",
        "payment-failed",
        "payment-pending",
        "pending",
        "scheduled",
        "unavailable",
        "unsupported",
    }
)
"""In which a reservation may be. What is in another one is not known to hold nothing."""


class Reserved:
    """What the reservations `ids` hold together."""

    def __init__(self, ids: Sequence[str], known: Batch[str, Mapping[str, Any]] | None) -> None:
        self._ids = ids
        self._described = known

    async def count(self) -> int | None:
        """Return the instances reserved now.

        None where no reservation was named, or none can be read.

        Raises `Misconfigured`.
        """
        if self._described is None:
            return None
        try:
            known = await asyncio.gather(*map(self._described.get, self._ids))
        except Unavailable:
            return None
        total = 0
        for at, found in known:
            if found is None:
                raise Misconfigured(
                    f"AWS: no capacity reservation {self._ids} in this account and region: see reservation"
                )
            try:
                total += reserved_capacity(found, at)
            except (Unavailable, *MALFORMED):  # of another shape: missing is not zero
                return None
        return total


def reserved_capacity(reservation: Mapping[str, Any], now: float) -> int:
    """Return the instances that a reservation holds at `now`.

    0 for one that is planned, delayed or over.

    Raises `Unavailable`, or what reading another shape raises.
    """
    if reservation["State"] not in STATES:
        raise Unavailable(f"AWS: a capacity reservation's state {reservation['State']!r} is none")
    if reservation["State"] != "active":
        return 0
    ends = reservation.get("EndDate")
    if (
        reservation.get("ReservationType") == "capacity-block"
        and isinstance(ends, datetime)
        and ends.timestamp() - now <= BLOCK_DRAINS_S
    ):
        return 0
    return whole("AWS: TotalInstanceCount", reservation["TotalInstanceCount"])


async def reserved(context: Context, account: AwsAccount, ids: Sequence[str]) -> Reserved:
    """Return the reservations `ids`, described many at a time for all pools of the account.

    Raises port errors.
    """
    if not ids:
        return Reserved((), None)
    ec2 = await session.service(context, "ec2", account)

    async def fetch(keys: Sequence[str], *, urgent: bool) -> dict[str, Mapping[str, Any]]:
        found = await ec2.pages(
            "DescribeCapacityReservations",
            "CapacityReservations",
            ", ".join(keys[:3]),
            urgent=urgent,
            CapacityReservationIds=list(keys),
        )
        return {r["CapacityReservationId"]: r for r in found}

    return Reserved(ids, await batch(context, ("aws-reserved", account), fetch, MOST_IDS))
