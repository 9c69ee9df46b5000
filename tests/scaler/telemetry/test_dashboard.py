"""The dashboard's API and files, through a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from policies.model import Fresh, PoolPart, PoolStatus, Result, RuleId, Shortfall, SignalName, Step, WorkloadName
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import Facts
from tests.servers.dashboard import HOSTILE, INTERVAL_S, NOON, Known, rough_hour, serving, spec, tick


def reject_constant(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


class Client:
    """Client of the dashboard that accepts strict JSON only."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self.session, self.address = session, address

    async def json(self, path: str, status: int = 200) -> Any:
        async with self.session.get(f"{self.address}{path}") as reply:
            assert reply.status == status, await reply.text()
            assert reply.content_type == "application/json"
            assert reply.headers["Cache-Control"] == "no-store"
            return json.loads(await reply.text(), parse_constant=reject_constant)


@pytest.fixture
def known() -> Known:
    return Known()


@pytest.fixture
def dashboard(known: Known) -> Dashboard:
    return Dashboard("1.2.3", known)


@pytest.fixture
async def client(dashboard: Dashboard) -> AsyncIterator[Client]:
    async with serving(dashboard) as address, aiohttp.ClientSession() as session:
        yield Client(session, address)


async def test_list_before_the_first_tick_names_starting_workloads(client: Client, known: Known) -> None:
    known.configured.append(WorkloadName("chat"))
    listed = await client.json("api/workloads")
    assert listed["starting"] == ["chat"]
    assert (listed["workloads"], listed["at"], listed["count"]) == ([], None, 1)
    assert (await client.json("api/workloads/chat"))["now"] is None


async def test_list_item_has_size_states_verdict_and_sparkline(client: Client, dashboard: Dashboard) -> None:
    dashboard.observe(tick(turn=0))
    dashboard.observe(tick(turn=1, target=6, ready=3, result=Result.ACCEPTED))
    (line,) = (await client.json("api/workloads"))["workloads"]
    assert (line["demand"], line["desired"], line["ready"], line["states"]) == (2.5, 6, 3, ["scaling out"])
    assert line["verdict"].startswith("4 -> 6 replicas (queue-depth recommends 2.50")
    values = {"demand": [2.5, 2.5], "target": [4, 6], "ready": [4, 3]}
    assert line["spark"] == {"from": NOON, "until": NOON + INTERVAL_S, **values}


STATES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing the matter": ({}, ["ok"]),
    "a scale-in": ({"target": 3, "result": Result.ACCEPTED}, ["scaling in"]),
    "a size that a rule holds": ({"wanted": 3}, ["held"]),
    "an interruption notice": ({"pool": Fresh(PoolStatus(4, 4, interruption_pending=1), NOON)}, ["interrupted"]),
    "replicas still starting": ({"ready": 2}, ["scaling out"]),
    "a signal missing": ({"may_lower": False}, ["blind"]),
    "a size that is not known": ({"current": None, "target": None}, ["blind"]),
    "dry run, which would grow": (
        {"target": 5, "result": Result.DRY_RUN, "dry_run": True},
        ["scaling out", "dry run"],
    ),
    "a write refused": ({"target": 5, "result": Result.OUT_OF_CAPACITY}, ["refused", "scaling out"]),
    "a write that met another": ({"target": 5, "result": Result.CONFLICT}, ["yielding", "scaling out"]),
    "another writer": (
        {
            "pool": Fresh(PoolStatus(4, 4, other_writer="hpa/x"), NOON),
            "step": Step(RuleId.UNMANAGED_POOLS, 4, "gpus is not resized (on_other_writer: yield): hpa/x"),
        },
        ["yielding"],
    ),
}


@pytest.mark.parametrize(("fields", "expected"), STATES.values(), ids=STATES)
async def test_states_are_listed_worst_first(
    client: Client, dashboard: Dashboard, fields: dict[str, Any], expected: list[str]
) -> None:
    dashboard.observe(tick(**fields))
    assert (await client.json("api/workloads"))["workloads"][0]["states"] == expected


async def test_paused_and_stalled_states_come_from_outside_the_tick(
    client: Client, dashboard: Dashboard, known: Known
) -> None:
    known.about = Facts(spec(paused=True))
    known.stalling[WorkloadName("chat")] = "no tick completed for 90 s"
    dashboard.observe(tick())
    listed = await client.json("api/workloads")
    assert listed["workloads"][0]["states"] == ["paused"]
    assert listed["stalled"] == {"chat": "no tick completed for 90 s"}


async def test_list_since_a_revision_has_only_workloads_with_a_newer_tick(client: Client, dashboard: Dashboard) -> None:
    for name in ("a", "b", "c"):
        dashboard.observe(tick(name))
    before = await client.json("api/workloads")
    dashboard.observe(tick("b", 1))
    after = await client.json(f"api/workloads?since={before['revision']}")
    assert [w["workload"] for w in before["workloads"]] == ["a", "b", "c"]
    assert [w["workload"] for w in after["workloads"]] == ["b"]
    assert after["generation"] == before["generation"]


async def test_removed_workload_is_absent_and_changes_the_generation(client: Client, dashboard: Dashboard) -> None:
    dashboard.observe(tick("a"))
    dashboard.observe(tick("b"))
    before = await client.json("api/workloads")
    dashboard.forget(WorkloadName("a"))
    assert (await client.json("api/workloads"))["generation"] != before["generation"]
    assert "no workload is named a" in (await client.json("api/workloads/a", 404))["error"]


