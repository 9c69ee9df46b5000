"""Pauses of endless read loops after a failed read."""

from __future__ import annotations

from dataclasses import dataclass

from scaler.ports import Misconfigured, PortError, Unavailable


@dataclass(slots=True)
class Backoff:
    """Pauses in seconds after failed reads.

    A pause doubles from `first_s` to `max_s`. It is `misconfigured_s` where only a human can fix the error.

    A pause that the service requests replaces it, up to `misconfigured_s`. Example: `Backoff(1, 10, 30)` gives 1, 2,
    4, 8, 10 and 10 for six failures in a row, and 1 again after a success.
    """

    first_s: float
    max_s: float
    misconfigured_s: float
    failures: int = 0

    def pause_after_s(self, error: PortError) -> float:
        """Return the pause after a failed read. Seconds."""
        pause_s = min(self.max_s, self.first_s * 2 ** min(self.failures, 10))
        self.failures += 1
        if isinstance(error, Misconfigured):
            return self.misconfigured_s
        requested_s = error.retry_after_s if isinstance(error, Unavailable) else None
        return min(requested_s or pause_s, self.misconfigured_s)

    def succeeded(self) -> None:
        """Start again with the first pause."""
        self.failures = 0
