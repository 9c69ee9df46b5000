"""Base class of routes on AWS, which remember their own weights.

AWS takes no precondition for a write of weights, and records no writer.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

from policies.model import Fresh
from policies.model.names import BackendName
from policies.model.route import RouteDecision, RouteStatus
from scaler.clouds.aws.connection import AwsConnection
from scaler.clouds.foreign_writes import ForeignChangeDetector
from scaler.clouds.response_validation import validated
from scaler.ports import Misconfigured, Unavailable
from scaler.routes.weighted_entries import split_text

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context


class AwsRouteActuator(AwsConnection):
    """The port of a route. `what` names the object with the weights in errors."""

    def __init__(self, account: AwsAccount, other_writer_yield_s: float, context: Context, what: str) -> None:
        super().__init__(account, context)
        self._what = what
        self._own_writes = ForeignChangeDetector[str](context.clock, other_writer_yield_s, what)

    @validated("AWS")
    async def status(self) -> Fresh[RouteStatus]:
        await self._ensure_open()
        at = self._context.clock.now()
        status = await self._status()
        other_writer = self._own_writes.observe(split_text(status.weights))
        return Fresh(dataclasses.replace(status, other_writer=other_writer), at)

    @validated("AWS")
    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        await self._ensure_open()
        if not split.weights:
            raise Misconfigured(f"{self._what} cannot reject requests with Retry-After: set zero_replicas to hold")
        present = split_text(in_use(await self._weights()))
        self._own_writes.check(present, split_text(observed.weights))
        wanted = split_text(in_use(split.weights))
        self._own_writes.expect(wanted)
        written = split_text(in_use(await self._write(split.weights)))
        if written != wanted:
            raise Unavailable(f"{self._what} has {written} after a write of {wanted}; the next tick reads it again")
        self._own_writes.confirm(wanted)

    @abstractmethod
    async def _status(self) -> RouteStatus:
        """Return the state without other writers. Raises port errors."""

    @abstractmethod
    async def _weights(self) -> Mapping[BackendName, int]:
        """Return the present weights, and remember the object for a write.

        Raises port errors.
        """

    @abstractmethod
    async def _write(self, weights: Mapping[BackendName, int]) -> Mapping[BackendName, int]:
        """Write the weights into the object as last read, and return those that AWS reports.

        Raises port errors.
        """


def in_use(weights: Mapping[BackendName, int]) -> dict[BackendName, int]:
    """Return the weights of the backends that get requests."""
    return {name: weight for name, weight in weights.items() if weight > 0}
