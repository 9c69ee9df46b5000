"""Reports of Route 53's checkers, which moto always answers with success."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from tests.servers.aws_world import World

PASSED: Final = "Success: HTTP Status Code 200, OK"
FAILED: Final = "Failure: HTTP Status Code 503, Service Unavailable. Resolved IP: 192.0.2.44"


def checker_reports(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    """Return what each checker reports; success by default."""
    reports = world.checkers.get(fields["HealthCheckId"], [PASSED] * 16)
    report = {"Region": "us-east-1", "IPAddress": "192.0.2.44"}
    at = datetime.now(UTC)
    return {
        "HealthCheckObservations": [
            {**report, "StatusReport": {"Status": status, "CheckedTime": at}} for status in reports
        ]
    }


HANDLERS: Final[Mapping[tuple[str, str], Callable[[World, dict[str, Any]], Mapping[str, Any]]]] = {
    ("route53", "GetHealthCheckStatus"): checker_reports
}
