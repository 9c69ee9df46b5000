"""Scheduled events of a pool, and the record of past node events."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class EventKind(IntEnum):
    """Kinds of scheduled event. Events at the same time are handled in this order."""

    LOSS = 0  # a node is interrupted or fails
    CHANGE = 1  # a zone's capacity changes
    WARN = 2  # the cloud chooses and announces the nodes that a zone's next change will interrupt
    LIFE_END = 3  # the end of a node's random life is announced
    REBALANCE = 4
    NOTICE = 5
    DEADLINE = 6  # a draining replica's grace period ends
    DONE = 7  # a node's last start-up phase ends
    RETRY = 8  # the platform tries failed replicas again
    FAIL = 9  # replicas that found no node for `Failures.after_s` are reported as failed


class ScheduledEvent(NamedTuple):
    """A scheduled event.

    `subject` is a node number, a zone index for WARN and CHANGE, 0 for RETRY and FAIL.

    `limit` is the new capacity of the zone. `order` is the number of the entry.
    """

    at_ps: int
    kind: EventKind
    order: int
    subject: int
    limit: int | None = None


class Timetable:
    """Queue of events in order of time, then kind, then insertion."""

    def __init__(self) -> None:
        self._entries: list[ScheduledEvent] = []
        self._added = 0

    def add(self, at_ps: int, kind: EventKind, subject: int, limit: int | None = None) -> None:
        self._added += 1
        heapq.heappush(self._entries, ScheduledEvent(at_ps, kind, self._added, subject, limit))

    def first(self) -> ScheduledEvent | None:
        return self._entries[0] if self._entries else None

    def pop(self) -> ScheduledEvent:
        return heapq.heappop(self._entries)


class NodeEventKind(StrEnum):
    """Kinds of node event that the controller did not request."""

    REBALANCE = "rebalance"  # rebalance recommendation
    NOTICE = "notice"  # interruption notice
    INTERRUPTED = "interrupted"  # the cloud interrupted a spot node
    FAILED = "failed"  # an on-demand or reserved node failed
    CUT = "cut"  # the grace period of a draining node ended


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """A node event for the report, with the number of requests that it ended."""

    at_ps: int
    kind: NodeEventKind
    number: int
    zone: str
    lost_requests: int = 0
