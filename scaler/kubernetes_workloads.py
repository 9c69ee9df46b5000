"""Workloads that objects of a Kubernetes cluster define, and the status of these objects.

Each object is validated by itself: an invalid one changes no other workload, and its last valid version stays in force.
A file takes precedence over an object. Of two objects, the running one keeps its name and its pools; else the older one
gets them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.config import checks, groups, limits
from scaler.config.cluster_workloads import KubernetesWorkloads
from scaler.config.custom_resource import KIND
from scaler.config.daemon import DaemonSpec, EmbeddedClock
from scaler.config.definition import Definition, Origin, workload_of
from scaler.config.load import Config, Workload
from scaler.config.problems import ConfigError
from scaler.config.resize_claims import Claims
from scaler.ports import Clock, Context, Permit, PortError
from scaler.registry import import_object
from scaler.telemetry.log import log
from scaler.workload_status import VALID, Condition, status_of

FOLLOW: Final = "scaler.clouds.kubernetes.definitions:open_definitions"
PERMITS: Final = "scaler.clouds.kubernetes.daemon_permits:workload_permits"
WRITE: Final = "scaler.clouds.kubernetes.status_writer:open_status_writer"
"""Imported where the daemon's configuration asks for objects: all need the extra kubernetes."""
RETRY_S: Final = 60.0
"""Time after which a workload is tried again whose adapters could not be opened. Seconds."""
FIRST_LIST_S: Final = 20.0
"""Maximum time that `run --once` waits for the first list. Seconds."""


@dataclass(slots=True)
class WorkloadEntry:
    """One object, with its valid workload or the problem of it, and the running version."""

    definition: Definition
    valid: Workload | None = None
    refusal: Condition | None = None
    running: Workload | None = None
    retry_at: float = float("-inf")
    status: Mapping[str, Any] | None = None
    """The last status that was passed to the writer."""

    @property
    def changed(self) -> bool:
        """Whether the object has a valid version that does not run."""
        return self.valid is not None and self.valid != self.running


