"""Base class of AWS actuators, which remember their own writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from policies.model import Fresh, PoolStatus, Shortfall
from scaler.clouds.aws import instances, permissions, reservations
from scaler.clouds.aws.connection import AwsConnection
from scaler.clouds.aws.notices import open_notices
from scaler.clouds.aws.writes import IdempotencyTokens
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.response_validation import validated
from scaler.ports import Permit

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.clouds.aws.instances import Ec2Instance
    from scaler.clouds.aws.notices import AwsNoticeListener
    from scaler.config.kinds.aws_pools import AwsPool
    from scaler.ports import Context


class AwsActuator(AwsConnection):
    """The actuator's port. `what` names the resized object in errors."""

    def __init__(self, account: AwsAccount, other_writer_yield_s: float, context: Context, what: str) -> None:
        super().__init__(account, context)
        self._what = what
        self._writes = ForeignWriteDetector(context.clock, other_writer_yield_s, what)

    @validated("AWS")
    async def status(self) -> Fresh[PoolStatus]:
        await self._ensure_open()
        return await self._status()

    @validated("AWS")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        await self._ensure_open()
        await self._resize(replicas, observed)

    @abstractmethod
    async def _status(self) -> Fresh[PoolStatus]: ...

    @abstractmethod
    async def _resize(self, replicas: int, observed: PoolStatus) -> None: ...


class AwsResizer(AwsActuator):
    """An actuator of EC2 instances, with their interruption notices and reservations."""

    def __init__(self, spec: AwsPool, context: Context, what: str) -> None:
        super().__init__(spec.account, spec.other_writer_yield_s, context, what)
        self._pool = spec
        self._tokens = IdempotencyTokens()
        self._interruptions: InterruptionTracker | None = None
        self._reserved = reservations.Reserved((), None)
        self._listeners: tuple[AwsNoticeListener, ...] = ()

    @validated("AWS")
    async def permits(self) -> Sequence[Permit]:
        """Return IAM's answer for each action of this pool, and whether notices can be read."""
        await self._ensure_open()
        account, actions = self._pool.account, dict(self._actions())
        if self._pool.reservation:
            actions["ec2:DescribeCapacityReservations"] = "*"
        actions |= self._pool.notices.actions(account.region)
        failed = [p for p in (listener.failed_permit() for listener in self._listeners) if p is not None]
        simulated = await permissions.check_permissions(self._context, account, actions)
        return [*(p for p in simulated if p.action not in {r.action for r in failed}), *failed]

    async def _ensure_open(self) -> None:
        if not self._open:
            await self._connect()
            pool, context = self._pool, self._context
            sources = await open_notices(context, pool.account, pool.notices)
            self._interruptions, self._listeners = InterruptionTracker(sources.board), sources.listeners
            self._reserved = await reservations.reserved(context, pool.account, pool.reservation)
            self._open = True

    async def _pool_status(
        self, at: float, desired: int, machines: Sequence[Ec2Instance], shortfall: Shortfall | None, **fields: Any
    ) -> Fresh[PoolStatus]:
        """Return the status of a pool of these machines.

        `fields` may override the detected `other_writer`.
        """
        assert self._interruptions is not None  # noqa: S101 - open by now
        self._tokens.keep_only(desired)
        reserved = await self._reserved.count()
        if "other_writer" not in fields:
            fields["other_writer"] = self._writes.observe(desired)
        return Fresh(
            instances.pool_status(desired, machines, self._interruptions, shortfall, reserved=reserved, **fields), at
        )
