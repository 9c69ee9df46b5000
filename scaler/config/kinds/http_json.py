"""Any HTTP service that reports numbers as JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata, Pattern
from scaler.clouds.http_access import Access
from scaler.config.kinds.engines import PAGE_URL

POINTER: Final = Pattern(
    r"^(/([^~]|~[01])*)?$", "a JSON Pointer (RFC 6901), such as /queues/0/waiting; / in a name is ~1, and ~ is ~0"
)


@dataclass(frozen=True, kw_only=True)
class HttpJson:
    """Numbers in a JSON document that an HTTP service returns to a GET request."""

    url: Annotated[
        str,
        FieldMetadata(
            "URL of the document. Put secrets into access, not here.",
            pattern=PAGE_URL,
            example="http://gateway.llm:8080/stats",
        ),
    ]
    values: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "JSON Pointer (RFC 6901) of each number, keyed by the name of the quantity that it provides.",
            example={"visible": "/queues/prompts/waiting", "in_flight": "/queues/prompts/running"},
        ),
    ]
    divide_by: Annotated[
        Mapping[str, float],
        FieldMetadata(
            "Divisor of each quantity with another unit, such as 1000 for milliseconds. Default: none.",
            example={"oldest_age_s": 1000},
        ),
    ] = field(default_factory=dict)
    measured_at: Annotated[
        str | None,
        FieldMetadata(
            "JSON Pointer of the time of the measurement, in Unix seconds or RFC 3339. Default: null: the numbers"
            " count as measured at the request.",
            pattern=POINTER,
        ),
    ] = None
    max_age_s: Annotated[
        float, FieldMetadata("Treat older values as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0)
    ] = 60.0
    access: Annotated[
        Access, FieldMetadata("Credentials and trusted certificates for the requests. Default: no credentials.")
    ] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.values:
            yield "values", "must name at least one number, such as visible: /waiting"
        for quantity, pointer in self.values.items():
            if not re.fullmatch(POINTER.regex, pointer):
                yield "values", f"{quantity} must be {POINTER.words}"
            if not quantity.isascii() or not quantity.isidentifier():
                yield (
                    "values",
                    f"{quantity!r} is not a valid quantity name: use letters, digits and _, such as queue_depth",
                )
        for quantity, divisor in self.divide_by.items():
            if quantity not in self.values:
                yield "divide_by", f"names {quantity!r}, which is not in values"
            if divisor <= 0:
                yield "divide_by", f"must be above 0, and that of {quantity} is {divisor:g}"

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(self.values, self.max_age_s)
