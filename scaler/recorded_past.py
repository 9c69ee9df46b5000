"""The recorded past that a workload starts with: the journal's tail, or a newer snapshot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from policies.model import Tick, WorkloadName
from scaler.config.daemon import DaemonSpec
from scaler.config.load import Workload
from scaler.journal import slo_history
from scaler.journal.reader import Unread, tail
from scaler.recorder import Recorder
from scaler.slo_record import SloHistory, SloRecord
from scaler.snapshots.service import Snapshots
from scaler.telemetry.log import log

Tails = Mapping[WorkloadName, Sequence[Tick]]


class RecordedPast:
    """The journal and the snapshots of a daemon, as a start reads them."""

    def __init__(self, daemon: DaemonSpec, recorder: Recorder) -> None:
        self.snapshots: Snapshots | None = None
        self._daemon = daemon
        self._recorder = recorder

    def span_s(self, workload: Workload) -> float:
        """Return the time for which a workload's history keeps ticks. Seconds."""
        return max(self._daemon.history_s, workload.spec.lookback_s)

    def tails(self, workloads: Iterable[Workload], now: float) -> Tails:
        """Return the last recorded ticks of workloads from the journal."""
        directory, workloads = self._daemon.journal.directory, list(workloads)
        if not directory:
            return {}
        since = now - max((self.span_s(w) for w in workloads), default=0.0)
        unread = Unread()
        try:
            return tail(Path(directory), since, [w.name for w in workloads], unread)
        except OSError as e:
            log.error("journal", error=f"{directory}: {e.strerror}", remedy="the daemon starts without recorded ticks")
            return {}
        finally:
            self._recorder.report_unread(directory, unread)

    async def with_snapshots(
        self, workloads: Iterable[WorkloadName], tails: Tails
    ) -> tuple[Tails, Mapping[WorkloadName, SloHistory]]:
        """Return the ticks of workloads and records of SLOs, from snapshots where those are newer."""
        own = {name: tails.get(name, ()) for name in workloads}
        newer = await self.snapshots.newer(own) if self.snapshots is not None and own else {}
        slos = {name: s.slo_history for name, s in newer.items() if s.slo_history is not None}
        return {**own, **{name: s.ticks for name, s in newer.items()}}, slos

    async def restore_slo_records(
        self, records: Mapping[WorkloadName, SloRecord], histories: Mapping[WorkloadName, SloHistory], now: float
    ) -> None:
        """Restore the requests that count for error budgets, from `histories` or the journal."""
        for name in records.keys() & histories.keys():
            records[name].restore(histories[name])
        others = {name: record for name, record in records.items() if name not in histories}
        directory = self._daemon.journal.directory
        if not directory or not others:
            return
        try:
            await asyncio.to_thread(slo_history.restore, Path(directory), others, now)
        except OSError as e:
            remedy = "error budgets begin without recorded requests"
            log.warning("journal", error=f"{directory}: {e.strerror}", remedy=remedy)
