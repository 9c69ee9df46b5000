"""What must hold in every turn of every workload: a table of small functions, each with its sentence."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.fuzz.worlds import evidence, manual_override, records, settings, supply, zero_invariants
from tests.fuzz.worlds.turn import Turn

Invariant = Callable[[Turn], str | None]
"""What is wrong with a turn, in words; None where nothing is. Its docstring is what must hold."""
INVARIANTS: Final[tuple[Invariant, ...]] = (
    evidence.blind_never_scales_down,
    evidence.lies_are_outlasted,
    zero_invariants.liars_are_outlasted,
    evidence.growth_has_a_reason,
    evidence.growth_has_evidence,
    evidence.fresh_is_fresh,
    evidence.failures_are_told,
    settings.within_the_workloads_bounds,
    settings.within_the_pools_bounds,
    settings.hands_off,
    settings.growth_by_steps,
    settings.shrinking_by_steps,
    settings.growth_window,
    settings.scale_down_window,
    settings.tolerance,
    settings.work_keeps_a_replica,
    settings.work_wakes,
    settings.zero_is_earned,
    settings.rest_comes,
    manual_override.within_budgets,
    manual_override.within_the_blast_radius,
    manual_override.maintenance_holds,
    manual_override.a_hand_is_obeyed,
    supply.targets_are_whole_quanta,
    supply.quotas_are_heeded,
    supply.failed_is_no_supply,
    records.sizes_add_up,
    records.reasons_are_given,
    records.outcomes_match,
    records.numbers_are_finite,
    records.the_journal_keeps_it,
    records.decided_again_is_the_same,
    records.turns_follow_each_other,
)


@dataclass(frozen=True, slots=True)
class Broken:
    """An invariant that does not hold: its name, its sentence, and what was found."""

    name: str
    sentence: str
    found: str


def broken(turn: Turn, invariants: Sequence[Invariant] = INVARIANTS) -> Iterator[Broken]:
    """Every invariant that a turn breaks."""
    for invariant in invariants:
        found = invariant(turn)
        if found is not None:
            yield Broken(invariant.__name__, sentence(invariant), found)


def sentence(invariant: Invariant) -> str:
    """What must hold, in a sentence: the first paragraph of the docstring."""
    return (inspect.getdoc(invariant) or "").partition("\n\n")[0].replace("\n", " ")
