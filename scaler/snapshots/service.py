"""Writes a snapshot of each running workload at an interval, and reads those of new ones.

A store that is slow or gone delays no tick: writes are in a task of their own, and a start waits for `READ_S` at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from policies.model import Tick, WorkloadName
from scaler.ports import Clock, PortError
from scaler.slo_record import SloHistory
from scaler.snapshots.codec import Snapshot, SnapshotError, decode, encode, part_of
from scaler.snapshots.store import SnapshotStore, Stored
from scaler.supervised_tasks import Tasks
from scaler.telemetry.health import Health
from scaler.telemetry.log import log

READ_S: Final = 5.0
"""Maximum time that the start of workloads waits for their snapshots. Seconds."""
LAST_S: Final = 1.0
"""Maximum time that the end of a workload waits for its last snapshot. Seconds."""
CONCURRENT_WRITES: Final = 8
"""Maximum number of snapshots written at a time. Example: 2,000 of 30 ms each, as in object storage, take 7.5 s."""
PART_TICKS: Final = 60
"""Maximum number of ticks in a part: those of a quarter of an hour at 15 s."""
MAX_AHEAD_S: Final = 30.0
"""Maximum time by which a snapshot may be ahead of this daemon's clock. Seconds."""
PART: Final = "snapshots"
"""Name of the snapshots in ``/healthz``."""
COLD: Final = "its workloads start with what their journal has"


@dataclass(slots=True)
class Recording:
    """The recorded ticks of a running workload.

    `parts` are compressed, each with the time of its last tick. `new` are the ticks since. `superseded` are the writers
    of older snapshots, which are deleted when this daemon has written one.
    """

    span_s: float
    new: list[Tick]
    parts: deque[tuple[float, str]] = field(default_factory=deque)
    superseded: tuple[str, ...] = ()

    def add(self, ticks: Sequence[Tick]) -> None:
        """Compress ticks, and drop the parts that have left the history. Raises `ValueError`."""
        for first in range(0, len(ticks), PART_TICKS):
            part = ticks[first : first + PART_TICKS]
            self.parts.append((part[-1].at, part_of(part)))
        while self.parts[0][0] < ticks[-1].at - self.span_s:
            self.parts.popleft()


