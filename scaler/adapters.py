"""A workload's adapters, opened: what the daemon runs with, and what ``check --live`` and ``doctor`` ask."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from policies.model import PoolName, WorkloadName
from policies.model.spec import Pool
from policies.recommend.predictive.latency_model import slo_limits_s
from scaler.config.load import Workload
from scaler.controller import Setup
from scaler.ports import Actuator, Clock, Context, Misconfigured, Source, SourceSpec
from scaler.quota_ledger import QuotaLedger
from scaler.registry import POOLS, SOURCES, Kind, import_object, kind_of
from scaler.shared_resources import Opening, Resources

EXTRAS: Final = {
    "aiobotocore": "aws",
    "azure": "azure",
    "botocore": "aws",
    "cmaes": "tune",
    "distributed": "tune",
    "google": "gcp",
    "grpc": "gcp",
    "kubernetes_asyncio": "kubernetes",
    "llvmlite": "sim",
    "numba": "sim",
    "optuna": "tune",
}
"""Packages that come with an extra of the distribution, by their first name."""
IMPORTING: Final = threading.Lock()


@contextlib.contextmanager
def naming_workload(workload: WorkloadName) -> Iterator[None]:
    """Name the workload in what is wrong, and the extra where a package is missing. Raises `Misconfigured`."""
    try:
        yield
    except ImportError as e:
        extra = EXTRAS.get((e.name or "").partition(".")[0])
        remedy = f" (pip install 'forescale[{extra}]')" if extra else ""
        raise Misconfigured(f"{workload}: {e.name} is not installed{remedy}") from e
    except Misconfigured as e:
        raise Misconfigured(f"{workload}: {e}") from e


def opening_context(workload: Workload, resources: Resources, clock: Clock) -> Opening:
    """Return what the workload's adapters are opened in."""
    return Opening(resources, clock, workload.spec.deadline_s, slo_limits_s(workload.spec))


async def open_source(spec: SourceSpec, context: Context) -> Source:
    """Open the adapter of a source, whose module is imported now. Raises port errors and `ImportError`."""
    opening = await _opener(SOURCES[kind_of("source", spec)])
    source: Source = await opening(spec, context)
    return source


async def open_pool(spec: Pool, context: Context, workload: WorkloadName, pool: PoolName) -> Actuator:
    """Open the adapter of a pool, whose module is imported now. Raises port errors and `ImportError`."""
    opening = await _opener(POOLS[kind_of("pool", spec)])
    actuator: Actuator = await opening(spec, context, workload, pool)
    return actuator


async def _opener(kind: Kind) -> Any:
    """Import the function that opens the adapters of a kind, in a thread: SDKs take seconds."""
    return await asyncio.to_thread(_imported, kind.open)


def _imported(path: str) -> Any:
    """Import one adapter at a time: threads that import circular packages at once find them half made."""
    with IMPORTING:
        return import_object(path)


async def open_adapters(
    workload: Workload, resources: Resources, clock: Clock, ledger: QuotaLedger | None = None
) -> Setup:
    """Return the workload with its adapters. Nothing has been read yet. Raises `Misconfigured`."""
    context = opening_context(workload, resources, clock)
    sources: Mapping[str, SourceSpec] = workload.spec.sources
    pools: Mapping[PoolName, Pool] = workload.spec.pools
    with naming_workload(workload.name):
        return Setup(
            workload,
            {name: await open_source(source, context) for name, source in sources.items()},
            {name: await open_pool(pool, context, workload.name, name) for name, pool in pools.items()},
            ledger=ledger,
            wakeup=context.wakeup,
            faults=resources.faults,
        )