async def test_stale_absent_and_unknown_values_are_null(client: Client, dashboard: Dashboard) -> None:
    for t in rough_hour():
        dashboard.observe(t)
    dashboard.observe(tick(turn=240, demand=float("inf"), current=None, target=None))
    columns = (await client.json("api/workloads/chat"))["columns"]
    assert columns["signals"]["queue.visible"]["values"][99:131] == [10.5, *[None] * 30, 5.6667]
    assert columns["signals"]["engines.utilization"]["values"][100:130] == [None] * 30
    assert columns["blind"][99:131] == [0, *[1] * 30, 0]
    assert (columns["demand"][-1], columns["target"][-1], columns["ready"][-1]) == (None, None, None)


async def test_since_returns_only_later_ticks(client: Client, dashboard: Dashboard) -> None:
    for t in rough_hour():
        dashboard.observe(t)
    whole = await client.json("api/workloads/chat")
    at = whole["columns"]["at"]
    later = await client.json(f"api/workloads/chat?since={at[236]!r}")
    assert later["columns"]["at"] == at[237:]
    assert later["decisions"] == []
    assert later["generation"] == whole["generation"]
    assert (await client.json(f"api/workloads/chat?since={at[-1]!r}"))["columns"]["at"] == []


@pytest.mark.parametrize("since", ["yesterday", "nan", "inf", ""])
async def test_since_that_is_not_a_finite_number_is_rejected(client: Client, dashboard: Dashboard, since: str) -> None:
    dashboard.observe(tick())
    for path in ("api/workloads", "api/workloads/chat"):
        async with client.session.get(f"{client.address}{path}?since={since}") as reply:
            assert reply.status == 400


async def test_clock_jump_shifts_stored_ticks_and_changes_the_generation(client: Client, dashboard: Dashboard) -> None:
    dashboard.observe(tick(turn=10))
    before = await client.json("api/workloads/chat")
    dashboard.observe(tick(turn=1, clock_step_s=-10 * INTERVAL_S))
    after = await client.json("api/workloads/chat")
    assert after["columns"]["at"] == [NOON, NOON + INTERVAL_S]
    assert after["generation"] != before["generation"]


async def test_decisions_list_changed_refused_and_blind_runs_with_explanation(
    client: Client, dashboard: Dashboard
) -> None:
    for t in rough_hour():
        dashboard.observe(t)
    shown = await client.json("api/workloads/chat")
    assert [(d["kind"], d["times"]) for d in shown["decisions"]] == [
        ("refused", 4),
        ("blind", 30),
        ("changed", 1),
        ("changed", 1),
        ("changed", 1),
    ]
    sections = {s["title"]: s["lines"] for s in shown["decisions"][0]["sections"]}
    assert list(sections) == ["Observed", "Policies", "Rules", "Writes"]
    assert shown["decisions"][0]["problem"] == f"gpus: unavailable: throttled {HOSTILE}"
    assert shown["decisions"][1]["problem"] == "queue-depth: 40 messages at 16 per replica"
    assert sections["Writes"] == [f"gpus 7 -> 8: unavailable: throttled {HOSTILE}"]
    assert shown["now"]["verdict"].startswith("keep 7")


async def test_last_tick_has_value_age_and_state_of_signals_and_pools(client: Client, dashboard: Dashboard) -> None:
    at_100 = list(rough_hour())[100]
    bound = Fresh(28.0, at_100.at - 2, "2 of 3 queues answered")
    readings = {**at_100.observation.readings, SignalName("queue.delayed"): bound}
    dashboard.observe(replace(at_100, observation=replace(at_100.observation, readings=readings)))
    now = (await client.json("api/workloads/chat"))["now"]
    fields = {s["signal"]: (s["state"], s["value"], s["age_s"], s["unit"]) for s in now["signals"]}
    assert fields["queue.visible"] == ("stale", 12.0, 80.0, "messages")
    assert fields["queue.in_flight"] == ("fresh", 28.0, 2.0, "messages")
    assert fields["engines.utilization"] == ("absent", None, None, "share")
    assert fields["queue.delayed"][:2] == ("partial", 28.0)
    (pool,) = now["pools"]
    assert (pool["pool"], pool["desired"], pool["ready"], pool["pending"]) == ("gpus", 7, 7, 0)


async def test_pool_reports_interruptions_failures_and_shortfall(client: Client, dashboard: Dashboard) -> None:
    short = Shortfall(NOON, "no p5 in a", quota=True)
    status = PoolStatus(
        6, 3, interruption_pending=1, failed=2, shortfall=short, parts=(PoolPart("a", "spot", 3, 1, 1),)
    )
    dashboard.observe(tick(pool=Fresh(status, NOON)))
    now = (await client.json("api/workloads/chat"))["now"]
    (pool,) = now["pools"]
    assert (pool["interruption_pending"], pool["failed"], pool["pending"]) == (1, 2, 1)
    assert pool["remarks"][0].startswith("quota error since ")
    lines = next(s["lines"] for s in now["sections"] if s["title"] == "Observed")
    assert "gpus: 6 desired, 3 ready, 1 pending, 1 interruption pending, 2 failed" in lines
    assert pool["remarks"][0] in lines


async def test_hostile_text_is_served_as_json_only(client: Client, dashboard: Dashboard) -> None:
    dashboard.observe(tick(step=Step(RuleId.DEMAND, 4, HOSTILE)))
    async with client.session.get(f"{client.address}api/workloads") as reply:
        assert reply.content_type == "application/json"
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert HOSTILE in json.loads(await reply.text())["workloads"][0]["verdict"]
    assert HOSTILE in (await client.json("api/workloads/chat"))["now"]["verdict"]
