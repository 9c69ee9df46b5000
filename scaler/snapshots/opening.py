"""Opens the store of snapshots."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scaler.adapters import import_opener, name_in_errors
from scaler.config.daemon import DaemonSpec
from scaler.config.high_availability import DEFAULT_NAME
from scaler.leases.coordinator import new_identity
from scaler.ports import Context
from scaler.registry import Kind
from scaler.snapshots.directory import SnapshotDirectory
from scaler.snapshots.service import Snapshots
from scaler.snapshots.store import SnapshotStore
from scaler.telemetry.health import Health

DATABASE: Final = Kind(
    "scaler.config.snapshots:SnapshotSettings", "scaler.clouds.postgresql.snapshots:open_snapshots", "postgresql"
)
"""The store in a database."""


async def open_snapshots(daemon: DaemonSpec, context: Context, health: Health) -> Snapshots | None:
    """Open the configured snapshots, without a call; None without any.

    Raises `Misconfigured`.
    """
    settings = daemon.snapshots
    if settings is None:
        return None
    store: SnapshotStore = SnapshotDirectory(Path(settings.directory or ""))
    if settings.server is not None:
        with name_in_errors("daemon.snapshots"):
            open_rows = await import_opener(DATABASE)
            installation = daemon.ha.name if daemon.ha is not None else DEFAULT_NAME
            store = await open_rows(settings.server, settings.table, installation, context)
    return Snapshots(store, new_identity(), settings.interval_s, context.clock, health)
