"""Health checks of Route 53, by the reports of its checkers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scaler.clouds.response_validation import list_of, unavailable_if_malformed
from scaler.ports import Clock, Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.session import AwsService

MIN_HEALTHY_SHARE: Final = 0.18
"""An endpoint is healthy if more than this share of checkers report that it is, as Route 53 defines it."""
WITHOUT_CHECKERS: Final = frozenset({"CALCULATED", "CLOUDWATCH_METRIC", "RECOVERY_CONTROL"})
"""Types of health checks that no checker reports."""
SETTINGS_S: Final = 300.0
"""Time for which the settings of a health check are remembered. Seconds."""


class HealthChecks:
    """Reader of health checks."""

    def __init__(self, service: AwsService, clock: Clock) -> None:
        self._service = service
        self._clock = clock
        self._enabled: dict[str, tuple[float, bool]] = {}

    async def is_healthy(self, check: str) -> bool:
        """Return whether a health check passes. Raises port errors, also where it is not known."""
        if not await self._is_enabled(check):
            return True
        response = await self._service.call("GetHealthCheckStatus", check, HealthCheckId=check)
        what = f"AWS route53:GetHealthCheckStatus of {check}"
        with unavailable_if_malformed(what):
            reports = list_of(what, response, "HealthCheckObservations")
            passed = [str(report["StatusReport"]["Status"]).startswith("Success") for report in reports]
        if not passed:
            raise Unavailable(f"{what}: no checker has reported yet")
        return sum(passed) > MIN_HEALTHY_SHARE * len(passed)

    async def _is_enabled(self, check: str) -> bool:
        """Return whether the checkers decide; a disabled check always passes.

        Raises `Misconfigured` for a check whose result the checkers do not report.
        """
        at, enabled = self._enabled.get(check, (float("-inf"), False))
        if not 0.0 <= self._clock.now() - at < SETTINGS_S:
            response = await self._service.call("GetHealthCheck", check, HealthCheckId=check)
            with unavailable_if_malformed(f"AWS route53:GetHealthCheck of {check}"):
                config = response["HealthCheck"]["HealthCheckConfig"]
                kind, enabled = str(config["Type"]), not config.get("Disabled", False)
            if kind in WITHOUT_CHECKERS or config.get("Inverted"):
                words = "inverted" if config.get("Inverted") else f"of type {kind}"
                remedy = "give the record one that requests an endpoint, such as HTTPS"
                raise Misconfigured(f"Route 53 health check {check} is {words}, so its result cannot be read; {remedy}")
            self._enabled[check] = self._clock.now(), enabled
        return enabled
