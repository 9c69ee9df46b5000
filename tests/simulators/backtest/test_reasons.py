"""Reasons of sizes: deciding rules are counted, the largest changes kept, and overrides measured."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import Decision, RuleId, Step
from policies.model.limits import Override
from simulators.backtest.reasons import MAX_CHANGES, Reasons, deciding_rule, override_change
from tests.factories import NOW, live, queue, spec

DECISION = live(spec(), [queue(40)])[0]


def changed(at: float, before: int | None, after: int | None, rule: RuleId = RuleId.DEMAND) -> Decision:
    steps = (Step(rule, after, f"{rule} makes it {after}"),)
    return dataclasses.replace(DECISION, at=at, current=before, target=after, steps=steps)


def test_the_deciding_rule_is_counted_with_its_last_reason() -> None:
    reasons = Reasons()
    for k, rule in enumerate([RuleId.DEMAND, RuleId.STEP, RuleId.DEMAND]):
        reasons.record(changed(NOW + k, 2, 2 + k, rule))
    assert {name: (r.ticks, r.changes) for name, r in reasons.rules.items()} == {"demand": (2, 1), "step": (1, 1)}
    assert reasons.rules["demand"].reason == "demand makes it 4"
    assert reasons.rules["demand"].at == NOW + 2


def test_an_unknown_size_is_not_a_change() -> None:
    reasons = Reasons()
    reasons.record(changed(NOW, None, None))
    reasons.record(changed(NOW, 3, None))
    assert (reasons.ups, reasons.downs, reasons.largest) == (0, 0, [])


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=60))
def test_the_largest_changes_are_kept_and_all_are_counted(sizes: list[tuple[int, int]]) -> None:
    reasons = Reasons()
    for k, (before, after) in enumerate(sizes):
        reasons.record(changed(NOW + k, before, after))
    by = sorted((abs(b - a) for a, b in sizes if a != b), reverse=True)
    assert reasons.ups + reasons.downs == len(by)
    assert sorted((c.replicas for c in reasons.largest), reverse=True) == by[:MAX_CHANGES]
    assert [c.at for c in reasons.largest] == sorted(c.at for c in reasons.largest)


@pytest.mark.parametrize(
    ("until", "replicas", "moved"),
    [
        pytest.param("2100-01-01T00:00:00Z", 9, 5.0, id="in force"),
        pytest.param("2100-01-01T00:00:00Z", 4, 0.0, id="the same size"),
        pytest.param("2001-01-01T00:00:00Z", 9, 0.0, id="ended"),
    ],
)
def test_an_override_counts_by_its_change_of_the_size(until: str, replicas: int, moved: float) -> None:
    """A decision of the real guard: 40 messages at 10 per replica need four replicas."""
    held = spec(override=Override(replicas=replicas, until=until, reason="launch"))
    decision = live(held, [queue(40)], start=4)[-1]
    assert any(step.rule == RuleId.OVERRIDE for step in decision.steps)
    assert override_change(decision) == moved


def test_without_an_override_its_change_is_zero() -> None:
    assert override_change(DECISION) == 0.0


def test_rules_that_split_a_size_over_pools_do_not_decide_it() -> None:
    steps = (
        Step(RuleId.DEMAND, 4, "queue wants 4"),
        Step(RuleId.STEP, 3, "at most 1 more"),
        Step(RuleId.COST_ALLOCATION, 3, "spot 3"),
    )
    assert deciding_rule(dataclasses.replace(DECISION, steps=steps)) == ("step", "at most 1 more")
    assert deciding_rule(dataclasses.replace(DECISION, steps=steps[2:])) == ("cost allocation", "spot 3")
    assert deciding_rule(dataclasses.replace(DECISION, steps=()))[0] == "none"
