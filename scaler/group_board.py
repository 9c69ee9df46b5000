"""The board of a daemon on which the workloads of a group read one another's state."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Final

from policies.model import Fresh, Observation, WorkloadName
from policies.model.group import MemberStatus
from policies.model.readings import Reading, grade
from policies.model.spec import WorkloadSpec

MIN_AGE_S: Final = 60.0
"""Minimum age from which a state is stale, as for a pool's size. Seconds."""
TICKS: Final = 3
"""Ticks of a member after which its state is stale, if that is longer."""


@dataclasses.dataclass(slots=True)
class GroupMember:
    """A workload of a group: the age from which its state is stale, and its last state."""

    max_age_s: float
    last: Fresh[MemberStatus] | None = None


class GroupBoard:
    """The last state of each workload that is in a group."""

    def __init__(self) -> None:
        self._groups: defaultdict[str, dict[WorkloadName, GroupMember]] = defaultdict(dict)
        self._group_of: dict[WorkloadName, str] = {}
        self._stepped_s = 0.0

    def register(self, name: WorkloadName, spec: WorkloadSpec) -> None:
        """Add a workload, or replace its specification. One without a group is removed."""
        group = spec.group_key
        if group != self._group_of.get(name):
            self.forget(name)
        if group is not None:
            self._group_of[name] = group
            member = self._groups[group].setdefault(name, GroupMember(MIN_AGE_S))
            member.max_age_s = max(MIN_AGE_S, TICKS * spec.interval_s)

    def forget(self, name: WorkloadName) -> None:
        """Remove a workload."""
        group = self._group_of.pop(name, None)
        if group is not None:
            del self._groups[group][name]
            if not self._groups[group]:
                del self._groups[group]

    def shift(self, stepped_s: float) -> None:
        """Apply jumps of the wall clock, given as their sum since it began. Seconds."""
        step_s, self._stepped_s = stepped_s - self._stepped_s, stepped_s
        members = (member for group in self._groups.values() for member in group.values()) if step_s else ()
        for member in members:
            if member.last is not None:
                member.last = dataclasses.replace(member.last, measured_at=member.last.measured_at + step_s)

    def with_members(self, name: WorkloadName, observation: Observation) -> Observation:
        """Return the observation with the state of the other members of the workload's group."""
        group = self._group_of.get(name)
        if group is None:
            return observation
        members: dict[WorkloadName, Reading[MemberStatus]] = {
            other: grade(member.last, member.max_age_s, observation.at, "it has not run a tick yet", failed=False)
            for other, member in self._groups[group].items()
            if other != name
        }
        return dataclasses.replace(observation, members=members)

    def publish(self, name: WorkloadName, status: MemberStatus, at: float) -> None:
        """Record the state of a workload after a decision."""
        group = self._group_of.get(name)
        if group is not None:
            self._groups[group][name].last = Fresh(status, at)
