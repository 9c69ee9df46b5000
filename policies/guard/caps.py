"""The guard before stabilization: caps on the need, so that windows and steps still apply."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from policies.guard.budget import cap_need
from policies.guard.slo_feasibility import limit_latency_growth

if TYPE_CHECKING:
    from policies.recommend.context import SizeRule

CAPS: Final[tuple[SizeRule, ...]] = (limit_latency_growth, cap_need)
"""Growth that would not help is cut first; budgets cap the remaining need."""
