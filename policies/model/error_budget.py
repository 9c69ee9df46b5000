"""The error budget of an SLO: its requests and burn rates, as measured at one tick.

Terms of Google's SRE workbook, chapter "Alerting on SLOs". The error budget is the share of requests that may miss the
SLO. The burn rate of a window is the late share in it over that allowed share. Example: a share of 0.99 allows 1 % late
requests, so that 2 % late requests are a burn rate of 2, which spends the budget of 28 days in 14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

MINUTE_S: Final = 60.0
HOUR_S: Final = 3600.0
DAY_S: Final = 86_400.0
BURN_WINDOWS_S: Final = (5 * MINUTE_S, 30 * MINUTE_S, HOUR_S, 6 * HOUR_S, 3 * DAY_S)
"""Windows of the burn rates, without the window of the error budget itself. Seconds."""
AT_RISK: Final = ((14.4, HOUR_S, 5 * MINUTE_S), (6.0, 6 * HOUR_S, 30 * MINUTE_S))
"""Burn rates above which the SLO is at risk, each with a long and a short window (seconds) that must both exceed it.

The workbook pages at these rates. A burn rate of 14.4 spends 2 % of the budget of 30 days in an hour, and one of 6
spends 5 % in 6 hours. The short window ends the state soon after the last late request."""

MIN_MEASURED_S: Final = HOUR_S
"""Time that must be measured before an SLO can be violated: a cold start of minutes does not judge 28 days. Seconds."""


class SloState(StrEnum):
    """The state of an SLO."""

    VIOLATED = "violated"
    AT_RISK = "at risk"
    UNKNOWN = "unknown"
    MET = "met"


class RequestCount(NamedTuple):
    """Requests, the late ones among them, and the time in which they were measured.

    `measured_s` is in seconds.
    """

    measured_s: float
    requests: float
    late: float


NOT_MEASURED: Final = RequestCount(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class ErrorBudget:
    """The error budget of one SLO at a tick.

    - `share`, `limits_s`: the SLO that was measured. A request that exceeds one of the limits (seconds) is late.
    - `since`: the time of the first measurement (Unix time); None before it.
    - `last`: the requests since the previous tick; a `measured_s` of 0 means that they are unknown.
    - `problem`: why they are unknown; empty where they are known.
    - `windows`: the requests of each window that ends at this tick, by its length in seconds, the shortest first. The
      last one is the window of the error budget.
    """

    share: float
    limits_s: Mapping[str, float]
    windows: Mapping[float, RequestCount]
    since: float | None = None
    last: RequestCount = NOT_MEASURED
    problem: str = ""

    @property
    def window_s(self) -> float:
        """The window of the error budget. Seconds."""
        return max(self.windows)

    @property
    def allowed_share(self) -> float:
        """The share of requests that may be late: 0.01 for a share of 0.99."""
        return round(1.0 - self.share, 12)

    def attainment(self, window_s: float) -> float | None:
        """Return the share of a window's requests that met the SLO; None without a request."""
        count = self.windows.get(window_s)
        return 1.0 - count.late / count.requests if count is not None and count.requests > 0 else None

    def burn_rate(self, window_s: float) -> float | None:
        """Return the burn rate of a window: 0 without a late request.

        None where nothing was measured in the window, and where the SLO allows no late request.
        """
        count, allowed_share = self.windows.get(window_s), self.allowed_share
        if count is None or count.measured_s <= 0 or allowed_share <= 0:
            return None
        return count.late / (allowed_share * count.requests) if count.requests > 0 else 0.0

    @property
    def remaining(self) -> float | None:
        """The share of the error budget that remains; negative where overspent.

        It is 1 minus the burn rate of its window. Example: of 1,000,000 requests in the window, 10,000 may be late and
        2,500 were: 0.75 of the budget remains.
        """
        burn_rate = self.burn_rate(self.window_s)
        return None if burn_rate is None else 1.0 - burn_rate

    @property
    def at_risk(self) -> bool | None:
        """Whether a burn rate of `AT_RISK` is exceeded in both of its windows.

        None where it is not exceeded as far as known, and a window is not measured.
        """
        exceeded = [self._exceed(burn_rate, windows_s) for burn_rate, *windows_s in AT_RISK]
        return True if True in exceeded else None if None in exceeded else False

    @property
    def violated(self) -> bool | None:
        """Whether no error budget remains in its window.

        None where less than `MIN_MEASURED_S` of it is measured.
        """
        count = self.windows[self.window_s]
        if count.measured_s < MIN_MEASURED_S:
            return None
        return count.late > 0 and count.late >= self.allowed_share * count.requests

    @property
    def state(self) -> SloState:
        """The state of the SLO, the most severe one that is known."""
        if self.violated:
            return SloState.VIOLATED
        if self.at_risk:
            return SloState.AT_RISK
        return SloState.UNKNOWN if self.violated is None or self.at_risk is None else SloState.MET

    def under(self, share: float, limits_s: Mapping[str, float], window_s: float) -> ErrorBudget | None:
        """Return this budget under another SLO.

        None where these limits or this window (seconds) were not measured.
        """
        if limits_s != self.limits_s or window_s != self.window_s:
            return None
        return self if share == self.share else replace(self, share=share)

    def _exceed(self, burn_rate: float, windows_s: Sequence[float]) -> bool | None:
        """Return whether all of these windows exceed a burn rate.

        None where one of them is not measured.
        """
        counts = [self.windows.get(window_s, NOT_MEASURED) for window_s in windows_s]
        if not all(count.measured_s > 0 for count in counts):
            return None
        return all(count.late > burn_rate * self.allowed_share * count.requests for count in counts)


def window_text(window_s: float) -> str:
    """Return a window in its largest whole unit: `5m`, `6h`, `28d`."""
    units = (("d", DAY_S), ("h", HOUR_S), ("m", MINUTE_S))
    unit, unit_s = next(((unit, s) for unit, s in units if window_s % s == 0), ("s", 1.0))
    return f"{window_s / unit_s:g}{unit}"
