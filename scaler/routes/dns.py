"""Weighted records of Route 53 for one name: each backend is the pool of a region."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from policies.model import WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteStatus
from scaler.clouds.aws import session
from scaler.clouds.aws.account import partition
from scaler.clouds.response_validation import list_of
from scaler.config.kinds.aws_routes import Dns
from scaler.ports import Context, Unavailable
from scaler.routes.aws_route import AwsRouteActuator, in_use
from scaler.routes.health_checks import HealthChecks
from scaler.routes.weighted_records import WeightedRecords, is_of, parse_records

if TYPE_CHECKING:
    from scaler.clouds.aws.session import AwsService

MAX_ITEMS: Final = 100
"""Records of one page."""
MAX_PAGES: Final = 10


async def open_dns(spec: Dns, context: Context, _workload: WorkloadName, _route: RouteName) -> DnsRoute:
    """Open the route of weighted records. Raises `Misconfigured`."""
    return await DnsRoute(spec, context).connect()


class DnsRoute(AwsRouteActuator):
    """The port of weighted records."""

    _service: AwsService
    _checks: HealthChecks
    _records: WeightedRecords

    def __init__(self, spec: Dns, context: Context) -> None:
        what = f"records {spec.full_name} in hosted zone {spec.zone}"
        super().__init__(spec.account, spec.other_writer_yield_s, context, what)
        self._spec = spec

    async def _connect(self) -> None:
        self._service = await session.service(self._context, "route53", self._account)
        self._checks = HealthChecks(self._service, self._context.clock)

    async def _status(self) -> RouteStatus:
        records = await self._read()
        checked = {name: record.health_check for name, record in records.of(self._spec).items() if record.health_check}
        results = await asyncio.gather(*map(self._checks.is_healthy, checked.values()))
        unhealthy = frozenset(name for name, healthy in zip(checked, results, strict=True) if not healthy)
        return RouteStatus(in_use(records.weights(self._spec)), unhealthy=unhealthy, settle_s=records.ttl_s)

    async def _weights(self) -> Mapping[BackendName, int]:
        self._records = await self._read(urgent=True)
        return self._records.weights(self._spec)

    async def _write(self, weights: Mapping[BackendName, int]) -> Mapping[BackendName, int]:
        changes = self._records.changes(weights, self._spec)
        if changes:
            batch = {"Comment": "weights by Forescale", "Changes": changes}
            await self._service.call(
                "ChangeResourceRecordSets",
                self._what,
                write=True,
                repeat=True,
                HostedZoneId=self._spec.zone,
                ChangeBatch=batch,
            )
        return (await self._read(urgent=True)).weights(self._spec)

    async def _read(self, *, urgent: bool = False) -> WeightedRecords:
        """Return all records of the name, which follow each other in the zone. Raises port errors."""
        spec, bodies = self._spec, list[dict[str, Any]]()
        request: dict[str, Any] = {"StartRecordName": spec.full_name, "StartRecordType": spec.record_type}
        for _ in range(MAX_PAGES):
            response = await self._service.call(
                "ListResourceRecordSets",
                self._what,
                write=urgent,
                repeat=True,
                HostedZoneId=spec.zone,
                MaxItems=str(MAX_ITEMS),
                **request,
            )
            bodies += list_of(self._what, response, "ResourceRecordSets")
            if not response.get("IsTruncated") or not is_of(bodies[-1], spec):
                return parse_records(self._what, bodies, spec)
            names = {"StartRecordName": "NextRecordName", "StartRecordType": "NextRecordType"}
            request = {key: response[name] for key, name in names.items()}
            if identifier := response.get("NextRecordIdentifier"):
                request["StartRecordIdentifier"] = identifier
        raise Unavailable(f"{self._what}: the response has more than {MAX_PAGES} pages")

    def _actions(self) -> Mapping[str, str]:
        arns = f"arn:{partition(self._account.region)}:route53:::"
        zone, checks = f"{arns}hostedzone/{self._spec.zone}", f"{arns}healthcheck/*"
        return {
            "route53:ChangeResourceRecordSets": zone,
            "route53:GetHealthCheck": checks,
            "route53:GetHealthCheckStatus": checks,
            "route53:ListResourceRecordSets": zone,
        }
