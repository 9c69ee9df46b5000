"""Long-running operations: later reads follow an accepted write, which is never awaited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds.azure.errors import error_of_code, error_text
from scaler.clouds.azure.session import Arm
from scaler.clouds.azure.virtual_machines import shortfall
from scaler.clouds.rest import RestResponse
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Misconfigured, PortError

ENDED: Final = frozenset({"Succeeded", "Failed", "Canceled"})


class Operation:
    """The last accepted write of one resource. `action` is the permission to read its result."""

    def __init__(self, arm: Arm, clock: Clock, action: str) -> None:
        self._arm = arm
        self._clock = clock
        self._action = action
        self._url = ""
        self._shortfall: Shortfall | None = None
        self._last_error = ""
        self.error: PortError | None = None
        """Why the accepted write failed; None while it may succeed."""

    @property
    def in_progress(self) -> bool:
        return bool(self._url)

    def follow(self, response: RestResponse) -> None:
        """Follow an accepted write instead of an earlier one."""
        self.follow_url(response.headers.get("Azure-AsyncOperation") or response.headers.get("Location") or "")

    def follow_url(self, url: str) -> None:
        """Follow the operation at a URL of Azure instead of an earlier one."""
        self._url = url
        self._shortfall = self.error = None
        self._last_error = ""

    async def shortfall(self) -> Shortfall | None:
        """Return why the accepted write failed; None while it may succeed.

        A failed read is repeated later.
        """
        if self._url:
            try:
                response = await self._arm.follow(self._action, self._url)
            except Misconfigured:  # dropped by Azure, or unreadable: the resource itself shows the result
                self._url = ""
            except PortError:
                pass
            else:
                self._update(response)
        return self._shortfall

    def _update(self, response: RestResponse) -> None:
        status = response.body.get("status") or ("Succeeded" if response.status == 200 else "")
        if status not in ENDED:
            return
        self._url = ""
        if status != "Succeeded":
            self._fail(response.body, seconds_of(response.body.get("endTime"), self._clock.now()))

    def report_failure(self, error: Mapping[str, Any]) -> Shortfall | None:
        """Record a failure that the resource itself reports, as after a restart.

        An unchanged failure is ignored.
        """
        if not self._url and self._shortfall is None and str(error) != self._last_error:
            self._fail(error, self._clock.now())
        return self._shortfall

    def _fail(self, body: Mapping[str, Any], at: float) -> None:
        self._last_error = str(body)
        code, message = error_text(body)
        code = code or ("OperationCanceled" if body.get("status") == "Canceled" else "")
        text = f"{code or 'Failed'}: {message}".rstrip(": ")
        self.error = error_of_code(code, text)
        self._shortfall = shortfall(code, text, at)