class Snapshots:
    """The snapshots of a daemon's workloads.

    `holds` returns whether this daemon may write that of a workload, and `slo_history` the record of its SLO.
    """

    def __init__(self, store: SnapshotStore, writer: str, interval_s: float, clock: Clock, health: Health) -> None:
        self.holds: Callable[[WorkloadName], bool] = lambda _: True
        self.slo_history: Callable[[WorkloadName], SloHistory | None] = lambda _: None
        self._store = store
        self._writer = writer
        self._interval_s = interval_s
        self._clock = clock
        self._health = health
        self._recordings: dict[WorkloadName, Recording] = {}
        self._superseded: dict[WorkloadName, tuple[str, ...]] = {}
        self._turn = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self, tasks: Tasks) -> None:
        """Begin to write snapshots."""
        self._task = tasks.start("snapshots", self._write_forever)

    def begin(self, workload: WorkloadName, ticks: Sequence[Tick], span_s: float) -> None:
        """Begin to record a workload, after the ticks that its history begins with."""
        self._recordings[workload] = Recording(span_s, list(ticks), superseded=self._superseded.pop(workload, ()))

    def observe(self, tick: Tick) -> None:
        """Record a tick."""
        if (recording := self._recordings.get(tick.workload)) is not None:
            recording.new.append(tick)

    async def end(self, workloads: Collection[WorkloadName]) -> None:
        """Write the last snapshots of workloads within `LAST_S`, and end their recordings."""
        try:
            async with asyncio.timeout(LAST_S):
                await self._write(workloads)
        except TimeoutError:
            log.warning(
                "snapshots not written",
                error=f"no response within {LAST_S:g} s",
                remedy="the last ticks are not handed over",
            )
        for workload in workloads:
            self._recordings.pop(workload, None)

    async def close(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def newer(self, tails: Mapping[WorkloadName, Sequence[Tick]]) -> Mapping[WorkloadName, Snapshot]:
        """Return the newest valid snapshot of each workload whose tail of the journal is older."""
        try:
            async with asyncio.timeout(READ_S):
                stored = await self._store.read(list(tails))
        except (PortError, TimeoutError) as e:
            log.warning("snapshots not read", error=str(e) or f"no response within {READ_S:g} s", remedy=COLD)
            return {}
        return await asyncio.to_thread(self._newest, stored, tails)

    def _newest(
        self, stored: Sequence[Stored], tails: Mapping[WorkloadName, Sequence[Tick]]
    ) -> Mapping[WorkloadName, Snapshot]:
        """Return the newest usable snapshots, and report those that are refused."""
        usable: dict[WorkloadName, list[tuple[Snapshot, str]]] = {}
        for one in stored:
            try:
                snapshot = self._usable(one)
            except SnapshotError as e:
                log.warning(
                    "snapshot refused", workload=one.workload, writer=one.writer, error=str(e), remedy="it is ignored"
                )
            else:
                usable.setdefault(one.workload, []).append((snapshot, one.writer))
        newest: dict[WorkloadName, Snapshot] = {}
        for workload, snapshots in usable.items():
            *older, (last, writer) = sorted(snapshots, key=lambda s: s[0].at)
            self._superseded[workload] = tuple(w for _, w in older if w != self._writer)
            tail = tails.get(workload)
            if not tail or tail[-1].at < last.at:
                newest[workload] = last
                age_s = round(self._clock.now() - last.at, 1)
                log.info(
                    "snapshot restored",
                    workload=workload,
                    writer=writer,
                    ticks=len(last.ticks),
                    age_s=age_s,
                    older=len(older),
                )
        return newest

    def _usable(self, stored: Stored) -> Snapshot:
        """Return a stored snapshot. Raises `SnapshotError`."""
        if stored.text is None:
            raise SnapshotError("it is too long, or was deleted meanwhile")
        snapshot = decode(stored.text, stored.workload)
        if (ahead_s := snapshot.at - self._clock.now()) > MAX_AHEAD_S:
            raise SnapshotError(f"its last tick is {ahead_s:.0f} s ahead of this clock")
        return snapshot

    async def _write_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._write(list(self._recordings))

    async def _write(self, workloads: Collection[WorkloadName]) -> None:
        """Write the snapshots of workloads with new ticks, until writes fail.

        All new ticks are compressed.
        """
        problem = ""
        async with self._turn:
            for first in range(0, len(workloads := list(workloads)), CONCURRENT_WRITES):
                part = workloads[first : first + CONCURRENT_WRITES]
                writes = [self._write_one(workload, is_stored=not problem) for workload in part]
                problem = problem or next(filter(None, await asyncio.gather(*writes)), "")
        self._health.report(PART, problem)

    async def _write_one(self, workload: WorkloadName, *, is_stored: bool) -> str:
        """Compress the new ticks of a workload, and store its snapshot if `is_stored`.

        Return the problem.
        """
        recording = self._recordings.get(workload)
        if recording is None or not recording.new:
            return ""
        ticks, recording.new = recording.new, []
        try:
            text = await asyncio.to_thread(_add, recording, ticks, self.slo_history(workload))
            if is_stored and self.holds(workload):
                await self._store_snapshot(workload, recording, text)
        except (PortError, ValueError) as e:  # ValueError: a value that JSON cannot represent
            return str(e)
        return ""

    async def _store_snapshot(self, workload: WorkloadName, recording: Recording, text: str) -> None:
        """Store a snapshot, and delete the ones before the last one. Raises port errors."""
        await self._store.write(workload, self._writer, text)
        for writer in recording.superseded:
            await self._store.delete(workload, writer)
        recording.superseded = ()


def _add(recording: Recording, ticks: Sequence[Tick], slo_history: SloHistory | None) -> str:
    """Add ticks to a recording, and return the text of its snapshot."""
    recording.add(ticks)
    return encode(ticks[-1].workload, [part for _, part in recording.parts], slo_history)
