"""Invariants of every tick of every workload: a table of small functions, each with its sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.fuzz.worlds import evidence, manual_override, records, settings, supply, zero_invariants
from tests.fuzz.worlds.tick_context import TickContext

Invariant = Callable[[TickContext], str | None]
"""Function that describes what is wrong with a tick, or returns None. Its docstring is the invariant."""
INVARIANTS: Final[tuple[Invariant, ...]] = (
    evidence.no_scale_in_without_evidence,
    evidence.false_zeros_lower_nothing,
    zero_invariants.repeated_false_zeros_lower_nothing,
    evidence.growth_has_a_reason,
    evidence.growth_has_evidence,
    evidence.fresh_readings_are_valid,
    evidence.errors_have_no_fresh_reading,
    settings.within_the_workloads_bounds,
    settings.within_the_pools_bounds,
    settings.only_own_pools_are_resized,
    settings.growth_by_steps,
    settings.shrinking_by_steps,
    settings.growth_window,
    settings.scale_down_window,
    settings.tolerance,
    settings.work_keeps_a_replica,
    settings.work_starts_a_replica,
    settings.zero_is_earned,
    settings.rest_comes,
    manual_override.within_budgets,
    manual_override.within_the_blast_radius,
    manual_override.maintenance_holds,
    manual_override.override_is_obeyed,
    supply.targets_are_whole_quanta,
    supply.quota_errors_are_respected,
    supply.failed_replicas_are_replaced_elsewhere,
    records.sizes_add_up,
    records.reasons_are_given,
    records.outcomes_match,
    records.numbers_are_finite,
    records.journal_round_trip,
    records.decided_again_is_the_same,
    records.ticks_are_one_interval_apart,
)


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that does not hold: its name, its sentence, and the observed violation."""

    name: str
    sentence: str
    details: str


def broken(context: TickContext, invariants: Sequence[Invariant] = INVARIANTS) -> Iterator[Violation]:
    """Yield every invariant that a tick violates."""
    for invariant in invariants:
        details = invariant(context)
        if details is not None:
            yield Violation(invariant.__name__, sentence(invariant), details)


def sentence(invariant: Invariant) -> str:
    """Return the invariant as a sentence: the first paragraph of its docstring."""
    return (inspect.getdoc(invariant) or "").partition("\n\n")[0].replace("\n", " ")
