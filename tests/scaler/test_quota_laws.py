"""Properties of a fleet that hold for any workloads, overlapping ticks and failing writes."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest
from hypothesis import given

from policies.history.ticks import History
from policies.pipeline import decide
from scaler.journal.codec import decode_tick, encode_tick
from tests.laws import law
from tests.scaler.fleets import FleetLife, fleets

FLEET = law(40)
CENT = 1e-6


@pytest.mark.slow
@FLEET
@given(fleets())
def test_growth_never_exceeds_the_fleet_budgets(life: FleetLife) -> None:
    """A workload that was never read counts as its maximum, within its own budget: more than that is not known."""
    for change in life.changes:
        limits = (life.limits.max_gpus, life.limits.max_usd_per_hour)
        unknown = (change.unread_excess, 0.0)
        for limit, before, after, more in zip(limits, change.before, change.after, unknown, strict=True):
            assert limit is None or after <= max(limit + more, before) + CENT


@pytest.mark.slow
@FLEET
@given(fleets())
def test_growth_never_exceeds_the_workload_budget(life: FleetLife) -> None:
    for member in life.members:
        budget, pools = member.spec.budget.gpus, member.spec.pools
        for tick in member.ticks if budget is not None else ():
            previous_sizes = {o.pool: o.before for o in tick.outcomes}
            targets = {o.pool: o.after for o in tick.outcomes}
            before, after = (
                sum(n * pools[p].gpus_per_replica for p, n in s.items()) for s in (previous_sizes, targets)
            )
            assert after <= max(budget or 0, before)


@pytest.mark.slow
@FLEET
@given(fleets())
def test_removals_in_any_window_stay_within_the_fleet_blast_radius(life: FleetLife) -> None:
    radius = life.limits.blast_radius
    if radius.share == 1.0:
        return
    changes = sorted(life.changes, key=lambda c: c.at)
    for i, change in enumerate(changes):
        before = [c for c in changes[:i] if c.at >= change.at - radius.window_s]
        removed = sum(max(0, c.removed) for c in before)
        largest = max(c.requested for c in (*before, change))
        assert change.removed <= 0 or removed + change.removed <= max(change.quantum, radius.share * largest)


@pytest.mark.slow
@FLEET
@given(fleets())
def test_removals_in_any_window_stay_within_the_workload_blast_radius(life: FleetLife) -> None:
    for member in life.members:
        radius = member.spec.blast_radius
        for i, tick in enumerate(member.ticks if radius.share < 1.0 else ()):
            window = [t for t in member.ticks[: i + 1] if t.at >= tick.at - radius.window_s]
            sizes = [sum(o.before for o in t.outcomes) for t in window] + [sum(o.after for o in tick.outcomes)]
            removed = sum(max(0, a - b) for a, b in itertools.pairwise(sizes))
            shrank = [o.pool for o in tick.outcomes if o.after < o.before]
            quantum = member.spec.pools[shrank[0]].quantum if len(shrank) == 1 else 1
            assert sizes[-1] >= sizes[-2] or removed <= max(quantum, radius.share * max(sizes))


@pytest.mark.slow
@FLEET
@given(fleets())
def test_no_workload_is_scaled_below_its_minimum(life: FleetLife) -> None:
    for member in life.members:
        for tick in member.ticks:
            current, target = tick.decision.current or 0, tick.decision.target or 0
            assert target >= min(member.spec.min_replicas, current)


@pytest.mark.slow
@FLEET
@given(fleets())
def test_recorded_ticks_with_grants_replay_equal(life: FleetLife) -> None:
    for member in life.members:
        history = History(7200.0)
        for tick in member.ticks:
            read = decode_tick(json.loads(json.dumps(encode_tick(tick))))
            assert read == tick
            assert decide(member.spec, history, read.observation) == tick.decision
            history.append(read)


@pytest.mark.slow
@FLEET
@given(fleets())
def test_grant_never_raises_the_capped_need(life: FleetLife) -> None:
    for member in life.members:
        for tick in member.ticks[-1:]:
            unlimited = decide(member.spec, History(7200.0), dataclasses.replace(tick.observation, grant=None))
            limited = decide(member.spec, History(7200.0), tick.observation)
            assert (limited.capped_need or 0) <= (unlimited.capped_need or 0)
