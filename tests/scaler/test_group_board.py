"""The board on which the workloads of a group read one another's state."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, Observation, PoolName, Stale, Tick, WorkloadName
from policies.model.group import MemberStatus
from policies.model.names import BackendName, RouteName
from policies.model.route import BackendTraffic
from policies.model.spec import WorkloadSpec
from scaler.config.load import Workload, workload_from
from scaler.controller import Controller
from scaler.group_board import MIN_AGE_S, TICKS, GroupBoard
from scaler.setup import Setup
from tests.factories import NOW, seen, spec
from tests.fakes import FakeActuator, FakeRoute, FakeSource, ManualClock

EU, US, ASIA = WorkloadName("chat-eu"), WorkloadName("chat-us"), WorkloadName("chat-asia")
STATUS = MemberStatus(ready=4.0, need=2.5, max_supply=8.0, requests_per_replica_per_s=2.0)
HOME, AWAY = BackendName("home"), BackendName("away")
SILENT = Absent("it has not run a tick yet")


def member(name: str, group: str | None = "chat", **settings: Any) -> WorkloadSpec:
    return dataclasses.replace(spec(**settings), workload=name, group=group)


def board(*names: WorkloadName) -> GroupBoard:
    created = GroupBoard()
    for name in names:
        created.register(name, member(name))
    return created


def members(created: GroupBoard, name: WorkloadName, at: float = NOW) -> dict[WorkloadName, Any]:
    return dict(created.with_members(name, seen({}, at=at)).members)


def test_members_read_one_another_and_not_themselves() -> None:
    created = board(EU, US, ASIA)
    assert members(created, EU) == {US: SILENT, ASIA: SILENT}, "no state is known before the first tick"
    created.publish(US, STATUS, NOW)
    assert members(created, EU) == {US: Fresh(STATUS, NOW), ASIA: SILENT}
    assert members(created, US) == {EU: SILENT, ASIA: SILENT}


def test_workload_without_a_group_reads_and_publishes_nothing() -> None:
    created, alone = board(EU, US), WorkloadName("batch")
    created.register(alone, member(alone, None))
    created.publish(alone, STATUS, NOW)
    observation = seen({})
    assert created.with_members(alone, observation) is observation
    assert alone not in members(created, EU)


def test_changed_group_leaves_the_old_one_and_its_state() -> None:
    created = board(EU, US, ASIA)
    created.publish(US, STATUS, NOW)
    created.register(ASIA, member(ASIA, "other"))
    created.register(US, member(US, "other"))
    assert members(created, EU) == {}
    assert members(created, ASIA) == {US: SILENT}, "a state of another group does not count"
    created.register(US, member(US, None))
    assert members(created, ASIA) == {}


def test_changed_settings_keep_the_state_within_the_group() -> None:
    created = board(EU, US)
    created.publish(US, STATUS, NOW)
    created.register(US, member(US, interval_s=30.0))
    assert members(created, EU) == {US: Fresh(STATUS, NOW)}


def test_forgotten_workload_is_no_member() -> None:
    created = board(EU, US)
    created.publish(US, STATUS, NOW)
    created.forget(US)
    created.forget(US)
    created.publish(US, STATUS, NOW)
    assert members(created, EU) == {}
    created.register(US, member(US))
    assert members(created, EU) == {US: SILENT}


@pytest.mark.parametrize(("interval_s", "max_age_s"), [(5.0, MIN_AGE_S), (15.0, MIN_AGE_S), (40.0, TICKS * 40.0)])
def test_state_is_stale_after_three_ticks_of_the_member(interval_s: float, max_age_s: float) -> None:
    created = board(EU)
    created.register(US, member(US, interval_s=interval_s))
    created.publish(US, STATUS, NOW)
    assert members(created, EU, NOW + max_age_s) == {US: Fresh(STATUS, NOW)}
    assert members(created, EU, NOW + max_age_s + 1.0) == {US: Stale(STATUS, NOW, max_age_s + 1.0)}


def test_jump_of_the_clock_ages_no_state() -> None:
    created = board(EU, US)
    created.publish(US, STATUS, NOW)
    created.shift(3600.0)
    created.shift(3600.0)
    assert members(created, EU, NOW + 3610.0) == {US: Fresh(STATUS, NOW + 3600.0)}, "each jump counts once"
    created.shift(0.0)
    assert members(created, EU, NOW + 10.0) == {US: Fresh(STATUS, NOW)}


def test_groups_of_two_namespaces_are_two_groups() -> None:
    one, two, other = WorkloadName("team-a.chat"), WorkloadName("team-a.chat-us"), WorkloadName("team-b.chat")
    created = board(one, two, other, US)
    assert members(created, one) == {two: SILENT}
    assert members(created, other) == {}
    assert members(created, US) == {}


class Member:
    """A workload with fake adapters, its controller and a board."""

    def __init__(self, name: WorkloadName, other: WorkloadName, created: GroupBoard, clock: ManualClock) -> None:
        document = {
            "workload": name,
            "group": "chat",
            "max_replicas": 20,
            "sources": {"queue": {"kind": "embedded"}},
            "policies": {"depth": {"kind": "queue_depth"}},
            "pools": {"main": {"kind": "embedded"}},
            "routes": {
                "front": {
                    "kind": "envoy",
                    "file": f"/routes/{name}.json",
                    "admin_url": "http://127.0.0.1:9901",
                    "backends": {"home": {"pool": "main"}, "away": {"workload": other}},
                    "requests_per_replica_per_s": 2,
                }
            },
        }
        self.workload: Workload = workload_from(document)
        self.clock = clock
        self.source = FakeSource(clock, {"visible": 10.0, "in_flight": 0.0})
        self.actuator, self.route = FakeActuator(clock, 5), FakeRoute(clock)
        pools, routes = {PoolName("main"): self.actuator}, {RouteName("front"): self.route}
        setup = Setup(self.workload, {"queue": self.source}, pools, groups=created, routes=routes)
        self.ticks: list[Tick] = []
        self.controller = Controller(setup, clock, History(), self.ticks.append)

    async def tick(self) -> Observation:
        """Run a tick, and return its observation."""
        await self.controller.tick(self.clock.now())
        return self.ticks[-1].observation


async def test_ticks_publish_their_state_and_read_that_of_others() -> None:
    clock, created = ManualClock(), GroupBoard()
    eu, us = Member(EU, US, created, clock), Member(US, EU, created, clock)
    us.source.values["visible"] = 30.0
    us.route.weights = {HOME: 7500, AWAY: 2500}
    us.route.traffic = {HOME: BackendTraffic(90.0), AWAY: BackendTraffic(30.0)}
    assert (await eu.tick()).members == {US: SILENT}
    assert (await us.tick()).members.keys() == {EU}
    clock.advance(15.0)
    reading = (await eu.tick()).members[US]
    assert isinstance(reading, Fresh)
    status = reading.value
    assert (status.ready, status.need, status.max_supply, status.requests_per_replica_per_s) == (5.0, 4.0, 20.0, 2.0)
    assert status.sent == {EU: 2.0}, "a quarter of 8 requests per second"
    clock.advance(600.0)
    assert isinstance((await eu.tick()).members[US], Stale), "a member that does not tick is no evidence"
