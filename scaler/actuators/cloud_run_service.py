"""Cloud Run services: the manual count of instances, or the minimum of automatic scaling."""

from __future__ import annotations

from policies.model import PoolName, WorkloadName
from scaler.clouds.gcp.run import SERVICES
from scaler.clouds.gcp.run_resizer import MANUAL, MINIMUM, RunResizer, Sized, open_resizer
from scaler.config.kinds.gcp_managed_pools import CloudRunService
from scaler.ports import Context


async def open_cloud_run_service(
    spec: CloudRunService, context: Context, workload: WorkloadName, pool: PoolName
) -> RunResizer:
    """Open a Cloud Run service. Raises `Misconfigured`."""
    command = f"gcloud run services update {spec.name} --region={spec.location} --scaling"
    if spec.sized_by == "manual":
        remedy = f"set its count once ({command}=COUNT), or set sized_by: minimum"
        return await open_resizer(spec, context, Sized(SERVICES, spec.name, MANUAL, remedy))
    remedy = f"set it to automatic scaling ({command}=auto), or set sized_by: manual"
    return await open_resizer(spec, context, Sized(SERVICES, spec.name, MINIMUM, remedy))
