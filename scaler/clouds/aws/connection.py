"""Base class of AWS adapters that write.

They open once credentials are available, and their permissions can be verified.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

from scaler.clouds.aws import permissions
from scaler.clouds.response_validation import validated
from scaler.ports import Permit, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context


class AwsConnection(ABC):
    """The services of an account that an adapter calls."""

    def __init__(self, account: AwsAccount, context: Context) -> None:
        self._account = account
        self._context = context
        self._open = False

    async def connect(self) -> Self:
        """Open the services, unless the credentials' provider is not up yet: every tick retries."""
        with contextlib.suppress(Unavailable):
            await self._ensure_open()
        return self

    @validated("AWS")
    async def permits(self) -> Sequence[Permit]:
        """Return IAM's answer for each action of this adapter."""
        await self._ensure_open()
        return await permissions.check_permissions(self._context, self._account, self._actions())

    async def _ensure_open(self) -> None:
        if not self._open:
            await self._connect()
            self._open = True

    @abstractmethod
    async def _connect(self) -> None:
        """Open the services. Raises port errors."""

    @abstractmethod
    def _actions(self) -> Mapping[str, str]:
        """Return the IAM actions that this adapter needs, each with its resource's ARN."""
