"""The period of an injected fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata


@dataclass(frozen=True, kw_only=True)
class FaultPeriod:
    """The start and the end of a fault."""

    since_s: Annotated[float, FieldMetadata("Start of the fault. Seconds.", ge=0)] = 0.0
    until_s: Annotated[
        float | None, FieldMetadata("End of the fault. Default: null, the end of the run. Seconds.", gt=0)
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the fault would have no effect, as (key, rule broken)."""
        if self.until_s is not None and self.until_s <= self.since_s:
            yield "until_s", f"must be above since_s, {self.since_s:g}"
