"""The store of leases, as each kind of lease implements it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from scaler.config.high_availability import HighAvailability
from scaler.leases.protocol import Claim, Record
from scaler.ports import Permit
from scaler.registry import Kind

SETTINGS: Final = "scaler.config.high_availability:LeaseSettings"
KINDS: Final = {
    "kubernetes": Kind(SETTINGS, "scaler.clouds.kubernetes.leases:open_leases", "kubernetes"),
    "postgresql": Kind(SETTINGS, "scaler.clouds.postgresql.leases:open_leases", "postgresql"),
}
"""Stores by the kind of lease. `open` opens one."""

MAX_DURATION_S: Final = 3600.0
"""Maximum duration that is read from a record: a wrong one must not keep a shard forever. Seconds."""

Observe = Callable[[str, Record | None], None]
"""Called with the name and the record of a changed lease; None for a deleted one."""


@dataclass(frozen=True, slots=True)
class LeaseNames:
    """The names of an installation's leases."""

    prefix: str

    @classmethod
    def of(cls, spec: HighAvailability) -> LeaseNames:
        return cls(spec.name)

    def shard(self, shard: int) -> str:
        return f"{self.prefix}-shard-{shard}"

    def member(self, identity: str) -> str:
        return f"{self.prefix}-member-{identity}"

    def fleet(self) -> str:
        return f"{self.prefix}-fleet"

    def is_member(self, name: str) -> bool:
        return name.startswith(f"{self.prefix}-member-")

    def shard_number(self, name: str) -> int | None:
        """Return the number of a shard's lease; None for another one."""
        number = name.removeprefix(f"{self.prefix}-shard-")
        return int(number) if number != name and number.isdecimal() and len(number) <= 4 else None


class LeaseStore(Protocol):
    """Leases with optimistic concurrency. Each method raises port errors."""

    async def list(self) -> Mapping[str, Record]:
        """Return all leases by name, as the store holds them after the call began."""

    async def get(self, name: str) -> Record | None: ...

    async def put(self, name: str, claim: Claim) -> Record:
        """Write a claim and return the stored record. Raises `Conflict` for another version."""

    async def delete(self, name: str, version: str) -> None:
        """Delete a lease that still has `version`, if there is one."""

    def watch(self, observe: Observe) -> None:
        """Begin to report changes to `observe`."""

    async def permits(self) -> Sequence[Permit]:
        """Return a permit for each needed action, without a write."""


def limited_duration_s(value: object) -> float:
    """Return the duration of a record, at most `MAX_DURATION_S`; that one where it has none."""
    return min(float(value), MAX_DURATION_S) if isinstance(value, int | float) and value > 0 else MAX_DURATION_S
