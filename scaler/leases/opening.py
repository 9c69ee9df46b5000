"""Opens the coordinator of a daemon with high availability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaler.adapters import import_opener, name_in_errors
from scaler.config.high_availability import HighAvailability
from scaler.leases.coordinator import Coordinator
from scaler.leases.store import KINDS, LeaseStore
from scaler.ports import Clock, Misconfigured
from scaler.shared_resources import AdapterContext, Resources

if TYPE_CHECKING:
    from scaler.app import App, RunOptions


async def open_store(spec: HighAvailability, resources: Resources, clock: Clock) -> LeaseStore:
    """Open the store of leases, without a call. Raises `Misconfigured`."""
    with name_in_errors("daemon.ha"):
        open_leases = await import_opener(KINDS[spec.lease.kind])
        store: LeaseStore = await open_leases(spec, AdapterContext(resources, clock, spec.lease.renew_s))
    return store


async def open_coordinator(app: App, resources: Resources, options: RunOptions) -> Coordinator:
    """Return the coordinator of a daemon. Raises `Misconfigured`."""
    spec = app.config.daemon.ha
    assert spec is not None  # noqa: S101 - the caller checks it
    if options.once:
        raise Misconfigured("--once needs --dry-run with daemon.ha: one tick is shorter than the handover of a shard")
    if options.shadows:
        raise Misconfigured("--shadow is not supported with daemon.ha. Run the shadow in a daemon without daemon.ha")
    return Coordinator(spec, await open_store(spec, resources, app.clock), app, app.health)
