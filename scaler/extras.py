"""The distribution's extras that a configuration needs, and whether they are installed."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from scaler.config.daemon import DaemonSpec
from scaler.config.load import Config
from scaler.leases.store import KINDS as LEASES
from scaler.registry import POOLS, SOURCES, Kind, kind_of
from scaler.snapshots.store import KINDS as SNAPSHOTS
from scaler.snapshots.store import OBJECTS

DISTRIBUTION: Final = "forescale"
SIMULATOR: Final = "sim"
"""The extra of the kinds that the simulator adds."""
PARTNERS: Final = {"keda": "keda", "external_metrics": "kubernetes"}
"""The extra of each server under `daemon.partners`."""
OPTIONAL: Final = re.compile(r"(?P<package>[\w.-]+).*;\s*extra == ['\"](?P<extra>[\w-]+)['\"]$")
"""A requirement of an extra, such as `aiobotocore>=3.0; extra == 'aws'`."""


def missing_packages(config: Config) -> dict[str, list[str]]:
    """Return the extras that a configuration needs, each with its missing packages."""
    kinds: set[Kind] = set()
    for workload in config.workloads.values():
        kinds |= {SOURCES[kind_of("source", source)] for source in workload.spec.sources.values()}
        kinds |= {POOLS[kind_of("pool", pool)] for pool in workload.spec.pools.values()}
    names = {extra for kind in kinds if (extra := extra_of(kind))}
    extras = sorted(names | _daemon_extras(config.daemon))
    return {extra: [p for p in packages_of(extra) if not _is_installed(p)] for extra in extras}


def _daemon_extras(spec: DaemonSpec) -> set[str]:
    """Return the extras that settings of the daemon need."""
    leases = set() if spec.ha is None else {LEASES[spec.ha.lease.kind].extra}
    snapshots = set() if spec.snapshots is None else {(SNAPSHOTS | OBJECTS)[spec.snapshots.store].extra} - {""}
    needed = {
        "kubernetes": spec.kubernetes_workloads is not None,
        "notices": bool(spec.notices.destinations),
        "otel": spec.opentelemetry is not None,
        SIMULATOR: bool(spec.plans),
    }
    servers = {extra for server, extra in PARTNERS.items() if getattr(spec.partners, server) is not None}
    return servers | leases | snapshots | {extra for extra, is_needed in needed.items() if is_needed}


def extra_of(kind: Kind) -> str:
    """Return the extra that a kind needs; empty for none."""
    return SIMULATOR if kind.open.startswith("simulators.") else kind.extra


def packages_of(extra: str) -> list[str]:
    """Return the packages that an extra installs."""
    matches = (OPTIONAL.match(requirement) for requirement in requires(DISTRIBUTION) or ())
    return [match["package"] for match in matches if match is not None and match["extra"] == extra]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def install_command(extras: list[str]) -> str:
    """Return the command that installs extras."""
    return f"pip install '{DISTRIBUTION}[{','.join(extras)}]'"
