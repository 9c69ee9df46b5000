"""Long-running operations: an accepted write is followed by later reads, never waited for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds.azure.errors import error_text
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
        self._reported = ""

    @property
    def under_way(self) -> bool:
        return bool(self._url)

    def accepted(self, answer: RestResponse) -> None:
        """Follow a write that was accepted, in place of an earlier one."""
        self._url = answer.headers.get("Azure-AsyncOperation") or answer.headers.get("Location") or ""
        self._shortfall = None
        self._reported = ""

    async def shortfall(self) -> Shortfall | None:
        """Return why the accepted write brings no machines; None while it may.

        An operation that cannot be read is read again later.
        """
        if self._url:
            try:
                answer = await self._arm.follow(self._action, self._url)
            except Misconfigured:  # forgotten by Azure, or not ours to read: the resource itself tells enough
                self._url = ""
            except PortError:
                pass
            else:
                self._end(answer)
        return self._shortfall

    def _end(self, answer: RestResponse) -> None:
        status = answer.body.get("status") or ("Succeeded" if answer.status == 200 else "")
        if status not in ENDED:
            return
        self._url = ""
        if status == "Failed":
            self._fail(answer.body, seconds_of(answer.body.get("endTime"), self._clock.now()))

    def failed(self, error: Mapping[str, Any]) -> Shortfall | None:
        """Take a failure that the resource itself reports, as after a restart.

        The same one again is no news.
        """
        if not self._url and self._shortfall is None and str(error) != self._reported:
            self._fail(error, self._clock.now())
        return self._shortfall

    def _fail(self, body: Mapping[str, Any], at: float) -> None:
        self._reported = str(body)
        code, message = error_text(body)
        self._shortfall = shortfall(code, f"{code or 'Failed'}: {message}".rstrip(": "), at)
