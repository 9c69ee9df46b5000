"""The share of late requests to plan for, steered by the burn rate of the error budget.

An SLO of 99 % allows one late request in a hundred. A fifth of that is planned for, since the forecast does not contain
everything: a jump of the demand that nothing announced spends the rest. While the budget burns faster than it may, the
planned share falls, and it rises slowly afterwards. Where less than half of the budget remains, it stays low. If more
remains after six hours, such jumps are rare, and up to four fifths of the allowed share are planned for. So a full
budget is not spent on purpose in one night: the plan alone never spends all of it.

Example: an allowed share of 1 % plans for 0.2 %. At a burn rate of 1.9 over the last hour the level rises by
ln(1.9 / 0.7) = 1.0 per hour, and after an hour 0.2 % / 4 = 0.05 % are planned. Then a calm hour lowers it by 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.model.error_budget import HOUR_S

if TYPE_CHECKING:
    from policies.model import ErrorBudget

PLANNED_RATIO: Final = 0.2
"""Planned late requests over the allowed ones at level 0. With 0.5, costs are 3 % lower and 4 of 10 cases miss 99 %,
with 0.2, 2 of 10 do (azure-conv, azure-code, servegen-mid, nasa and worldcup, starts of 90 and 300 s)."""
LEVEL_FACTOR: Final = 4.0
"""A level more divides the planned share by this."""
MIN_LEVEL, MAX_LEVEL = -1.0, 2.0
"""The planned share is at most four times and at least a sixteenth of that at level 0: below it, a late request shows a
wrong model."""
TARGET_BURN_RATE: Final = 0.7
"""The level is steady at this burn rate over the last hour."""
LEVEL_TIME_S: Final = 3600.0
"""The level moves by 1 in this time, at a push of 1 (a burn rate of e times the target). Seconds."""
MAX_PUSH: Final = 2.0
"""The level rises at most this many times as fast as it falls: late requests cost more than idle replicas."""
FULL_BUDGET: Final = 0.5
"""The level has a lower bound by the error budget left: 1 with none, 0 with this share, -1 with all."""
TRUSTED_S: Final = 6 * HOUR_S
"""A negative level is allowed in proportion to the measured time, up to this. Costs are 1.4 % lower than with a lower
bound of 0, at an equal attainment (azure-conv, servegen-small and -mid, nasa, taxi and worldcup, starts of 90 and
300 s). Seconds."""


@dataclass(frozen=True, slots=True)
class SloMargin:
    """The level of the margin: 0 at first, lower with a budget to spare, up to `MAX_LEVEL`."""

    level: float = 0.0

    def after(self, budget: ErrorBudget | None, interval_s: float) -> SloMargin:
        """Return the margin after a tick of `interval_s` with this error budget.

        The level stays where the burn rate of the last hour is unknown.

        Example: a push of 1 moves the level by 15 / 3600 = 0.004 in a tick of 15 s. With 20 % of the budget left, the
        level is at least 1 - 0.2 / 0.5 = 0.6. With 90 % left after three hours, it is at least
        (1 - 0.9 / 0.5) * 3 / 6 = -0.4.
        """
        burn_rate = None if budget is None else budget.burn_rate(HOUR_S)
        if budget is None or burn_rate is None:
            return self
        push = math.log(max(burn_rate, 1e-9) / TARGET_BURN_RATE)
        level = self.level + max(-1.0, min(MAX_PUSH, push)) * interval_s / LEVEL_TIME_S
        known = budget.remaining
        remaining = 1.0 if known is None else max(0.0, known)
        lowest = 1.0 - remaining / FULL_BUDGET
        if lowest < 0.0:
            lowest *= min(1.0, budget.windows[budget.window_s].measured_s / TRUSTED_S)
        return SloMargin(min(MAX_LEVEL, max(lowest, level)))

    def planned_share(self, allowed_share: float) -> float:
        """Return the share of late requests to plan for."""
        return allowed_share * PLANNED_RATIO * float(LEVEL_FACTOR**-self.level)

    def memory(self) -> dict[str, float]:
        return {"margin.level": self.level}

    @staticmethod
    def from_memory(memory: Mapping[str, float]) -> SloMargin:
        level = memory.get("margin.level", 0.0)
        return SloMargin(level if MIN_LEVEL <= level <= MAX_LEVEL else 0.0)
