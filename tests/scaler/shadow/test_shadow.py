"""Shadows decide on the live policy's observations, never act, never disturb it, and are compared with it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from policies.history.ticks import History
from policies.model import Fresh, PoolName, Result, SignalName, Stale, Tick, WorkloadName
from policies.model.group import MemberStatus
from policies.model.names import BackendName, RouteName
from policies.model.route import BackendTraffic
from scaler.app import App, RunOptions
from scaler.config.daemon import DaemonSpec, JournalSpec
from scaler.config.load import Config, Workload, workload_from
from scaler.config.problems import ConfigError
from scaler.group_board import GroupBoard
from scaler.journal.reader import Journal as JournalReader
from scaler.journal.replay import replay
from scaler.journal.shadows import decode_shadow, encode_shadow
from scaler.ports import Unavailable
from scaler.setup import Setup
from scaler.shadow.counterfactual import ComparedSide, HypotheticalQueue, HypotheticalSizes, ShadowTick, ShadowTotals
from scaler.shadow.late_requests import ServingLoad
from scaler.shadow.manager import share_sources
from scaler.shadow.runner import Shadow
from scaler.shared_resources import Resources
from scaler.telemetry.dashboard.shadow_view import shadow_rows
from tests.factories import NOW, live, seen, spec, tick_of
from tests.fakes import FakeActuator, FakeRoute, FakeSource, ManualClock
from tests.patience import PATIENCE_S
from tests.servers.daemon import daemon, until
from tests.test_architecture import ROOT

NAME = WorkloadName("llm")
MAIN = PoolName("main")
VISIBLE = SignalName("queue.visible")
CHAT, GPUS, OPENAI = RouteName("chat"), BackendName("gpus"), BackendName("openai")


def document(per_replica: float = 10, **settings: Any) -> dict[str, Any]:
    return {
        "workload": NAME,
        "max_replicas": 50,
        "deadline_s": 0.05,
        "sources": {"queue": {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/1/q"}},
        "policies": {"depth": {"kind": "queue_depth", "target_per_replica": per_replica}},
        "pools": {"main": {"kind": "kubernetes", "name": "vllm", "price_usd_per_hour": 2.0, "lead_time_s": 30}},
        "scale_up": {"max_replicas": 1000},
        "scale_down": {"window_s": 0, "max_replicas": 1000},
        **settings,
    }


TICK = tick_of(seen({}), live(spec(), [{}])[0])
VLLM = {"kind": "prometheus", "url": "http://127.0.0.1:9", "preset": "vllm"}
PREEMPTIONS = {"it": {"kind": "metric", "quantity": "preemptions_per_s", "target": 1}}
ENGINES = {"kind": "prometheus", "url": "http://127.0.0.1:9", "preset": "vllm", "read": ["running", "waiting"]}
BOTH: dict[str, Any] = {
    "sources": {**document()["sources"], "engines": ENGINES},
    "policies": {"engines": {"kind": "concurrency", "target_per_replica": 4}},
}
"""A shadow with a source that the live workload lacks."""


def routed(max_usd_per_hour: float, **route: Any) -> dict[str, Any]:
    """Return a route that may send requests to a provider for so much money."""
    prices = {"usd_per_million_input_tokens": 0.2, "usd_per_million_output_tokens": 0.6}
    chat = {
        "kind": "envoy",
        "file": "/etc/envoy/routes/chat.json",
        "admin_url": "http://127.0.0.1:9901",
        "backends": {"gpus": {"pool": "main"}, "openai": {"provider": prices}},
        "allow_external": True,
        "overflow": {"max_usd_per_hour": max_usd_per_hour},
        "requests_per_replica_per_s": 2,
        "input_tokens_per_request": 1000,
        "output_tokens_per_request": 500,
    }
    return {"routes": {"chat": {**chat, **route}}}


class Scripted(App):
    """The daemon on fake adapters. `opened` are the workloads whose adapters it opened."""

    def __init__(self, config: Config, options: RunOptions, resources: Resources, clock: ManualClock) -> None:
        super().__init__(config, options, resources)
        self.opened: list[Workload] = []
        self.clock = clock
        self.shadows._clock = clock
        self.source = FakeSource(clock, {"visible": 30.0, "in_flight": 0.0, "delayed": 0.0})
        self.engines = FakeSource(clock, {"running": 40.0, "waiting": 0.0})
        self.actuator = FakeActuator(clock)
        self.route = FakeRoute(clock)
        self.groups = GroupBoard()

    async def open(self, workload: Workload) -> Setup:
        self.opened.append(workload)
        known_sources = {"queue": self.source, "engines": self.engines}
        sources = {name: known_sources[name] for name in workload.spec.sources}
        pools = {MAIN: self.actuator} if workload.spec.pools else {}
        routes = dict.fromkeys(workload.spec.routes, self.route)
        return Setup(workload, sources, pools, ledger=self.ledger, groups=self.groups, routes=routes)

    @property
    def shadow(self) -> Shadow:
        return self.shadows.all[NAME]

    async def tick(self, after_s: float = 15.0) -> Tick:
        """Run a tick of the live workload, and then of its shadow."""
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(after_s)
        tick = await self.controllers[NAME].tick(self.clock.now())
        if NAME in self.shadows.all:
            await self.shadow.drain()
        return tick


@asynccontextmanager
async def shadowed(
    folder: Path, shadow: Mapping[str, Any], first: Mapping[str, Any] | None = None, *, dry_run: bool = False
) -> AsyncIterator[Scripted]:
    (folder / "new.yaml").write_text(yaml.safe_dump(dict(shadow)))
    workload = workload_from(first or document())
    settings = DaemonSpec(journal=JournalSpec(directory=str(folder / "journal")))
    options = RunOptions([], dry_run=dry_run, shadows=[folder / "new.yaml"])
    async with Resources() as resources:
        app = Scripted(Config(settings, {NAME: workload}), options, resources, ManualClock())
        try:
            await app.prepare()
            yield app
        finally:
            await app.close()


def recorded(folder: Path) -> list[ShadowTick]:
    return list(JournalReader(folder / "journal").shadows())


# --- observations and actions


async def test_shadow_decides_on_live_observation_and_writes_nothing(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        tick = await app.tick()
        shadow_tick = app.shadow.last
        assert shadow_tick is not None
        assert (tick.decision.target, shadow_tick.tick.decision.target) == (3, 6)
        assert shadow_tick.tick.observation == tick.observation
        assert app.actuator.writes == [3]
        assert app.source.calls == 1, "a source of both is read once"
        assert [o.result for o in shadow_tick.tick.outcomes] == [Result.DRY_RUN]


async def test_shadow_decides_the_weights_of_a_route_and_writes_none(tmp_path: Path) -> None:
    """One replica carries 2 of 10 requests per second. The shadow has a budget for the rest, which costs 14.40 USD."""
    async with shadowed(tmp_path, document(**routed(100), **BOTH), document(**routed(0))) as app:
        assert not any(workload.spec.routes for workload in app.opened[1:]), "no adapter of a route is opened for it"
        app.actuator.ready, app.route.traffic = 1, {GPUS: BackendTraffic(150.0)}
        await app.tick()
        tick, shadow_tick = await app.tick(), app.shadow.last
        totals = app.shadow.totals.as_dict()
        view = shadow_rows(app.shadow)
        assert app.route.writes == [{GPUS: 10_000, OPENAI: 0}]
        assert "another split in 2 ticks, 80.0% of requests to other backends" in app.shadow.totals.text()
    assert shadow_tick is not None
    assert tick.decision.routes[CHAT].is_kept
    assert shadow_tick.tick.decision.routes[CHAT].weights == {GPUS: 2000, OPENAI: 8000}
    assert [o.result for o in shadow_tick.tick.route_outcomes] == [Result.DRY_RUN]
    assert shadow_tick.first.splits == {CHAT: {GPUS: 10_000, OPENAI: 0}}
    assert (totals["differing_splits"], totals["mean_moved_share"]) == (2, pytest.approx(0.8))
    assert shadow_tick.shadow.api_usd_per_hour == pytest.approx(14.4)
    assert view["first"]["splits"] == {"chat": "100 % gpus"}
    assert view["shadow"]["splits"] == {"chat": "80 % openai, 20 % gpus"}
    assert view["shadow"]["usd_per_hour"] == pytest.approx(shadow_tick.shadow.requested * 2.0 + 14.4)
    assert recorded(tmp_path)[-1] == shadow_tick


GROUP: dict[str, Any] = {"group": "chat", "backends": {"gpus": {"pool": "main"}, "us": {"workload": "chat-us"}}}
US, AWAY = WorkloadName("chat-us"), BackendName("us")


def in_group(requests_per_replica_per_s: float) -> dict[str, Any]:
    """Return a member of a group whose route may send requests to another one."""
    routes = routed(0, backends=GROUP["backends"], requests_per_replica_per_s=requests_per_replica_per_s)
    return document(**routes, group=GROUP["group"])


async def test_shadow_decides_on_the_live_members_of_its_group(tmp_path: Path) -> None:
    """One replica carries 2 of 10 requests per second. That of the shadow carries 5."""
    async with shadowed(tmp_path, in_group(5), in_group(2)) as app:
        groups = app.groups
        groups.register(US, dataclasses.replace(app.controllers[NAME].workload.spec, workload=US))
        status = MemberStatus(10.0, 1.0, 20.0, 2.0)
        app.actuator.ready, app.route.traffic = 1, {GPUS: BackendTraffic(150.0)}
        groups.publish(US, status, app.clock.now())
        tick = await app.tick()
        live_view, shadow_tick = groups.with_members(US, seen({})).members[NAME], app.shadow.last
    assert shadow_tick is not None
    assert isinstance(tick.observation.members[US], Fresh)
    assert shadow_tick.tick.observation.members == tick.observation.members
    assert tick.decision.routes[CHAT].weights == {GPUS: 2000, AWAY: 8000}
    assert shadow_tick.tick.decision.routes[CHAT].weights == {GPUS: 5000, AWAY: 5000}
    assert isinstance(live_view, Fresh | Stale)
    assert live_view.value.requests_per_replica_per_s == 2.0, "the shadow publishes nothing"
    assert recorded(tmp_path)[-1] == shadow_tick


async def test_refused_split_of_the_live_policy_is_compared_as_the_gateway_has_it(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(**routed(100)), document(**routed(100))) as app:
        app.actuator.ready, app.route.traffic = 1, {GPUS: BackendTraffic(150.0)}
        app.route.weights, app.route.apply_error = {GPUS: 10_000}, Unavailable("no answer")
        await app.tick()
        assert app.shadow.last is not None
        assert app.shadow.last.first.splits == {CHAT: {GPUS: 10_000}}
        assert app.shadow.totals.differing_splits == 1
        app.route.apply_error = None
        await app.tick()
        assert app.shadow.last.first.splits == app.shadow.last.shadow.splits


async def test_shadow_opens_and_reads_only_sources_that_live_lacks(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(**BOTH)) as app:
        await app.tick()
        shadow_tick = app.shadow.last
        assert shadow_tick is not None
        assert shadow_tick.tick.decision.target == 10
        assert [set(w.spec.sources) for w in app.opened] == [{"queue"}, {"engines"}]
        assert not app.opened[1].spec.pools
        assert (app.source.calls, app.engines.calls) == (1, 1)


@pytest.mark.parametrize(
    ("read", "ttft_s", "opened"),
    [
        pytest.param(["running", "ttft_late_share"], 2.0, True, id="another-promise-is-broken-by-others"),
        pytest.param(["running", "ttft_late_share"], 1.0, False, id="the-same-promise"),
        pytest.param(["running", "ttft_mean_s"], 2.0, False, id="no-promise-in-what-is-read"),
    ],
)
async def test_shadow_opens_own_source_when_its_slo_changes_a_read_quantity(
    tmp_path: Path, read: list[str], ttft_s: float, opened: bool
) -> None:
    engines = {"sources": {"engines": {**ENGINES, "read": [*read, "waiting"]}}, "policies": BOTH["policies"]}
    first = document(**engines, slo={"ttft_s": 1.0})
    async with shadowed(tmp_path, document(**engines, slo={"ttft_s": ttft_s}), first) as app:
        promises = [w.spec.slo.ttft_s for w in app.opened if w.spec.slo]
        assert promises == ([1.0, ttft_s] if opened else [1.0])


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        pytest.param({}, {"engines": "engines"}, id="the same"),
        pytest.param({"policies": {"it": {"kind": "concurrency"}}}, {"engines": "engines"}, id="fewer readings"),
        pytest.param({"policies": PREEMPTIONS}, {}, id="another reading"),
        pytest.param({"sources": {"engines": {**VLLM, "window_s": 60}}}, {}, id="another window"),
    ],
)
def test_shadow_shares_a_source_that_has_all_its_readings(changes: dict[str, Any], shared: dict[str, str]) -> None:
    first: dict[str, Any] = {
        "workload": "chat",
        "max_replicas": 4,
        "slo": {"itl_s": 0.05},
        "sources": {"engines": VLLM},
    }
    first |= {"policies": {"it": {"kind": "predictive"}}, "pools": {"gpus": {"kind": "embedded"}}}
    assert share_sources(workload_from({**first, **changes}), workload_from(first)) == shared


async def test_failed_live_reads_are_stale_for_the_shadow(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.tick()
        app.source.error = Unavailable("503")
        app.actuator.status_error = Unavailable("API down")
        tick = await app.tick()
        shadow_tick = app.shadow.last
        assert shadow_tick is not None
        observation = shadow_tick.tick.observation
        assert isinstance(observation.readings[VISIBLE], Stale)
        assert observation.readings == tick.observation.readings
        assert observation.pools == tick.observation.pools
        assert (observation.source_errors, observation.pool_errors) == ({"queue": "503"}, {MAIN: "API down"})
        assert shadow_tick.tick.decision.may_scale_in is False


async def test_clock_jump_reaches_the_shadow_once(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.tick()
        assert isinstance(app.clock, ManualClock)
        app.clock.jump_s = 7200.0
        await app.tick()
        shadow_tick = app.shadow.last
        assert shadow_tick is not None
        assert (shadow_tick.tick.clock_step_s, shadow_tick.interval_s) == (7200.0, 15.0)
        await app.tick()
        assert app.shadow.totals.span_s == 30.0


# --- isolation from the live workload


async def test_failing_shadow_does_not_affect_live_and_recovers(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(**BOTH)) as app:
        app.engines.values = {"running": object()}  # type: ignore[dict-item]
        ticks = [await app.tick() for _ in range(3)]
        assert [t.decision.target for t in ticks] == [3, 3, 3]
        assert app.shadow.totals.failed == 3
        assert len(app.shadow._logged) == 1, "logged once"
        app.engines.values = {"running": 40.0, "waiting": 0.0}
        await app.tick()
        assert (app.shadow.totals.failed, app.shadow.totals.ticks) == (3, 1)


@pytest.mark.slow
async def test_hanging_shadow_source_does_not_delay_live_ticks(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(**BOTH, deadline_s=1.0)) as app:
        app.engines.hang = True
        assert isinstance(app.clock, ManualClock)
        for _ in range(200):
            app.clock.advance(15)
            tick = await app.controllers[NAME].tick(app.clock.now())
        assert tick.decision.target == 3
        assert any("slower than the live workload" in why for why in app.shadow._logged), "live ticks waited for it"
        await app.shadow.drain()
        shadow_tick = app.shadow.last
        assert shadow_tick is not None
        assert shadow_tick.tick.observation.source_errors == {"engines": "no response within 1 s (deadline_s)"}


@pytest.mark.parametrize(
    ("shadow", "path", "rule"),
    [
        pytest.param({"workload": "lmm"}, "workload", "is not a workload of this daemon", id="workload"),
        pytest.param(
            {"pools": {"other": {"kind": "kubernetes", "name": "vllm"}}}, "llm.pools", "must be the pools", id="pools"
        ),
        pytest.param(
            {"sources": {"queue": {"kind": "embedded"}}},
            "llm.sources.queue",
            "changes the simulated world",
            id="embedded world",
        ),
        pytest.param(routed(1), "llm.routes.chat", "must be a route of the live workload, which has none", id="route"),
    ],
)
async def test_invalid_shadow_raises_config_error_at_start(
    tmp_path: Path, shadow: dict[str, Any], path: str, rule: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        async with shadowed(tmp_path, {**document(), **shadow}):
            pass
    (problem,) = caught.value.problems
    assert problem.path == path
    assert rule in problem.rule


async def test_backends_of_a_shadow_are_those_of_the_live_route(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"llm\.routes\.chat\.backends.*must be the backends of the live route: gpus, openai"
    ):
        async with shadowed(
            tmp_path, document(**routed(1, backends={"gpus": {"pool": "main"}})), document(**routed(1))
        ):
            pass


# --- reload


async def test_reload_applies_changed_shadow_and_rejects_invalid_one(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.tick()
        before = app.shadow
        (tmp_path / "new.yaml").write_text(yaml.safe_dump(document(per_replica=3)))
        await app.shadows.reload(app.controllers)
        await app.tick()
        assert app.shadow is before, "its history is retained"
        assert app.shadow.last is not None
        assert app.shadow.last.tick.decision.target == 10
        (tmp_path / "new.yaml").write_text("workload: llm\nmax_replicas: lots\n")
        await app.shadows.reload(app.controllers)
        await app.tick()
        assert app.shadow.totals.ticks == 3


async def test_shadow_follows_a_reload_of_its_workload(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.tick()
        changed = workload_from(document(per_replica=15))
        await app.reload(Config(app.config.daemon, {NAME: changed}))
        await app.shadows.reload(app.controllers)
        tick = await app.tick()
        assert (tick.decision.target, app.shadow.totals.ticks) == (2, 2)
        await app.shadows.reload({})
        assert not app.shadows.all


# --- journal


async def test_shadow_ticks_are_journaled_and_skipped_by_replay(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        for _ in range(4):
            await app.tick()
    journal = JournalReader(tmp_path / "journal")
    ticks = list(journal.records())
    assert sum(isinstance(t, Tick) for t in ticks) == 4
    assert all(c.equal for c in replay(ticks, journal.specs))
    assert not journal.damaged
    shadow_ticks = recorded(tmp_path)
    assert [t.tick.decision.target for t in shadow_ticks] == [6] * 4
    assert {t.tick.spec for t in shadow_ticks} < journal.specs.keys()
    for shadow_tick in shadow_ticks:
        assert decode_shadow(json.loads(json.dumps(encode_shadow(shadow_tick)))) == shadow_tick


async def test_shadow_record_with_the_earlier_field_names_is_read(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.tick()
    (shadow_tick,) = recorded(tmp_path)
    (file,) = (tmp_path / "journal").glob("*.jsonl")
    text = file.read_text()
    assert text.count('"requested":') == 2
    assert text.count('"estimated_by":') == 1
    file.write_text(text.replace('"requested":', '"asked":').replace('"estimated_by":', '"told_by":'))
    assert recorded(tmp_path) == [shadow_tick]


async def test_shadow_starts_with_recorded_history(tmp_path: Path) -> None:
    shadow = document(per_replica=5, scale_down={"window_s": 60, "max_replicas": 1000})
    async with shadowed(tmp_path, shadow) as app:
        for _ in range(6):
            await app.tick()
        at = app.clock.now()
    (tmp_path / "journal" / ".lock").unlink()
    workload = workload_from(document())
    settings = DaemonSpec(journal=JournalSpec(directory=str(tmp_path / "journal")))
    async with Resources() as resources:
        options = RunOptions([], shadows=[tmp_path / "new.yaml"])
        restarted = Scripted(Config(settings, {NAME: workload}), options, resources, ManualClock(at))
        try:
            await restarted.prepare()
            await restarted.tick()
            assert restarted.shadow.last is not None
            assert restarted.shadow.last.tick.history_len == 6
        finally:
            await restarted.close()


async def test_shadow_begins_with_the_live_error_budget(tmp_path: Path) -> None:
    read = {**ENGINES, "read": ["running", "waiting", "requests_per_s", "ttft_late_share"]}
    policies = {"engines": {"kind": "concurrency", "target_per_replica": 4}}
    first = document(slo={"ttft_s": 1.0, "itl_s": None}, sources={"engines": read}, policies=policies)
    async with shadowed(tmp_path, first, first) as app:
        app.engines.values |= {"requests_per_s": 40.0, "ttft_late_share": 0.02}
        for _ in range(3):
            tick = await app.tick()
        await app.shadows.close()
        app.shadows.all.clear()
        await app.shadows.load(app.controllers, {})
        tick = await app.tick()
        assert app.shadow.last is not None
        shadow_budget = app.shadow.last.tick.observation.error_budget
    assert shadow_budget == tick.observation.error_budget
    assert shadow_budget is not None
    assert shadow_budget.windows[3600.0].requests == 3 * 15 * 40


async def test_shadow_metrics_omit_unknown_values(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        await app.tick()
        await app.tick()
        exposition = app.metrics.exposition().decode()
    assert 'forescale_shadow_target_replicas{workload="llm"} 6.0' in exposition
    assert 'forescale_shadow_replica_hours_difference{workload="llm"} 0.0125' in exposition
    assert 'forescale_shadow_cost_usd_difference{workload="llm"} 0.025' in exposition
    assert 'forescale_shadow_late_requests_difference{workload="llm"}' not in exposition


# --- sizes held open-loop


async def test_open_loop_size_serves_after_pool_lead_time(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5)) as app:
        for _ in range(4):
            await app.tick()
    shadow_ticks = recorded(tmp_path)
    assert [(t.shadow.requested, t.shadow.serving) for t in shadow_ticks] == [(6, 1), (6, 1), (6, 6), (6, 6)]
    assert [t.first.requested for t in shadow_ticks] == [3, 3, 3, 3]
    assert shadow_ticks[0].shadow.usd_per_hour == 12.0
    assert not shadow_ticks[0].open_loop


async def test_dry_run_holds_both_sizes_open_loop(tmp_path: Path) -> None:
    async with shadowed(tmp_path, document(per_replica=5), dry_run=True) as app:
        for _ in range(3):
            await app.tick()
        assert app.actuator.writes == []
    shadow_ticks = recorded(tmp_path)
    assert [t.first.requested for t in shadow_ticks] == [3, 3, 3], "the observed size stays 1"
    assert all(t.open_loop for t in shadow_ticks)


def status_tick(at: float, target: int) -> Tick:
    return tick_of(seen({}, at=at), dataclasses.replace(TICK.decision, at=at, targets={MAIN: target}))


@pytest.mark.slow
@given(targets=st.lists(st.integers(0, 30), min_size=1, max_size=30))
def test_serving_replicas_never_exceed_and_converge_to_requested(targets: list[int]) -> None:
    configured, sizes = workload_from(document()).spec, HypotheticalSizes()
    for k, target in enumerate([*targets, targets[-1], targets[-1], targets[-1]]):
        sizes.apply_targets(status_tick(NOW + 15.0 * k, target), configured, History())
        assert sizes.requested == target
        assert 0 <= sizes.serving(configured) <= target
    assert sizes.serving(configured) == targets[-1]


# --- late requests


def load(arrivals_rps: float, replica_rps: float = 10.0, max_wait_s: float = 1.0, *, exact: bool = True) -> ServingLoad:
    return ServingLoad(arrivals_rps, replica_rps, max_wait_s, exact=exact)


@pytest.mark.parametrize(
    ("serving", "given_load", "late"),
    [
        pytest.param(2.0, load(15.0), 0.0, id="enough"),
        pytest.param(0.0, load(10.0), 150.0, id="nothing serves: all but the last second's"),
        pytest.param(2.0, load(15.0, exact=False), 0.0, id="a lower bound that is enough"),
        pytest.param(1.0, load(15.0, exact=False), None, id="a lower bound that is not"),
        pytest.param(0.0, load(10.0, max_wait_s=60.0), 0.0, id="patient ones are not late yet"),
    ],
)
def test_queue_counts_requests_that_wait_longer_than_the_slo(
    serving: float, given_load: ServingLoad, late: float | None
) -> None:
    assert HypotheticalQueue().advance(15.0, serving, given_load) == (
        late if late is None else pytest.approx(late, abs=15.0)
    )


def test_queue_counts_each_late_request_once() -> None:
    queue = HypotheticalQueue()
    first = queue.advance(15.0, 0.0, load(10.0))
    assert first is not None
    later = [queue.advance(15.0, 0.0, load(0.0)) or 0.0 for _ in range(10)]
    assert first + sum(later) == pytest.approx(150.0)
    assert queue.waiting == pytest.approx(150.0)


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 10)), min_size=1, max_size=30))
def test_late_requests_never_exceed_arrivals_or_grow_with_replicas(intervals: list[tuple[float, float]]) -> None:
    few, many, arrived, late = HypotheticalQueue(), HypotheticalQueue(), 0.0, [0.0, 0.0]
    for arrivals_rps, serving in intervals:
        arrived += arrivals_rps * 15.0
        for k, (queue, size) in enumerate(((few, serving), (many, serving + 1))):
            late[k] += queue.advance(15.0, size, load(arrivals_rps)) or 0.0
    assert late[1] <= late[0] + 1e-6
    assert late[0] <= arrived + 1e-6


def shadow_tick(interval_s: float, late: tuple[float | None, float | None], usd: float | None = 1.0) -> ShadowTick:
    return ShadowTick(
        TICK,
        ComparedSide(2, 2.0, usd, late[0]),
        ComparedSide(1, 1.0, None if usd is None else usd / 2, late[1]),
        interval_s,
        False,
        "x",
    )


def test_totals_exclude_unknown_values() -> None:
    totals, before = ShadowTotals(), shadow_tick(0.0, (None, None), None)
    totals.add(before, None)
    assert (totals.more_late, totals.more_usd) == (None, None)
    assert "late requests: unknown" in totals.text()
    now = shadow_tick(3600.0, (None, None), None)
    totals.add(now, before)
    assert totals.more_replica_hours == -1.0
    assert (totals.more_late, totals.more_usd) == (None, None)
    last = shadow_tick(3600.0, (1.0, 5.0))
    totals.add(last, shadow_tick(0.0, (None, None)))
    assert (totals.more_late, totals.more_usd) == (4.0, -0.5)
    assert "known for 50% of the time" in totals.text()


# --- end to end


@pytest.mark.slow
async def test_quickstart_with_shadow_of_higher_utilization(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    for file in (ROOT / "config/quickstart").glob("*.yaml"):
        (config / file.name).write_text(file.read_text())
    chat = yaml.safe_load((config / "chat.yaml").read_text())
    chat["policies"] = {"predictive": {"kind": "predictive", "utilization": 1.6}}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(chat))
    journal = tmp_path / "journal"
    args = (str(config), "--shadow", str(tmp_path / "new.yaml"), "--for", "12", "--listen", "127.0.0.1:0")
    async with daemon(*args, journal=journal, cwd=tmp_path) as d:
        await until(lambda: len(d.ticks()) > 10, d)
        exposition = (await d.get("metrics"))[1]
        await asyncio.wait_for(d.process.wait(), PATIENCE_S)
        assert d.process.stdout is not None
        summary = json.loads(await d.process.stdout.read())
    assert 'forescale_shadow_target_replicas{workload="chat"}' in exposition
    totals = summary["chat"]["shadow"]
    assert totals["ticks"] > 10
    assert totals["failed"] == 0
    assert totals["more_replica_hours"] < 0
    assert totals["more_usd"] < 0
    assert totals["more_late"] is not None
    assert "shadow" not in summary["summaries"]
    shadow_ticks = list(JournalReader(journal).shadows())
    ticks = {t.at: t for t in JournalReader(journal) if t.workload == "chat"}
    assert len(shadow_ticks) == totals["ticks"]
    observed = [(t.tick.observation.readings, ticks[t.tick.at].observation.readings) for t in shadow_ticks]
    fresh = [(ours, live) for ours, live in observed if not any(isinstance(r, Stale) for r in live.values())]
    assert fresh, "a busy machine makes some readings stale, for which each keeps the values that it has seen"
    assert all(ours == live for ours, live in fresh)
