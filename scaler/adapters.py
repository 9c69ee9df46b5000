"""A workload's adapters, opened: what the daemon runs with, and what ``check --live`` and ``doctor`` ask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from policies.model import PoolName, WorkloadName
from policies.recommend.predictive.latency_model import slo_limits_s
from scaler.config.load import Workload
from scaler.controller import Setup
from scaler.ports import Clock, Misconfigured, PoolSpec, SourceSpec
from scaler.quota_ledger import QuotaLedger
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
    """What the workload's adapters are opened in."""
    return Opening(resources, clock, workload.spec.deadline_s, slo_limits_s(workload.spec))


async def open_adapters(
    workload: Workload, resources: Resources, clock: Clock, ledger: QuotaLedger | None = None
) -> Setup:
    """The workload with its adapters. Nothing has been read yet. Raises `Misconfigured`."""
    context = opening_context(workload, resources, clock)
    sources: Mapping[str, SourceSpec] = workload.spec.sources
    pools: Mapping[PoolName, PoolSpec] = workload.spec.pools
    with naming_workload(workload.name):
        return Setup(
            workload,
            {name: await source.open(context) for name, source in sources.items()},
            {name: await pool.open(context, workload.name, name) for name, pool in pools.items()},
            ledger=ledger,
            wakeup=context.wakeup,
            faults=resources.faults,
        )
