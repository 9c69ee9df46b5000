"""Opens the store of leases, and checks the options of a run with high availability."""

from __future__ import annotations

from collections.abc import Sequence

from scaler.adapters import import_opener, name_in_errors
from scaler.config.daemon import DaemonSpec
from scaler.config.high_availability import HighAvailability
from scaler.leases.store import KINDS, LeaseStore
from scaler.ports import Clock, Context, Misconfigured, Permit
from scaler.shared_resources import AdapterContext, Resources


async def open_store(spec: HighAvailability, resources: Resources, clock: Clock) -> LeaseStore:
    """Open the store of leases, without a call. Raises `Misconfigured`."""
    with name_in_errors("daemon.ha"):
        open_leases = await import_opener(KINDS[spec.lease.kind])
        store: LeaseStore = await open_leases(spec, AdapterContext(resources, clock, spec.lease.renew_s))
    return store


async def lease_permits(daemon: DaemonSpec, context: Context) -> Sequence[Permit]:
    """Return the permits to share workloads by leases; none without any. Raises port errors."""
    spec = daemon.ha
    if spec is None:
        return ()
    open_leases = await import_opener(KINDS[spec.lease.kind])
    store: LeaseStore = await open_leases(spec, context)
    return await store.permits()


def check_options(*, once: bool, has_shadows: bool) -> None:
    """Raise `Misconfigured` for options that high availability does not support."""
    if once:
        raise Misconfigured("--once needs --dry-run with daemon.ha: one tick is shorter than the handover of a shard")
    if has_shadows:
        raise Misconfigured("--shadow is not supported with daemon.ha. Run the shadow in a daemon without daemon.ha")
