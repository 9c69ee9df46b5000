"""Cloud queues and the counts that their services report, which are delayed or approximate."""

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
"""Cloud Monitoring samples a subscription's counts every 60 s. A sample becomes visible up to 120 s later."""


@dataclass(frozen=True, kw_only=True)
class SimulatedQueue:
    """A cloud queue between clients and replicas.

    A replica takes messages while it is below its limit.
    """

    service: Annotated[
        Service,
        FieldMetadata(
            "Queue service, which determines how counts are reported. sqs: approximate and some seconds old. pubsub:"
            " sampled every 60 s and visible up to 120 s later. service_bus: current, but 0 while the namespace is"
            " throttled. The latter two count in-flight messages as visible."
        ),
    ] = "sqs"
    per_replica: Annotated[
        int | None,
        FieldMetadata(
            "Messages that a replica processes at once. Default: null, the engine's max_seqs. Messages.", ge=1, le=8192
        ),
    ] = None
    visibility_timeout_s: Annotated[
        float,
        FieldMetadata(
            "Time until a message of a lost replica is redelivered. Set it as in your queue. Seconds.", ge=0, le=43200
        ),
    ] = 30.0
    max_receives: Annotated[
        int,
        FieldMetadata(
            "Failed deliveries before a message goes to the dead-letter queue. Set it as in your queue. Deliveries.",
            ge=1,
            le=1000,
        ),
    ] = 5
    delay_s: Annotated[float, FieldMetadata("Delivery delay after a message is sent. Seconds.", ge=0, le=900)] = 0.0
    approximation_s: Annotated[
        float, FieldMetadata("For sqs: maximum age of the reported counts. Seconds.", ge=0, le=60)
    ] = 2.0
    throttled_share: Annotated[
        float, FieldMetadata("For service_bus: share of reads that return 0 because of throttling. Share.", ge=0, le=1)
    ] = 0.0


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """The true counts of a queue at a time (messages, seconds)."""

    at_s: float
    visible: int
    in_flight: int
    delayed: int
    dead_letter: int
    oldest_age_s: float


class QueueView:
    """The counts of a queue as its service reports them.

    `epoch_s` is the Unix time of the world's start.
    """

    def __init__(self, queue: SimulatedQueue, rng: np.random.Generator, epoch_s: float) -> None:
        self._queue = queue
        self._rng = rng
        self._epoch_s = epoch_s
        self._samples: deque[tuple[float, QueueCounts]] = deque()

    @property
    def sampling_s(self) -> float | None:
        """Sampling interval of the service, if it samples on its own clock. Seconds."""
        return PUBSUB_SAMPLING_S if self._queue.service == "pubsub" else None

    def sample(self, counts: QueueCounts) -> None:
        """Add a sample that the service takes on its own clock."""
        shown_s = counts.at_s + round(float(self._rng.random()) * PUBSUB_LAG_S, 3)
        self._samples.append((shown_s, counts))

    def read(self, now: QueueCounts) -> dict[str, Fresh[float] | Absent]:
        """Return the readings of a request to the service now."""
        service, counts = self._queue.service, now
        if service == "pubsub":
            while len(self._samples) > 1 and self._samples[1][0] <= now.at_s:
                self._samples.popleft()
            if not self._samples or self._samples[0][0] > now.at_s:
                return dict.fromkeys(QUANTITIES, Absent("Cloud Monitoring has no sample yet"))
            counts = self._samples[0][1]
        elif service == "sqs":
            counts = self._approximate(now)
        elif self._rng.random() < self._queue.throttled_share:
            counts = QueueCounts(now.at_s, 0, 0, 0, 0, 0.0)
        if service != "sqs":  # Pub/Sub and Service Bus count a message as waiting until it is acknowledged
            counts = replace(counts, visible=counts.visible + counts.in_flight, in_flight=0)
        at = self._epoch_s + counts.at_s
        return {quantity: Fresh(float(getattr(counts, quantity)), at) for quantity in QUANTITIES}

    def _approximate(self, now: QueueCounts) -> QueueCounts:
        """Return counts of up to `approximation_s` ago, dated now.

        They are interpolated between the last read and now. 10 messages at the last read 5 s ago, 20 now, and a draw of
        0.5 of 2 s: the counts of 1 s ago, 20 - 10 / 5 = 18.
        """
        last = self._samples[-1][1] if self._samples else now
        self._samples.clear()
        self._samples.append((now.at_s, now))
        gap_s = now.at_s - last.at_s
        if gap_s <= 0:
            return now
        back = min(1.0, float(self._rng.random()) * self._queue.approximation_s / gap_s)
        blended = {q: round(getattr(now, q) + back * (getattr(last, q) - getattr(now, q))) for q in QUANTITIES[:4]}
        return QueueCounts(now.at_s, **blended, oldest_age_s=now.oldest_age_s)
