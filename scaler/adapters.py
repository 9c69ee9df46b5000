"""Opens a workload's adapters, for the daemon and for ``check --live`` and ``doctor``."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from policies.model import PoolName, WorkloadName
from policies.model.names import RouteName
from policies.model.pool import Pool
from policies.model.route_spec import Route
from scaler.config.load import Workload
from scaler.leases.fence import Fence
from scaler.ports import Actuator, Clock, Context, Misconfigured, RouteActuator, Source, SourceSpec
from scaler.quota_ledger import QuotaLedger
from scaler.registry import POOLS, ROUTES, SOURCES, Kind, import_object, kind_of
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources

EXTRAS: Final = {
    "aiobotocore": "aws",
    "azure": "azure",
    "botocore": "aws",
    "cmaes": "tune",
    "confluent_kafka": "kafka",
    "distributed": "tune",
    "google": "gcp",
    "grpc": "gcp",
    "kubernetes_asyncio": "kubernetes",
    "modal": "modal",
    "llvmlite": "sim",
    "numba": "sim",
    "optuna": "tune",
    "pg8000": "postgresql",
    "redis": "redis",
}
"""The distribution's extra that installs each top-level package."""
IMPORT_LOCK: Final = threading.Lock()


@contextlib.contextmanager
def name_in_errors(place: str) -> Iterator[None]:
    """Add a workload or setting to an error, and the extra to install for a missing package.

    Raises `Misconfigured`.
    """
    try:
        yield
    except ImportError as e:
        extra = EXTRAS.get((e.name or "").partition(".")[0])
        remedy = f" (pip install 'forescale[{extra}]')" if extra else ""
        raise Misconfigured(f"{place}: {e.name} is not installed{remedy}") from e
    except Misconfigured as e:
        raise Misconfigured(f"{place}: {e}") from e


def adapter_context(workload: Workload, resources: Resources, clock: Clock) -> AdapterContext:
    """Return the context in which the workload's adapters are opened."""
    return AdapterContext(resources, clock, workload.spec.deadline_s, workload.spec.slo_limits_s)


async def open_source(spec: SourceSpec, context: Context) -> Source:
    """Import a source's adapter and open it. Raises port errors and `ImportError`."""
    open_adapter = await import_opener(SOURCES[kind_of("source", spec)])
    source: Source = await open_adapter(spec, context)
    return source


async def open_pool(spec: Pool, context: Context, workload: WorkloadName, pool: PoolName) -> Actuator:
    """Import a pool's adapter and open it. Raises port errors and `ImportError`."""
    open_adapter = await import_opener(POOLS[kind_of("pool", spec)])
    actuator: Actuator = await open_adapter(spec, context, workload, pool)
    return actuator


async def open_route(spec: Route, context: Context, workload: WorkloadName, route: RouteName) -> RouteActuator:
    """Import a route's adapter and open it. Raises port errors and `ImportError`."""
    open_adapter = await import_opener(ROUTES[kind_of("route", spec)])
    actuator: RouteActuator = await open_adapter(spec, context, workload, route)
    return actuator


async def import_opener(kind: Kind) -> Any:
    """Return the function that opens adapters of a kind, imported in a thread.

    An SDK takes seconds to import. The lock admits one thread at a time: concurrent imports of circular packages see
    partly initialized modules.
    """

    def import_locked() -> Any:
        with IMPORT_LOCK:
            return import_object(kind.open)

    return await asyncio.to_thread(import_locked)


async def open_adapters(
    workload: Workload,
    resources: Resources,
    clock: Clock,
    ledger: QuotaLedger | None = None,
    fence: Fence | None = None,
) -> Setup:
    """Return the workload with its adapters, open but not read yet. Raises `Misconfigured`."""
    context = adapter_context(workload, resources, clock)
    sources: Mapping[str, SourceSpec] = workload.spec.sources
    pools: Mapping[PoolName, Pool] = workload.spec.pools
    routes: Mapping[RouteName, Route] = workload.spec.routes
    with name_in_errors(workload.name):
        return Setup(
            workload,
            {name: await open_source(source, context) for name, source in sources.items()},
            {name: await open_pool(pool, context, workload.name, name) for name, pool in pools.items()},
            ledger=ledger,
            groups=resources.groups,
            wakeup=context.wakeup,
            fence=fence,
            faults=resources.faults,
            admission=resources.admission,
            routes={name: await open_route(route, context, workload.name, name) for name, route in routes.items()},
        )
