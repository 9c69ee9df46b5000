"""Summary of a run by workload: sizes, money, SLO attainment and interruptions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from policies.model import ErrorBudget, PoolName, Result, SloState, Tick, WorkloadName
from policies.model.spec import WorkloadSpec
from scaler.journal.explain import budget_text
from scaler.shadow.counterfactual import ShadowTotals
from scaler.telemetry.dashboard.interruptions import new_interruptions

MAX_GAP_INTERVALS: Final = 4.0
"""A longer gap between two ticks counts as one interval: no tick observed it."""
HOUR_S: Final = 3600.0
COLUMNS: Final = (
    "workload", "ticks", "failed", "errors", "blind", "resizes", "interrupted", "replicas", "SLO attainment", "cost",
)  # fmt: skip
MISSED: Final = (SloState.VIOLATED, SloState.AT_RISK)
DRY_RUN: Final = "Dry run: no pool was resized. Replicas and cost are those of the decisions."


@dataclass(slots=True)
class Cost:
    """Cost of the decided sizes over `known_s`. Over `unknown_s` it is unknown.

    `has_prices` is False where a pool without a price is the reason.
    """

    usd: float = 0.0
    known_s: float = 0.0
    unknown_s: float = 0.0
    has_prices: bool = True

    def add(self, tick: Tick, spec: WorkloadSpec, over_s: float) -> None:
        """Add the cost of a tick's decision over a period."""
        usd_per_hour = tick.decision.cost_usd_per_hour
        if usd_per_hour is None:
            self.unknown_s += over_s
            self.has_prices &= all(pool.price_usd_per_hour is not None for pool in spec.pools.values())
        else:
            self.usd += usd_per_hour * over_s / HOUR_S
            self.known_s += over_s

    def text(self) -> str:
        """Return the cost as text. It is a lower bound where it is unknown for a part of the time."""
        if self.known_s:
            return f"{'at least ' if self.unknown_s else ''}${self.usd:,.2f}"
        if not self.has_prices:
            return "unknown (no price_usd_per_hour)"
        return "unknown (the size of a pool is unknown)" if self.unknown_s else "unknown (fewer than two ticks)"


def total_cost(costs: Sequence[Cost]) -> Cost:
    """Return the sum of costs."""
    usd, known_s, unknown_s = (math.fsum(getattr(c, part) for c in costs) for part in ("usd", "known_s", "unknown_s"))
    return Cost(usd, known_s, unknown_s, all(c.has_prices for c in costs))


