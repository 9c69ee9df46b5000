"""Rules of a platform that accepts one change of size at a time, each for minutes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure.node_lifecycle import Phase


@dataclass(frozen=True, kw_only=True)
class Updates:
    """Rules of a platform that accepts one change of size at a time."""

    duration: Annotated[
        Phase,
        FieldMetadata(
            "Minimum duration of an update. It also lasts until each replica that it added serves or has failed."
            " Seconds.",
            example={"median_s": 60, "sigma": 0.2},
        ),
    ]
    rollback: Annotated[
        Phase | None,
        FieldMetadata(
            "Time for which the lock is held after an update failed. Default: null, `duration`, as a SageMaker"
            " endpoint that rolls back. A median of 0 releases it at once, as on Azure. Seconds.",
            example={"median_s": 0},
        ),
    ] = None
    lock: Annotated[
        str | None,
        FieldMetadata(
            "Object that accepts one update at a time, such as a SageMaker endpoint or an Azure OpenAI account. Pools"
            " with the same name share it. Default: null, the pool alone.",
            example="endpoint-a",
        ),
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.lock is not None and not self.lock:
            yield "lock", "must not be empty; null: the pool alone"
