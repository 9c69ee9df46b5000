"""What is due in a pool, and when; and what is told of it afterwards."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple


class EventKind(IntEnum):
    """What comes due. Of things due at the same time, the first in this list comes first."""

    LOSS = 0  # the cloud takes a node, or it fails
    CHANGE = 1  # a zone's capacity changes
    WARN = 2  # a zone's change is near enough that the cloud picks the nodes it will take
    FATE = 3  # a node's own end is near enough to be announced
    REBALANCE = 4
    NOTICE = 5
    DEADLINE = 6  # a draining replica's grace is over
    DONE = 7  # a node's last phase is over
    RETRY = 8  # the platform tries again what found no capacity
    FAIL = 9  # what found none for long enough is said to have failed


class ScheduledEvent(NamedTuple):
    """One event due: `subject` is a node's number, a zone's for WARN and CHANGE, 0 for RETRY and FAIL.

    `limit` is that zone's new capacity.
    """

    at_ps: int
    due: EventKind
    order: int
    subject: int
    limit: int | None = None


class Timetable:
    """Entries in order of time; those of the same time and kind in the order they were made."""

    def __init__(self) -> None:
        self._entries: list[ScheduledEvent] = []
        self._made = 0

    def add(self, at_ps: int, due: EventKind, subject: int, limit: int | None = None) -> None:
        self._made += 1
        heapq.heappush(self._entries, ScheduledEvent(at_ps, due, self._made, subject, limit))

    def first(self) -> ScheduledEvent | None:
        return self._entries[0] if self._entries else None

    def pop(self) -> ScheduledEvent:
        return heapq.heappop(self._entries)


class NodeEventKind(StrEnum):
    """What happened to a node that was not asked for."""

    REBALANCE = "rebalance"  # the cloud recommends to move away
    NOTICE = "notice"  # the cloud announces an interruption
    INTERRUPTED = "interrupted"  # the cloud took it
    FAILED = "failed"  # it broke: on demand and reserved
    CUT = "cut"  # its grace to drain was over


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """One such event, for the report: when, which node where, and the requests it cut."""

    at_ps: int
    kind: NodeEventKind
    number: int
    zone: str
    cut: int = 0
