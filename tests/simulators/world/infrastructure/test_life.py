"""Start-ups: their distribution, their order, and that they depend on the node and not on the time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from simulators.world.infrastructure.node_lifecycle import (
    CATALOGUE,
    PHASES,
    SERVE,
    NodeState,
    Phase,
    SimulatedNode,
    StartUp,
    Tier,
    plan,
    to_serve,
)
from simulators.world.infrastructure.units import PS_PER_MS, to_ps
from simulators.world.rng import Draws, normals, stream
from tests.simulators.world.infrastructure.worlds import QUICK

DRAWN = 20_000


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """Return the durations of many nodes' phases, in seconds."""
    start_up, draws = StartUp(), Draws(7, "start-up", "pool-a", len(PHASES), normals)
    rows = [start_up.durations(draws.row(n)) for n in range(DRAWN)]
    return {name: np.array([row[name] for row in rows]) / 1e12 for name in PHASES}


@pytest.mark.parametrize("name", PHASES)
def test_each_phase_is_log_normal_with_its_median_and_spread(drawn: dict[str, np.ndarray], name: str) -> None:
    phase: Phase = getattr(StartUp(), name)
    law = stats.lognorm(s=phase.sigma, scale=phase.median_s)
    # Rounding to a millisecond moves a short phase by up to 0.1 %: far below the resolution of this test.
    jitter = np.random.default_rng(1).uniform(-0.0005, 0.0005, DRAWN)
    assert stats.kstest(drawn[name] + jitter, law.cdf).pvalue > 0.001
    error = 4 * law.std() / math.sqrt(DRAWN)
    assert drawn[name].mean() == pytest.approx(law.mean(), abs=error)


def test_phases_and_neighbouring_nodes_are_independent(drawn: dict[str, np.ndarray]) -> None:
    logs = np.log(np.stack([drawn[name] for name in PHASES[:6]]))
    off_diagonal = np.corrcoef(logs) - np.eye(len(logs))
    assert np.abs(off_diagonal).max() < 4.5 / math.sqrt(DRAWN)
    assert abs(np.corrcoef(logs[0][1:], logs[0][:-1])[0, 1]) < 4.5 / math.sqrt(DRAWN)


def test_a_nodes_start_up_durations_do_not_depend_on_the_order_of_reads() -> None:
    forward, backward = (Draws(3, "start-up", "pool-a", 8, normals) for _ in range(2))
    ahead = [forward.row(n) for n in range(5000)]
    assert [backward.row(n) for n in reversed(range(5000))][::-1] == ahead


@pytest.mark.parametrize(
    ("seed", "purpose", "entity"),
    [(2, "start-up", "pool-a"), (1, "fate", "pool-a"), (1, "start-up", "pool-b")],
    ids=["seed", "purpose", "pool"],
)
def test_another_seed_purpose_or_entity_gives_another_random_stream(seed: int, purpose: str, entity: str) -> None:
    assert stream(seed, purpose, entity).random() != stream(1, "start-up", "pool-a").random()


def test_durations_are_whole_milliseconds() -> None:
    assert all(ps % PS_PER_MS == 0 for ps in StartUp().durations([0.123456789] * len(PHASES)).values())


def test_the_engine_phases_sum_to_the_measured_start_up_time() -> None:
    """Imports of 22 s and an engine init of 79 s, of which loading random weights took 2 s."""
    measured = StartUp()
    assert measured.compile.median_s + measured.ready.median_s + 2 == 22 + 79
    assert CATALOGUE["llama-3.1-8b-h100-warm-compile-cache"].ready.median_s + 2 == 22 + 33


def test_each_tier_is_closer_to_serving_than_the_next() -> None:
    durations = StartUp().durations([0.0] * len(PHASES))
    left = [sum(durations[phase] for phase in SERVE[tier]) for tier in Tier]
    assert left == sorted(left)


def test_each_planned_phase_ends_where_the_next_begins() -> None:
    durations = QUICK.durations([0.0] * len(PHASES))
    assert plan(durations, SERVE[Tier.WARM_NODE], to_ps(7)) == (
        ("weights", to_ps(27)),
        ("compile", to_ps(37)),
        ("ready", to_ps(42)),
    )


def test_a_node_promoted_while_preparing_keeps_completed_phases() -> None:
    durations = QUICK.durations([0.0] * len(PHASES))
    node = SimulatedNode(0, 0, Tier.WARM_NODE, 0, [(0, NodeState.PREPARING)], plan(durations, ("node", "image"), 0))
    assert [name for name, _ in to_serve(node, durations, to_ps(120))] == ["image", "weights", "compile", "ready"]
    assert to_serve(node, durations, to_ps(120))[-1][1] == to_ps(185)


def test_a_start_up_of_zero_duration_is_rejected() -> None:
    nothing = Phase(median_s=0)
    start_up = StartUp(node=nothing, image=nothing, weights=nothing, compile=nothing, ready=nothing)
    assert [key for key, _ in start_up.problems()] == ["node"]
