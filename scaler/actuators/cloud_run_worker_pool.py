"""Cloud Run worker pools: the manual count of instances."""

from __future__ import annotations

from policies.model import PoolName, WorkloadName
from scaler.clouds.gcp.run import WORKER_POOLS
from scaler.clouds.gcp.run_resizer import MANUAL, RunResizer, Sized, open_resizer
from scaler.config.kinds.gcp_managed_pools import CloudRunWorkerPool
from scaler.ports import Context


async def open_cloud_run_worker_pool(
    spec: CloudRunWorkerPool, context: Context, workload: WorkloadName, pool: PoolName
) -> RunResizer:
    """Open a Cloud Run worker pool. Raises `Misconfigured`."""
    command = f"gcloud run worker-pools update {spec.name} --region={spec.location} --instances=COUNT"
    return await open_resizer(
        spec, context, Sized(WORKER_POOLS, spec.name, MANUAL, f"its manual count is not set: run {command} once")
    )
