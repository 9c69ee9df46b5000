"""The composition root: opens adapters, and starts, reloads and stops controllers.

A reload changes the controllers' configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Final

from policies.forecast.history_seed import HistorySeed
from policies.history.ticks import MAX_ROWS, History
from policies.model import PolicyName, Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.adapters import open_adapters
from scaler.clock import FastClock, SystemClock
from scaler.config.daemon import DaemonSpec
from scaler.config.load import Config, Workload
from scaler.controller import Controller
from scaler.first_tick import first_tick_s
from scaler.journal import history_backfill
from scaler.journal.initial_history import InitialHistory, recent_ticks
from scaler.journal.writer import JournalWriter
from scaler.leases.coordinator import Coordinator
from scaler.leases.opening import check_options, open_store
from scaler.partners.publications import Publications
from scaler.ports import Clock, PortError
from scaler.quota_ledger import QuotaLedger
from scaler.recorded_past import RecordedPast, Tails
from scaler.recorder import Recorder
from scaler.setup import Setup
from scaler.shadow.counterfactual import ShadowTick, ShadowTotals
from scaler.shadow.manager import Shadows
from scaler.shared_resources import AdapterContext, Resources
from scaler.slo_record import SloHistory
from scaler.snapshots.opening import open_snapshots
from scaler.telemetry.api_calls import CallsCollector
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import LiveWorkloads
from scaler.telemetry.fleet import FleetCollector
from scaler.telemetry.health import Health, task_of
from scaler.telemetry.log import log, log_slo_change, log_tick, stamped_by
from scaler.telemetry.metrics import Metrics
from scaler.telemetry.notices.service import NoticesCollector, open_notices
from scaler.telemetry.otlp.service import open_otlp
from scaler.telemetry.shadow import ShadowCollector
from scaler.telemetry.shards import ShardCollector
from scaler.telemetry.supervision import SupervisionCollector

STOP_S: Final = 15.0
"""Maximum time that running ticks get to end when the daemon stops; Kubernetes grants 30 s by default. Seconds."""
CALL_S: Final = 10.0
"""Time limit of a call that belongs to no workload. Seconds."""
NEEDS_RESTART: Final = "changes under daemon, except for daemon.fleet, take effect after a restart"


@dataclass(slots=True)
class RunOptions:
    """Options of a run that the command line sets."""

    paths: list[Path]
    dry_run: bool = False
    once: bool = False
    for_s: float | None = None
    listen: str | None = None
    shadows: list[Path] = field(default_factory=list)
    on_load: Callable[[DaemonSpec], None] = field(default=lambda _: None)
    on_tick: Callable[[Tick, WorkloadSpec], None] = field(default=lambda _tick, _spec: None)
    on_shadow: Callable[[ShadowTick, ShadowTotals], None] = field(default=lambda _tick, _totals: None)
    running: Callable[[App, str], AbstractContextManager[None]] = field(
        default=lambda _app, _address: contextlib.nullcontext()
    )
    """The context in which workloads run, entered with the URL of the HTTP server before their first tick."""


class App:
    """One daemon: the controllers of its workloads, and the resources that they share."""

    def __init__(self, config: Config, options: RunOptions, resources: Resources) -> None:
        self.config = config
        self.clock = make_clock(config.daemon)
        self.controllers: dict[WorkloadName, Controller] = {}
        self.metrics = Metrics(version("forescale"))
        self.tasks, self.faults = resources.tasks, resources.faults
        self.health = Health(self.controllers, self.clock, self.tasks)
        self.notices = open_notices(config.daemon.notices, self.health)
        self.publications = Publications(self.controllers, self.metrics.last, self.health)
        self.ledger = QuotaLedger(config.daemon.fleet)
        self.workloads = LiveWorkloads(self.controllers, self.health, self.ledger)
        self.dashboard = Dashboard(version("forescale"), self.workloads, config.daemon.clock.speed)
        self.metrics.registry.register(FleetCollector(self.ledger))
        self.metrics.registry.register(CallsCollector(resources.calls))
        self.metrics.registry.register(SupervisionCollector(self.tasks, self.faults))
        self.metrics.registry.register(NoticesCollector(self.notices))
        self.otlp = open_otlp(config.daemon.opentelemetry, self.metrics.registry, self.clock, version("forescale"))
        self.faults.times = None if self.otlp is None else self.otlp.times
        self._options = options
        self._resources = resources
        self._tasks: dict[WorkloadName, asyncio.Task[None]] = {}
        self._configured: dict[WorkloadName, Workload] = {}
        spec = config.daemon.journal
        journal = JournalWriter(spec, self.clock.now(), version("forescale")) if spec.directory else None
        self._recorder = Recorder(journal, self.metrics, self.health)
        self.past = RecordedPast(config.daemon, self._recorder)
        self.shadows = Shadows(options.shadows, self.clock, config.daemon, self.open, self._record_shadow, self.tasks)
        self.metrics.registry.register(ShadowCollector(self.shadows.all))
        self.dashboard.shadows = self.shadows.all
        self.observers: list[Callable[[Tick, WorkloadSpec], None]] = [self.notices.observe]
        """Functions that each recorded tick is passed to. They never wait and never raise."""
        self.stopping = asyncio.Event()
        self.coordinator: Coordinator | None = None
        """The holder of shards; None without high availability. It decides which workloads run here."""
        self._tails: Tails = {}
        self._tails_until = 0.0
        self._changing = asyncio.Lock()

    def record(self, tick: Tick) -> None:
        """Write a tick to the journal, log, metrics, traces, dashboard and notices."""
        self.tasks.recovered(task_of(tick.workload))
        controller = self.controllers[tick.workload]
        workload = controller.workload
        self._recorder.write(lambda journal: journal.write(tick, workload, controller.slo_record))
        log_tick(tick)
        log_slo_change(self.metrics.last.get(tick.workload), tick)
        self.metrics.observe(tick)
        if self.otlp is not None:
            self.otlp.observe(tick)
        self.dashboard.observe(tick)
        self._options.on_tick(tick, workload.spec)
        self.shadows.observe(tick)
        for observe in self.observers:
            observe(tick, workload.spec)

    def _record_shadow(self, tick: ShadowTick, totals: ShadowTotals, workload: Workload) -> None:
        self._recorder.write(lambda journal: journal.write_shadow(tick, workload))
        self._options.on_shadow(tick, totals)

    def context(self) -> AdapterContext:
        """Return a context for calls that belong to no workload."""
        return AdapterContext(self._resources, self.clock, CALL_S)

    async def open(self, workload: Workload) -> Setup:
        """Open a workload's adapters. Raises `Misconfigured`."""
        fence = None if self.coordinator is None else self.coordinator.fence(workload.name)
        return await open_adapters(workload, self._resources, self.clock, self.ledger, fence)

    async def prepare(self) -> None:
        """Open every workload's adapters, and create its controller with its recent history.

        With high availability, that is left to `assign`. A dry run takes no shards: it observes all workloads.
        """
        if not self._options.dry_run:
            await self._open_snapshots()
        spec = self.config.daemon.ha
        if spec is not None and not self._options.dry_run:
            check_options(once=self._options.once, has_shadows=bool(self._options.shadows))
            store = await open_store(spec, self._resources, self.clock)
            self.coordinator = Coordinator(spec, store, self, self.health)
            self.metrics.registry.register(ShardCollector(self.coordinator))
            self.health.held_shards = self.coordinator.held
            self.ledger.shares, self._resources.calls.part = self.coordinator.shares, self.coordinator.shares.part
            self._tails = self.past.tails(self.config.workloads.values(), self.clock.now())
            self._tails_until = self.clock.now() + 2 * spec.lease.duration_s
            return
        setups = [await self.open(w) for w in self.config.workloads.values()]
        tails = self.past.tails([s.workload for s in setups], self.clock.now())
        await self._create_controllers(setups, tails)
        await self.shadows.load(self.controllers, tails)

    async def _open_snapshots(self) -> None:
        """Open the snapshots, if there are any, and begin to write them."""
        snapshots = await open_snapshots(self.config.daemon, self.context(), self.health)
        if snapshots is None:
            return
        self.past.snapshots = snapshots
        snapshots.holds = lambda name: self.coordinator is None or self.coordinator.holds(name)
        snapshots.slo_history = self._slo_history
        self.observers.append(lambda tick, _spec: snapshots.observe(tick))
        snapshots.start(self.tasks)

    def _slo_history(self, name: WorkloadName) -> SloHistory | None:
        record = self.controllers[name].slo_record if name in self.controllers else None
        return None if record is None else record.history(name)

    async def _create_controllers(self, setups: list[Setup], tails: Tails) -> list[Controller]:
        """Create controllers with their history.

        The history consists of the last recorded ticks and the seeds of seasonal forecasts.
        """
        tails, slo_histories = await self.past.with_snapshots([s.workload.name for s in setups], tails)
        now, spans = self.clock.now(), {s.workload.name: self.past.span_s(s.workload) for s in setups}
        recent = {n: recent_ticks(tails[n], now - span_s, MAX_ROWS) for n, span_s in spans.items()}
        seeds = await history_backfill.seeds(setups, recent, self.config.daemon, now)
        controllers = [self._add(s, recent[s.workload.name], seeds.get(s.workload.name, {})) for s in setups]
        for tick in itertools.chain.from_iterable(tails[c.workload.name] for c in controllers):
            self.ledger.record(tick)
        records = {c.workload.name: c.slo_record for c in controllers if c.slo_record is not None}
        await self.past.restore_slo_records(records, slo_histories, now)
        return controllers

    def _add(self, setup: Setup, ticks: list[Tick], seeds: Mapping[PolicyName, HistorySeed]) -> Controller:
        workload, now = setup.workload, self.clock.now()
        start = InitialHistory(
            workload.name, now, len(ticks), self.past.span_s(workload), workload.spec.interval_s, seeds
        )
        controller = Controller(setup, self.clock, start.history(ticks), self.record, dry_run=self._options.dry_run)
        self.controllers[workload.name] = controller
        self._configured[workload.name] = workload
        past = [tick for tick in ticks if tick.at <= now]
        for tick in past:
            self.dashboard.observe(tick)
        self.notices.restore(past, workload.spec)
        if self.past.snapshots is not None:
            self.past.snapshots.begin(workload.name, past, start.span_s)
        self._recorder.write(lambda journal: journal.write_initial_history(start))
        return controller

    def start_sending(self) -> None:
        """Start to send notices and metrics to other systems."""
        self.notices.start(self.tasks)
        if self.otlp is not None:
            self.otlp.start(self.tasks)

    def start(self, controller: Controller) -> None:
        """Run a controller in a task."""
        name, interval_s = controller.workload.name, controller.workload.spec.interval_s
        first_s = first_tick_s(name, interval_s, len(self.config.workloads), self.clock.now())
        self._tasks[name] = self.tasks.start(task_of(name), functools.partial(controller.run, first_s))

    async def reload(self, config: Config) -> str:
        """Apply a changed configuration: swap, add and remove workloads between ticks.

        Raises `Misconfigured`.

        Returns a message on the settings that need a restart, or "". After an exception, a reload may be repeated.
        """
        async with self._changing:
            return await self._reload(config)

    async def _reload(self, config: Config) -> str:
        own = self._own(config)
        changed = [w for n, w in own.items() if self._configured.get(n) != w]
        setups = [await self.open(w) for w in changed]
        removed = self._configured.keys() - own.keys()
        daemon = dataclasses.replace(self.config.daemon, fleet=config.daemon.fleet)
        pending = "" if config.daemon == daemon else NEEDS_RESTART
        if pending:
            log.warning("reload", remedy=pending)
        self.config = Config(daemon, config.workloads)
        self.ledger.set_limits(daemon.fleet)
        await asyncio.gather(*(self._remove(name) for name in removed))
        await self._adopt([s for s in setups if s.workload.name in self.controllers])
        added = [s for s in setups if s.workload.name not in self.controllers]
        tails = await asyncio.to_thread(self.past.tails, [s.workload for s in added], self.clock.now()) if added else {}
        for controller in await self._create_controllers(added, tails):
            if not self._options.once:
                self.start(controller)
        log.info("reload", changed=[w.name for w in changed], removed=sorted(removed))
        if self.coordinator is not None:
            self.coordinator.reconfigured()
        return pending

    def _own(self, config: Config) -> Mapping[WorkloadName, Workload]:
        """Return the workloads that this daemon runs."""
        if self.coordinator is None:
            return config.workloads
        return {name: w for name, w in config.workloads.items() if self.coordinator.runs(w)}

    def running(self) -> Collection[WorkloadName]:
        return self.controllers.keys()

    async def assign(self) -> None:
        """Run the workloads that the coordinator assigns, and stop the others.

        A workload that cannot be opened is reported and tried again later. The recorded ticks of an earlier run are for
        the shards that are taken at the start.
        """
        async with self._changing:
            if self.clock.now() > self._tails_until:
                self._tails = {}
            own = self._own(self.config)
            await asyncio.gather(*(self._remove(name) for name in self._configured.keys() - own.keys()))
            setups: list[Setup] = []
            for name in self.config.workloads.keys() - self._configured.keys():
                problem = ""
                if name in own:
                    try:
                        setups.append(await self.open(own[name]))
                    except PortError as e:
                        problem = str(e)
                self.health.report(task_of(name), problem)
            for controller in await self._create_controllers(setups, self._tails):
                self.start(controller)

    async def _adopt(self, setups: list[Setup]) -> None:
        """Swap the setups of running workloads, and seed the forecasts of their added policies."""
        running = {s.workload.name: self.controllers[s.workload.name] for s in setups}
        added = {s.workload.name: history_backfill.added_policies(s, running[s.workload.name].history) for s in setups}
        for setup in setups:
            if not added[setup.workload.name]:
                running[setup.workload.name].adopt(setup)
                self._configured[setup.workload.name] = setup.workload
        pending = [s for s in setups if added[s.workload.name]]
        seeds = await history_backfill.seeds(pending, {}, self.config.daemon, self.clock.now(), added)
        for setup in pending:
            running[setup.workload.name].adopt(setup, self._seeder(setup.workload, seeds.get(setup.workload.name, {})))
            self._configured[setup.workload.name] = setup.workload

    def _seeder(self, workload: Workload, seeds: Mapping[PolicyName, HistorySeed]) -> Callable[[History], None] | None:
        """Return a function that applies the seeds to a history and records them in the journal."""

        def seed(history: History) -> None:
            start = InitialHistory(
                workload.name, self.clock.now(), 0, history.span_s, history.step_s, seeds, keeps_ticks=True
            )
            start.apply(history)
            self._recorder.write(lambda journal: journal.write_initial_history(start))

        return seed if seeds else None

    async def _remove(self, name: WorkloadName) -> None:
        """Stop controlling a workload. Its pools keep their sizes."""
        if name in self._tasks:
            await self._halt({name: (self.controllers[name], self._tasks.pop(name))})
        if self.past.snapshots is not None:
            await self.past.snapshots.end([name])
        del self.controllers[name], self._configured[name]  # after the halt: a running tick needs them to be recorded
        self.tasks.forget(task_of(name))
        self.faults.forget(name)
        self.ledger.forget(name)
        self._resources.groups.forget(name)
        self.metrics.forget(name)
        self.notices.forget(name)
        self.dashboard.forget(name)

    async def close(self) -> None:
        """Wait for running ticks, then stop notices, OTLP and shadows, and close the journal."""
        await self.halt()
        if self.past.snapshots is not None:
            await self.past.snapshots.close()
        await self.notices.close()
        if self.otlp is not None:
            await self.otlp.close()
        await self.shadows.close()
        self._recorder.close()

    async def halt(self) -> None:
        """End all loops; a running tick is waited for."""
        await self._halt({n: (c, self._tasks[n]) for n, c in self.controllers.items() if n in self._tasks})
        if self.past.snapshots is not None:
            await self.past.snapshots.end(list(self.controllers))

    async def _halt(self, running: Mapping[WorkloadName, tuple[Controller, asyncio.Task[None]]]) -> None:
        for controller, task in running.values():
            controller.stop()
            if controller.idle:
                task.cancel()
        tasks = [task for _, task in running.values()]
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=STOP_S)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)


def make_clock(daemon: DaemonSpec) -> Clock:
    """Return the system clock, or a faster one for embedded worlds."""
    start = daemon.clock.start_s()
    if daemon.clock.speed == 1.0 and start is None:
        return SystemClock()
    return FastClock(daemon.clock.speed, SystemClock().now() if start is None else start)


@contextlib.asynccontextmanager
async def prepared(config: Config, options: RunOptions) -> AsyncIterator[App]:
    """Open an app with every workload, and close it at the end. Raises `Misconfigured`."""
    async with Resources() as resources:
        app = App(config, options, resources)
        with stamped_by(app.clock.now):
            try:
                await app.prepare()
                yield app
            finally:
                await app.close()
