"""The port through which pools start, drain and end replicas of the engine simulation."""

from __future__ import annotations

from typing import Protocol


class ServingEngines(Protocol):
    """Replicas of the kernel, as a pool uses them. Times are picoseconds from the world's start."""

    @property
    def now_ps(self) -> int:
        """The present time."""

    def add(self, model: int, key: int) -> int:
        """Add a replica of service model `model`, not serving yet, and return its number.

        `key` seeds its noise.
        """

    def start(self, replica: int) -> None:
        """Let it take requests from now on."""

    def drain(self, replica: int) -> None:
        """Stop giving it requests. It finishes those it has."""

    def kill(self, replica: int) -> int:
        """End a replica now; return the number of requests lost."""

    def outstanding(self, replica: int) -> int:
        """Return the number of requests waiting, running or leaving there now."""

    def emptied_ps(self, replica: int) -> int:
        """Return when a draining replica became empty; -1 while it has requests."""
