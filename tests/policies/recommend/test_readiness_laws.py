"""Laws over random losses of readiness: they hold for every own policy that measures replicas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from policies.model import Absent, Evidence, Fresh, Reading
from policies.model.spec import ScaleDown
from policies.recommend.predictive.policy import Predictive
from policies.recommend.readiness import LOST_S
from tests.laws import law
from tests.policies.recommend.losses import POLICIES, STEP_S, Replicas, engine_readings

pytestmark = pytest.mark.slow

EXAMPLES = law(25)
TARGETS = {"gpu_utilization": 0.7, "predictive": 0.95}
"""The share of a full replica that a policy fills; 0.8 for the others."""


WITHOUT_FORECAST = {**POLICIES, "predictive": {"p": Predictive(source="e", rate_window_s=60.0, use_forecast=False)}}
"""A forecast of random load changes independently of readiness."""


@dataclass(frozen=True)
class Stretch:
    """A stretch of ticks: lost share of replicas, load of each other one, and whether readings are absent."""

    ticks: int
    lost: float
    load: float
    blind: bool


STRETCHES = st.lists(
    st.builds(
        Stretch,
        ticks=st.integers(1, 8),
        lost=st.sampled_from((0.0, 0.0, 0.1, 0.5, 0.8, 1.0)),
        load=st.sampled_from((0.0, 0.05, 0.4, 0.6, 0.85, 1.0, 3.0)),
        blind=st.sampled_from((False, False, False, True)),
    ),
    min_size=2,
    max_size=8,
)
WINDOWS_S = st.sampled_from((0.0, 60.0, 200.0))
EVERY = pytest.mark.parametrize("kind", POLICIES)


def replicas_of(policies: Mapping[str, Any], size: int, window_s: float) -> Replicas:
    down = ScaleDown(window_s=window_s, max_replicas=100, max_share=1.0)
    return Replicas(policies, size, {"scale_down": down, "max_replicas": 40})


def readings(values: Mapping[str, float], blind: bool, at: float) -> dict[str, Reading[float]]:
    return {f"e.{name}": Absent("no answer") if blind else Fresh(value, at) for name, value in values.items()}


@EVERY
@EXAMPLES
@given(st.integers(1, 12), WINDOWS_S, STRETCHES)
def test_full_or_unreadable_survivors_never_lower_the_size(
    kind: str, size: int, window_s: float, stretches: list[Stretch]
) -> None:
    replicas = replicas_of(POLICIES[kind], size, window_s)
    smallest, were_ready = size, 0
    for stretch in stretches:
        replicas.lost = math.ceil(stretch.lost * replicas.size)
        for _ in range(stretch.ticks):
            before, lost, ready = replicas.size, replicas.lost, replicas.ready
            smallest, were_ready = min(smallest, before), min(max(were_ready, ready), before)
            values = engine_readings(stretch.load, ready or before)
            decision = replicas.observe(readings(values, stretch.blind, replicas.at))
            full = stretch.load >= TARGETS.get(kind, 0.8)
            starting = ready == were_ready and lost <= before - smallest
            if lost and (not ready or stretch.blind or (full and not starting)):
                assert decision.target is not None
                assert decision.target >= before, decision.steps
            if lost and not ready:
                assert not decision.may_scale_in
                assert any(r.evidence is not Evidence.FULL for r in decision.recommendations)


@EVERY
@EXAMPLES
@given(st.integers(2, 12), st.sampled_from((0.1, 0.3, 0.5, 0.65)), st.sampled_from((0.1, 0.5, 0.8, 1.0)))
def test_loss_of_readiness_alone_never_lowers_the_size(kind: str, size: int, load: float, lost: float) -> None:
    replicas = replicas_of(WITHOUT_FORECAST[kind], size, 60.0)
    traffic = load * size
    sizes = [replicas.tick(traffic).target or 0 for _ in range(100)]
    settled, each = replicas.size, traffic / replicas.size
    assume(set(sizes[50:]) == {settled})
    replicas.lost = math.ceil(lost * replicas.size)
    for _ in range(round(LOST_S / STEP_S) - 1):
        decision = replicas.observe(readings(engine_readings(each, replicas.ready), False, replicas.at))
        assert decision.target is not None
        assert decision.target >= settled, decision.steps


@EVERY
@EXAMPLES
@given(st.integers(1, 12), WINDOWS_S, STRETCHES)
def test_ready_replicas_at_low_load_scale_in_within_bounded_time(
    kind: str, size: int, window_s: float, stretches: list[Stretch]
) -> None:
    replicas = replicas_of(WITHOUT_FORECAST[kind], size, window_s)
    for stretch in stretches:
        replicas.lost = math.ceil(stretch.lost * replicas.size)
        for _ in range(stretch.ticks):
            replicas.observe(
                readings(engine_readings(stretch.load, replicas.ready or replicas.size), stretch.blind, replicas.at)
            )
    replicas.lost = 0
    for _ in range(round(2.0 * LOST_S / STEP_S)):
        replicas.observe(readings(engine_readings(0.3 / replicas.size, replicas.ready), False, replicas.at))
        if replicas.size == 1:
            return
    pytest.fail(f"still {replicas.size} replicas")


@EVERY
@EXAMPLES
@given(st.integers(4, 12), WINDOWS_S, st.integers(1, 3))
def test_replicas_that_never_recover_delay_but_do_not_prevent_scale_in(
    kind: str, size: int, window_s: float, survivors: int
) -> None:
    replicas = replicas_of(WITHOUT_FORECAST[kind], size, window_s)
    for _ in range(8):
        replicas.observe(readings(engine_readings(0.6, replicas.ready), False, replicas.at))
    replicas.lost = max(0, replicas.size - survivors)
    for _ in range(round(2.0 * LOST_S / STEP_S)):
        replicas.observe(readings(engine_readings(0.2 / max(1, replicas.ready), replicas.ready), False, replicas.at))
        if replicas.size <= survivors:
            return
    pytest.fail(f"still {replicas.size} replicas")
