"""The peers' memory from one tick to the next.

Its types read and write the numbers that a recommendation records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TypeVar


@dataclass(frozen=True, slots=True)
class KpaMemory:
    """The Knative Pod Autoscaler's memory.

    `started` is 1 after the first tick; `panic_s` and `panic_replicas` are a panic's age and largest size, `idle_s` the
    time without load. None outside a panic and with load.
    """

    started: float | None = None
    panic_s: float | None = None
    panic_replicas: float | None = None
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class MoveMemory:
    """The memory of Ray Serve and SkyServe, which wait before they move.

    `direction` is that of the move they wait to make: 1 out, -1 in, 0 none; `agreed_s` for how long they have waited.
    `target` is SkyServe's target without its spare replicas.
    """

    direction: float | None = None
    agreed_s: float | None = None
    target: float | None = None


@dataclass(frozen=True, slots=True)
class KedaMemory:
    """The memory of KEDA's operator.

    `active` is 1 while a trigger was active at the last poll, `polled_s` the time since it, `age_s` since the first
    tick, `idle_s` since the last activity. None before the first.
    """

    active: float | None = None
    polled_s: float | None = None
    age_s: float | None = None
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class DynamoMemory:
    """The memory of Dynamo's planner in SLA mode.

    `waited_s` is the time since the last decision, `prompt_tokens` and `output_tokens` the mean lengths at it. None
    before the first.
    """

    waited_s: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None


M = TypeVar("M", KpaMemory, MoveMemory, KedaMemory, DynamoMemory)


def recall(kind: type[M], numbers: Mapping[str, float]) -> M:
    """Return the memory that these recorded numbers hold; other keys are ignored."""
    return kind(**{f.name: numbers[f.name] for f in fields(kind) if f.name in numbers})


def record(memory: KpaMemory | MoveMemory | KedaMemory | DynamoMemory) -> dict[str, float]:
    """Return the memory as numbers, without the fields that are None.

    Example: KpaMemory(1.0, idle_s=30.0) is {started: 1, idle_s: 30}.
    """
    values = {f.name: getattr(memory, f.name) for f in fields(memory)}
    return {name: float(value) for name, value in values.items() if value is not None}
