"""The port through which pools drive the engines that they pay for."""

from __future__ import annotations

from typing import Protocol


class Engines(Protocol):
    """The kernel's replicas, as a pool sees them. Times are picoseconds from the world's start."""

    @property
    def now_ps(self) -> int:
        """The present time."""

    def add(self, model: int, key: int) -> int:
        """A new replica of service model number `model`, not serving yet; its number. `key` seeds its own noise."""

    def start(self, replica: int) -> None:
        """From now on it takes requests."""

    def drain(self, replica: int) -> None:
        """From now on it takes no requests, and finishes those it has."""

    def kill(self, replica: int) -> int:
        """End a replica now; return the number of requests cut."""

    def outstanding(self, replica: int) -> int:
        """Return the requests waiting, running or leaving there now."""

    def emptied_ps(self, replica: int) -> int:
        """When a draining replica became empty (at once, if it was); -1 while it is not."""