class ClusterWorkloads:
    """The objects of a cluster that define workloads."""

    def __init__(self, settings: KubernetesWorkloads, clock: Clock, followers: list[Any], writer: Any | None) -> None:
        self._settings = settings
        self._clock = clock
        self._followers = followers
        self._writer = writer
        self._entries: dict[Origin, WorkloadEntry] = {}
        self._names: dict[WorkloadName, Origin] = {}
        self._ticks: dict[WorkloadName, Tick] = {}

    async def listed(self) -> None:
        """Wait for the first lists, at most `FIRST_LIST_S` in all."""
        waits = [asyncio.create_task(follower.listed.wait()) for follower in self._followers]
        _, late = await asyncio.wait(waits, timeout=FIRST_LIST_S)
        for task in late:
            task.cancel()

    def problem(self) -> str:
        """Return why objects are unknown or rejected; empty where all are in force."""
        errors = [str(f.error) for f in self._followers if f.error is not None]
        rejected = [str(origin) for origin, entry in self._entries.items() if entry.refusal is not None]
        shown = ", ".join(rejected[:3]) + (f" and {len(rejected) - 3} more" if len(rejected) > 3 else "")
        return "; ".join([*errors, *([f"rejected, see the log: {shown}"] if rejected else [])])

    def read(self) -> None:
        """Take over the objects as the API server shows them, and validate the changed ones."""
        current = {d.origin: d for follower in self._followers for d in follower.all()}
        for origin in self._entries.keys() - current.keys():
            del self._entries[origin]
            self._forget_status(origin)
        for origin, definition in current.items():
            entry = self._entries.get(origin)
            if entry is not None and entry.definition.uid != definition.uid:  # deleted and created again
                entry.status = None
                self._forget_status(origin)
            if entry is None or entry.definition.content != definition.content:
                entry = self._entries.setdefault(origin, WorkloadEntry(definition))
                self._validate(entry, definition)
            entry.definition = definition

    def _forget_status(self, origin: Origin) -> None:
        if self._writer is not None:
            self._writer.forget(origin)

    def _validate(self, entry: WorkloadEntry, definition: Definition) -> None:
        entry.valid, entry.retry_at = None, float("-inf")
        try:
            entry.valid = workload_of(definition, self._settings)
        except ConfigError as e:
            self._refuse(entry, definition, "Invalid", str(e))

    def _refuse(self, entry: WorkloadEntry, definition: Definition, reason: str, error: str) -> None:
        refusal = Condition(False, reason, error)
        if entry.refusal != refusal:
            kept = "the last valid version stays in force" if entry.running else "its pools keep their sizes"
            log.error("workload rejected", object=str(definition.origin), error=error, remedy=kept)
        entry.refusal = refusal

    def combined(self, files: Config, *, only_running: bool = False) -> Config:
        """Return the workloads of the files and of all objects that may run with them.

        With `only_running`, no further version starts.
        """
        claims = Claims()
        for workload in files.workloads.values():
            _claim(claims, workload, "a file")
        workloads = dict(files.workloads)
        self._names.clear()
        defined = [*files.workloads.values(), *(w for e in self._entries.values() if (w := e.valid or e.running))]
        specs = {workload.name: workload.spec for workload in defined}
        for entry in sorted(self._entries.values(), key=self._order):
            candidates = (
                [entry.running] if only_running or entry.retry_at > self._clock.now() else [entry.valid, entry.running]
            )
            for candidate in filter(None, candidates):
                conflict = self._conflict(files, workloads, claims, candidate)
                if not conflict and candidate is not entry.running:
                    conflict = _group_conflict(candidate, specs)
                if conflict:
                    self._refuse(entry, entry.definition, "Conflict", f"{entry.definition.origin}: {conflict}")
                    continue
                if candidate is entry.valid and entry.retry_at <= self._clock.now():
                    entry.refusal = None
                _claim(claims, candidate, str(entry.definition.origin))
                workloads[candidate.name] = candidate
                self._names[candidate.name] = entry.definition.origin
                break
        return Config(files.daemon, workloads)

    @staticmethod
    def _order(entry: WorkloadEntry) -> tuple[int, str, Origin]:
        """Return the order of claims: unchanged objects first, new ones last."""
        rank = 2 if entry.running is None else int(entry.changed)
        return rank, entry.definition.created, entry.definition.origin

    def _conflict(
        self, files: Config, workloads: Mapping[WorkloadName, Workload], claims: Claims, candidate: Workload
    ) -> str:
        """Return why a workload cannot run next to others; empty where it can."""
        name = candidate.name
        if name in workloads:
            holder = self._names.get(name, "a file")
            return f"workload: must be unique: {holder} defines a workload {name} too (rename one)"
        for pool, spec in candidate.spec.pools.items():
            if broken_rule := claims.conflict(spec.targets(name, pool)):
                return f"pools.{pool}: {broken_rule} (remove one of the two pools, or set it to another object)"
        daemon, specs = files.daemon, [*(w.spec for w in workloads.values()), candidate.spec]
        for place, rule, hint in limits.fleet_limits(daemon.fleet, specs):
            return f"{'.'.join(map(str, place))} of the daemon {rule}" + (f" ({hint})" if hint else "")
        live = checks.live_kinds([candidate.spec]) if daemon.clock != EmbeddedClock() else ()
        return next((f"daemon.clock {rule} ({hint})" for rule, hint in live), "")

    def changes(self) -> list[WorkloadEntry]:
        """Return the objects whose valid version is to start."""
        names = set(self._names.values())
        return [e for o, e in self._entries.items() if e.changed and e.refusal is None and o in names]

    def refuse_opening(self, entry: WorkloadEntry, error: PortError) -> None:
        """Keep the running version of a workload whose adapters could not be opened."""
        self._refuse(entry, entry.definition, "Misconfigured", str(error))
        entry.retry_at = self._clock.now() + RETRY_S

    def started(self, config: Config) -> None:
        """Take over the versions that run, and report the status of every object."""
        for origin, entry in self._entries.items():
            names = [name for name, place in self._names.items() if place == origin]
            entry.running = config.workloads.get(names[0]) if names else None
            self._report(entry)
        self._ticks = {name: tick for name, tick in self._ticks.items() if name in self._names}

    def observe(self, tick: Tick, _spec: WorkloadSpec) -> None:
        """Report the status of a workload after its tick. It never waits."""
        if (origin := self._names.get(tick.workload)) is not None and (entry := self._entries.get(origin)) is not None:
            self._ticks[tick.workload] = tick
            self._report(entry)

    def _report(self, entry: WorkloadEntry) -> None:
        origin = entry.definition.origin
        if self._writer is None or origin.kind != KIND:
            return
        stored = entry.definition.status
        name = WorkloadName(f"{origin.namespace}.{origin.name}")
        tick = self._ticks.get(name) if entry.running is not None else None
        before = stored if entry.status is None else entry.status
        generation = entry.definition.generation
        accepted = entry.refusal or VALID
        entry.status = {"workload": name, **status_of(tick, accepted, generation, before, self._clock.now())}
        self._writer.put(origin, entry.status, stored)


def _group_conflict(candidate: Workload, specs: Mapping[WorkloadName, WorkloadSpec]) -> str:
    """Return why a workload may not send requests to another one; empty where it may."""
    findings = groups.member_problems(candidate.spec, specs)
    return next((f"{'.'.join(map(str, place))}: {rule} ({hint})" for place, rule, hint in findings), "")


def _claim(claims: Claims, workload: Workload, holder: str) -> None:
    for pool, spec in workload.spec.pools.items():
        place = f"pools.{pool} of workload {workload.name} in {holder}"
        claims.claim(spec.targets(workload.name, pool), lambda place=place: place)  # type: ignore[misc]


async def open_workloads(
    settings: KubernetesWorkloads, context: Context, changed: Callable[[], None], *, write_status: bool
) -> ClusterWorkloads:
    """Follow the objects of the cluster.

    Raises `Misconfigured`, and `ImportError` without the extra kubernetes.
    """
    followers = await import_object(FOLLOW)(context, settings, changed)
    has_status = write_status and settings.custom_resources
    writer = await import_object(WRITE)(context, settings.cluster) if has_status else None
    return ClusterWorkloads(settings, context.clock, followers, writer)


async def workload_permits(daemon: DaemonSpec, context: Context) -> Sequence[Permit]:
    """Return the permits to follow the workloads of a cluster; none where that is off.

    Raises port errors.
    """
    if daemon.kubernetes_workloads is None:
        return ()
    permits: Sequence[Permit] = await import_object(PERMITS)(daemon.kubernetes_workloads, context)
    return permits
