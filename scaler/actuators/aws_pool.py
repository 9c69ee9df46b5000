"""What all pools on AWS say in configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.notices import AwsNotices

RESERVATION: Final = re.compile(r"cr-[0-9a-f]{8,17}")


@dataclass(frozen=True, kw_only=True)
class AwsPool(Pool):
    """Where it is, what announces its interruptions, and what is paid for it anyway."""

    account: Annotated[AwsAccount, FieldMetadata("Account and region.")] = field(default_factory=AwsAccount)
    notices: Annotated[AwsNotices, FieldMetadata("Where interruptions are announced.")] = field(
        default_factory=AwsNotices
    )
    reservation: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Ids of the capacity reservations or capacity blocks that its instances use: paid for, used or not."
        ),
    ] = ()
    other_writer_yield_s: Annotated[
        float, FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400)
    ] = 600.0

    def problems(self) -> Iterator[tuple[str, str]]:
        for one in self.reservation:
            if not RESERVATION.fullmatch(one):
                yield "reservation", f"{one!r} is no id of a capacity reservation (cr- and hexadecimal digits)"