@dataclass(slots=True)
class WorkloadTotals:
    """Running totals of one workload: a daemon runs for months.

    - `ticks`: recorded ticks; `failed`: ticks that a defect ended, which are not recorded.
    - `errors`: ticks with a failed read or a refused write; `blind`: ticks without full evidence.
    - `cost`: the cost until the last tick.
    - `requests`, `late`: the requests that the sources reported, and those of them that missed the SLO.
    - `error_budget`: the error budget at the last tick.
    """

    ticks: int = 0
    failed: int = 0
    errors: int = 0
    blind: int = 0
    results: Counter[Result] = field(default_factory=Counter)
    interruptions: int = 0
    sized: int = 0
    total: int = 0
    smallest: int | None = None
    largest: int | None = None
    current: int | None = None
    cost: Cost = field(default_factory=Cost)
    requests: float = 0.0
    late: float = 0.0
    slo_share: float | None = None
    error_budget: ErrorBudget | None = None
    dry_run: bool = False
    _last: tuple[Tick, WorkloadSpec] | None = None
    _counters: dict[PoolName, int] = field(default_factory=dict)

    def add(self, tick: Tick, spec: WorkloadSpec) -> None:
        self.ticks += 1
        self.errors += has_errors(tick)
        self.blind += not tick.decision.may_scale_in
        self.results.update(o.result for o in tick.outcomes)
        self.slo_share = None if spec.slo is None else spec.slo.share
        self.dry_run |= tick.dry_run
        self._add_size(tick.decision.target)
        self.interruptions += sum(n for _, n in new_interruptions(tick, self._counters))
        self.error_budget = budget = tick.observation.error_budget
        if budget is not None:
            self.requests += budget.last.requests
            self.late += budget.last.late
        if self._last is not None:
            self._add_period(*self._last, tick.at - tick.clock_step_s - self._last[0].at)
        self._last = (tick, spec)

    def _add_size(self, size: int | None) -> None:
        if size is not None:
            self.sized += 1
            self.total += size
            self.smallest = size if self.smallest is None else min(self.smallest, size)
            self.largest = size if self.largest is None else max(self.largest, size)
            self.current = size

    def _add_period(self, tick: Tick, spec: WorkloadSpec, over_s: float) -> None:
        """Add the cost between a tick and the next one."""
        if over_s > MAX_GAP_INTERVALS * spec.interval_s:
            over_s = spec.interval_s
        self.cost.add(tick, spec, over_s)

    @property
    def slo_attainment(self) -> float | None:
        """Share of the reported requests that met the SLO; None if unknown."""
        return 1.0 - self.late / self.requests if self.requests > 0 else None

    @property
    def resizes(self) -> int:
        return self.results[Result.ACCEPTED]

    def as_dict(self) -> dict[str, int | float | str | None]:
        """Return the figures as JSON values, with None for unknown ones."""
        return {
            "ticks": self.ticks,
            "resized": self.resizes,
            "refused": sum(n for result, n in self.results.items() if result.refused),
            "blind": self.blind,
            "smallest": self.smallest,
            "largest": self.largest,
            "mean": round(self.total / self.sized, 1) if self.sized else None,
            "now": self.current,
            "failed": self.failed,
            "errors": self.errors,
            "interruptions": self.interruptions,
            "cost_usd": round(self.cost.usd, 4) if self.cost.known_s and not self.cost.unknown_s else None,
            "slo_attainment": None if self.slo_attainment is None else round(self.slo_attainment, 6),
            "slo_share": self.slo_share,
            "slo_state": None if self.error_budget is None else self.error_budget.state.value,
            "budget_remaining": None if self.error_budget is None else self.error_budget.remaining,
        }

    def cells(self) -> tuple[str, ...]:
        """Return the figures as text, in the order of `COLUMNS`."""
        counts = (self.ticks, self.failed, self.errors, self.blind, self.resizes, self.interruptions)
        return (*map(str, counts), self._sizes(), self._slo(), self.cost.text())

    def _sizes(self) -> str:
        if not self.sized:
            return "unknown"
        span = f"{self.smallest}" if self.smallest == self.largest else f"{self.smallest}-{self.largest}"
        return f"{span}, now {self.current}"

    def _slo(self) -> str:
        if self.slo_share is None:
            return "no slo is set"
        if self.slo_attainment is None:
            return "unknown (not measured)"
        verdict = "met" if self.slo_attainment >= self.slo_share else "missed"
        return f"{100 * self.slo_attainment:.2f} % of {100 * self.slo_share:g} %: {verdict}"


@dataclass(slots=True)
class RunSummary:
    """Totals of a run by workload, and the differences of its shadows."""

    workloads: dict[WorkloadName, WorkloadTotals] = field(default_factory=dict)
    shadows: dict[WorkloadName, ShadowTotals] = field(default_factory=dict)

    def add(self, tick: Tick, spec: WorkloadSpec) -> None:
        self.workloads.setdefault(tick.workload, WorkloadTotals()).add(tick, spec)

    def add_failed(self, ticks: Mapping[WorkloadName, int]) -> None:
        """Add the ticks that a defect ended, by workload."""
        for name, count in ticks.items():
            self.workloads.setdefault(name, WorkloadTotals()).failed += count

    def as_dict(self) -> dict[str, object]:
        shadows = {name: {"shadow": totals.as_dict()} for name, totals in self.shadows.items()}
        return {name: {**totals.as_dict(), **shadows.get(name, {})} for name, totals in sorted(self.workloads.items())}

    def text(self) -> str:
        """Return a table of the workloads, and lines below it.

        They have the total cost, spent error budgets, the shadows and a dry run.
        """
        totals = [t for _, t in sorted(self.workloads.items())]
        rows = [(name, *t.cells()) for name, t in sorted(self.workloads.items())]
        lines = aligned([COLUMNS, *rows])
        if len(totals) > 1:
            lines.append(f"cost of all workloads: {total_cost([t.cost for t in totals]).text()}")
        budgets = ((name, t.error_budget) for name, t in sorted(self.workloads.items()))
        lines += [f"{name}: SLO {budget_text(b)}" for name, b in budgets if b is not None and b.state in MISSED]
        lines += [f"shadow of {name}: {shadow.text()}" for name, shadow in sorted(self.shadows.items())]
        return "\n".join([*lines, *([DRY_RUN] if any(t.dry_run for t in totals) else [])])


def has_errors(tick: Tick) -> bool:
    """Return whether a read of a tick failed or a write was refused."""
    observation = tick.observation
    return bool(observation.source_errors or observation.pool_errors) or any(o.result.refused for o in tick.outcomes)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows with aligned columns: texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = [all(cell.isdecimal() for cell in column[1:]) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in rows
    ]
