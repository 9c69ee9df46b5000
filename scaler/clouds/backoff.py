"""Pauses of loops that read a service without end, after a read that failed."""

from __future__ import annotations

from dataclasses import dataclass

from scaler.ports import Misconfigured, PortError, Unavailable


@dataclass(slots=True)
class Backoff:
    """Pauses in seconds: doubled from `first_s` to `longest_s`, or `human_s` where only a human can mend the failure.

    A pause that the service requests counts instead, up to `human_s`. Example: `Backoff(1, 10, 30)` gives 1, 2, 4, 8,
    10 and 10 for six failures in a row, and 1 again after a success.
    """

    first_s: float
    longest_s: float
    human_s: float
    failures: int = 0

    def after(self, error: PortError) -> float:
        """Return the pause after a failure."""
        pause_s = min(self.longest_s, self.first_s * 2 ** min(self.failures, 10))
        self.failures += 1
        if isinstance(error, Misconfigured):
            return self.human_s
        requested_s = error.retry_after_s if isinstance(error, Unavailable) else None
        return min(requested_s or pause_s, self.human_s)

    def succeeded(self) -> None:
        """Begin again with the first pause."""
        self.failures = 0
