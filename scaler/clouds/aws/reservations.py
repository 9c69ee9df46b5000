"""Capacity reservations (ODCR) and capacity blocks.

Their instances are paid for, used or not.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from scaler.clouds.aws import session
from scaler.clouds.batching import Batch, batch
from scaler.clouds.response_validation import MALFORMED, machine_count
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MAX_IDS: Final = 100
BLOCK_DRAINS_S: Final = 1800.0
"""Time before a capacity block's end from which AWS terminates its instances, so it holds none. Seconds."""
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
"""States of a reservation. One in an unknown state is not taken for empty."""


class Reserved:
    """The instances that the reservations `ids` hold together."""

    def __init__(self, ids: Sequence[str], described: Batch[str, Mapping[str, Any]] | None) -> None:
        self._ids = ids
        self._described = described

    async def count(self) -> int | None:
        """Return the instances reserved now; None without reservations or where one cannot be read.

        Raises `Misconfigured`.
        """
        if self._described is None:
            return None
        try:
            descriptions = await asyncio.gather(*map(self._described.get, self._ids))
        except Unavailable:
            return None
        total = 0
        for at, description in descriptions:
            if description is None:
                raise Misconfigured(
                    f"AWS: there is no capacity reservation {self._ids} in this account and region; check reservation"
                )
            try:
                total += reserved_capacity(description, at)
            except (Unavailable, *MALFORMED):  # malformed: missing is not zero
                return None
        return total


def reserved_capacity(reservation: Mapping[str, Any], now: float) -> int:
    """Return the instances that a reservation holds at `now`.

    Returns 0 for a reservation that is planned, delayed or over. Raises `Unavailable`, or one of `MALFORMED`.
    """
    if reservation["State"] not in STATES:
        raise Unavailable(f"AWS: malformed response: a capacity reservation has state {reservation['State']!r}")
    if reservation["State"] != "active":
        return 0
    end = reservation.get("EndDate")
    if (
        reservation.get("ReservationType") == "capacity-block"
        and isinstance(end, datetime)
        and end.timestamp() - now <= BLOCK_DRAINS_S
    ):
        return 0
    return machine_count("AWS: TotalInstanceCount", reservation["TotalInstanceCount"])


async def reserved(context: Context, account: AwsAccount, ids: Sequence[str]) -> Reserved:
    """Return the reservations `ids`, described many at a time for all pools. Raises port errors."""
    if not ids:
        return Reserved((), None)
    ec2 = await session.service(context, "ec2", account)
    fetch = functools.partial(
        ec2.describe,
        "DescribeCapacityReservations",
        "CapacityReservations",
        "CapacityReservationId",
        "CapacityReservationIds",
    )
    return Reserved(ids, await batch(context, ("aws-reserved", account), fetch, MAX_IDS))
