"""What the clouds' queues tell of themselves: not the truth, and not at once."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal

import numpy as np

from policies.model import Absent, Fresh
from policies.model.field_metadata import FieldMetadata

Service = Literal["sqs", "pubsub", "service_bus"]
QUANTITIES: Final = ("visible", "in_flight", "delayed", "dead_letter", "oldest_age_s")
PUBSUB_SAMPLING_S: Final = 60.0
PUBSUB_LAG_S: Final = 120.0
"""Cloud Monitoring samples a subscription's counts every 60 s; a sample shows up to 120 s later."""


@dataclass(frozen=True, kw_only=True)
class SimulatedQueue:
    """A cloud's queue between clients and replicas: replicas take messages as they have room."""

    service: Annotated[
        Service,
        FieldMetadata(
            "How its counts are told. sqs: approximate, as of some seconds ago; pubsub: sampled each 60 s and shown up"
            " to 120 s later; service_bus: at once, but 0 while the namespace is throttled. These two count messages in"
            " work as visible."
        ),
    ] = "sqs"
    per_replica: Annotated[
        int | None,
        FieldMetadata(
            "Messages a replica works on at once; null: as many as its engine runs. Messages.", ge=1, le=8192
        ),
    ] = None
    visibility_timeout_s: Annotated[
        float, FieldMetadata("A message whose replica is lost comes again after this. Seconds.", ge=0, le=43200)
    ] = 30.0
    max_receives: Annotated[
        int,
        FieldMetadata("A message taken so often without success goes to the dead-letter queue. Times.", ge=1, le=1000),
    ] = 5
    delay_s: Annotated[
        float, FieldMetadata("A message can be taken so long after it was sent. Seconds.", ge=0, le=900)
    ] = 0.0
    approximation_s: Annotated[
        float, FieldMetadata("sqs: counts are those of up to so long ago. Seconds.", ge=0, le=60)
    ] = 2.0
    throttled_share: Annotated[
        float, FieldMetadata("service_bus: share of reads in which the namespace is throttled.", ge=0, le=1)
    ] = 0.0


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The truth about a queue at a time."""

    at_s: float
    visible: int
    in_flight: int
    delayed: int
    dead_letter: int
    oldest_age_s: float


class QueueView:
    """A queue as its service shows it. `epoch_s` is the Unix time of the world's start."""

    def __init__(self, queue: SimulatedQueue, chance: np.random.Generator, epoch_s: float) -> None:
        self._queue = queue
        self._chance = chance
        self._epoch_s = epoch_s
        self._known: deque[tuple[float, QueueCounts]] = deque()

    @property
    def sampling_s(self) -> float | None:
        """How often the service itself looks, if it does so by its own clock."""
        return PUBSUB_SAMPLING_S if self._queue.service == "pubsub" else None

    def sample(self, counts: QueueCounts) -> None:
        """Let the service look at the queue by its own clock."""
        shown_s = counts.at_s + round(float(self._chance.random()) * PUBSUB_LAG_S, 3)
        self._known.append((shown_s, counts))

    def read(self, now: QueueCounts) -> dict[str, Fresh[float] | Absent]:
        """Return the counts that a request to the service reads now."""
        service, told = self._queue.service, now
        if service == "pubsub":
            while len(self._known) > 1 and self._known[1][0] <= now.at_s:
                self._known.popleft()
            if not self._known or self._known[0][0] > now.at_s:
                return dict.fromkeys(QUANTITIES, Absent("Cloud Monitoring shows no sample yet"))
            told = self._known[0][1]
        elif service == "sqs":
            told = self._approximate(now)
        elif self._chance.random() < self._queue.throttled_share:
            told = QueueCounts(now.at_s, 0, 0, 0, 0, 0.0)
        if service != "sqs":  # those two count a message as waiting until it is acknowledged
            told = replace(told, visible=told.visible + told.in_flight, in_flight=0)
        at = self._epoch_s + told.at_s
        return {quantity: Fresh(float(getattr(told, quantity)), at) for quantity in QUANTITIES}

    def _approximate(self, now: QueueCounts) -> QueueCounts:
        """Return counts between those of now and of the last look, if that was recent; the service says it is now."""
        last = self._known[-1][1] if self._known else now
        self._known.clear()
        self._known.append((now.at_s, now))
        gap_s = now.at_s - last.at_s
        if gap_s <= 0:
            return now
        back = min(1.0, float(self._chance.random()) * self._queue.approximation_s / gap_s)
        blended = {q: round(getattr(now, q) + back * (getattr(last, q) - getattr(now, q))) for q in QUANTITIES[:4]}
        return QueueCounts(now.at_s, **blended, oldest_age_s=now.oldest_age_s)
