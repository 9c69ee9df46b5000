"""Opens the store of snapshots."""

from __future__ import annotations

from collections.abc import Sequence

from scaler.adapters import import_opener, name_in_errors
from scaler.config.daemon import DaemonSpec
from scaler.config.high_availability import DEFAULT_NAME
from scaler.config.snapshots import SnapshotSettings
from scaler.leases.coordinator import new_identity
from scaler.ports import Context, Permit
from scaler.snapshots.objects import SnapshotObjects
from scaler.snapshots.service import Snapshots
from scaler.snapshots.store import KINDS, OBJECTS, SnapshotStore
from scaler.telemetry.health import Health


async def open_snapshots(daemon: DaemonSpec, context: Context, health: Health) -> Snapshots | None:
    """Open the configured snapshots, without a call; None without any.

    Raises `Misconfigured`.
    """
    if daemon.snapshots is None:
        return None
    store = await _open_store(daemon, daemon.snapshots, context)
    return Snapshots(store, new_identity(), daemon.snapshots.interval_s, context.clock, health)


async def snapshot_permits(daemon: DaemonSpec, context: Context) -> Sequence[Permit]:
    """Return the permits to read and write snapshots; none without any. Raises port errors."""
    if daemon.snapshots is None:
        return ()
    return await (await _open_store(daemon, daemon.snapshots, context)).permits()


async def _open_store(daemon: DaemonSpec, settings: SnapshotSettings, context: Context) -> SnapshotStore:
    installation = daemon.ha.name if daemon.ha is not None else DEFAULT_NAME
    with name_in_errors("daemon.snapshots"):
        if settings.store in OBJECTS:
            open_objects = await import_opener(OBJECTS[settings.store])
            return SnapshotObjects(await open_objects(getattr(settings, settings.store), installation, context))
        open_kind = await import_opener(KINDS[settings.store])
        store: SnapshotStore = await open_kind(settings, installation, context)
    return store
