"""Dynamo's SLA mode: an engine's capacity, and the sizes that follow from it.

The original needs packages with compiled parts (aisimulate_core, msgspec) and is not run here. The capacities are those
of ``engine_query.py`` of ai-dynamo 1.6.1 with the same line as its model of a step. With ``_throughput_agg`` of its
``throughput_scaling.py``, all of 20,400 ticks in 60 random worlds had equal sizes.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from policies.recommend.peers.dynamo_sla import DynamoSla, batch_sizes
from tests.factories import ABSENT
from tests.policies.recommend.peers.ticks import PeerTicks

PROFILE: Final = {"step_s": 0.0207, "prompt_token_s": 1.4e-5, "kv_token_s": 5e-8}
"""The line of an H100 with Llama-3.1-8B, about."""


def planner(**settings: Any) -> DynamoSla:
    limits = {"kv_tokens": 450_632, "max_seqs": 128, "max_step_tokens": 2048, "ttft_s": 1.0}
    return DynamoSla(**{"source": "e", **limits, **PROFILE, **settings})


@pytest.mark.parametrize(
    ("settings", "prompt", "output", "original_rps"),
    [
        pytest.param({}, 1500, 350, 9.35187147, id="within both targets"),
        pytest.param({"itl_s": 0.03}, 1500, 350, 6.113578832, id="limited by ITL"),
        pytest.param({"ttft_s": 0.05}, 1500, 350, 5.634464139, id="limited by TTFT"),
        pytest.param({"itl_s": 0.01}, 1500, 350, 9.35187147, id="out of reach: the largest rate of all"),
        pytest.param(
            {"kv_tokens": 300_000, "max_seqs": 256, "ttft_s": 3.0, "itl_s": 0.035},
            8000,
            1000,
            0.750100975,
            id="the public report",
        ),
        pytest.param(
            {"max_seqs": 1000, "max_step_tokens": 8192, "ttft_s": 0.5}, 200, 800, 20.469015743, id="128 of 1000 batches"
        ),
        pytest.param({"max_seqs": 256}, 2048.4, 27.6, 17.941768197, id="lengths are rounded up"),
        pytest.param({"kv_tokens": 9000, "ttft_s": 3.0}, 8000, 1000, 0.04708763, id="one request fits"),
        pytest.param({"kv_tokens": 8000, "ttft_s": 3.0}, 8000, 1000, None, id="none fits"),
        pytest.param({"max_seqs": 256, "max_step_tokens": 512}, 120, 9, 141.645925656, id="limited by the step"),
        pytest.param({}, 0, 350, None, id="unknown lengths"),
    ],
)
def test_capacity_equals_that_of_the_original(
    settings: dict[str, Any], prompt: float, output: float, original_rps: float | None
) -> None:
    assert planner(**settings).capacity_rps(prompt, output) == (
        None if original_rps is None else pytest.approx(original_rps, rel=1e-8)
    )


def test_large_batches_are_sampled() -> None:
    assert batch_sizes(3) == [1, 2, 3]
    sampled = batch_sizes(1000)
    assert (len(sampled), sampled[:3], sampled[-1]) == (128, [1, 8, 16], 1000)


def readings(rate: float, in_work: float = 100.0, prompt: float = 1500.0, output: float = 350.0) -> dict[str, float]:
    tokens = {"e.prompt_tokens_per_s": rate * prompt, "e.generation_tokens_per_s": rate * output}
    return {"e.requests_per_s": rate, **tokens, "e.running": in_work, "e.waiting": 0.0}


def test_it_decides_once_per_interval() -> None:
    ticks = PeerTicks(planner(), 2)
    sizes = ticks.run(13, readings(40.0))
    assert sizes == [2] * 12 + [5], "40 requests/s at 9.35 per engine are 4.3, after 180 s"


def test_a_decision_changes_by_eight_replicas_at_most() -> None:
    ticks = PeerTicks(planner(adjustment_interval_s=15.0), 2)
    assert ticks.run(5, readings(180.0)) == [2, 10, 18, 20, 20]
    assert ticks.run(4, readings(1.0))[-3:] == [4, 1, 1]


def test_it_waits_while_replicas_start_unless_fewer_are_needed() -> None:
    waiting = PeerTicks(planner(adjustment_interval_s=15.0), 2, start_s=60.0)
    assert waiting.run(6, readings(180.0)) == [2, 10, 10, 10, 10, 18]
    cancelled = PeerTicks(planner(adjustment_interval_s=15.0), 2, start_s=60.0)
    cancelled.run(2, readings(180.0))
    assert cancelled.run(2, readings(10.0))[-1] == 2, "two are ready and enough: the eight that start are cancelled"


def test_growth_of_the_requests_in_work_counts_as_demand() -> None:
    ticks = PeerTicks(planner(adjustment_interval_s=30.0), 2)
    ticks.run(2, readings(9.0, in_work=100.0))
    assert ticks.tick(readings(9.0, in_work=1000.0)) == 5, "9 completed and 900 / 30 more started per second"


def test_a_standing_queue_is_no_demand() -> None:
    """Issue 10528: the queue that has built up stays, since only new requests count."""
    ticks = PeerTicks(planner(adjustment_interval_s=30.0), 2)
    assert set(ticks.run(10, readings(9.0, in_work=5000.0))) == {2, 1}


def test_without_completed_requests_the_last_lengths_hold() -> None:
    ticks = PeerTicks(planner(adjustment_interval_s=30.0), 2)
    ticks.run(3, readings(18.0))
    ticks.run(2, {**readings(0.001), "e.requests_per_s": 0.0, "e.running": 2000.0})
    assert ticks.size == 7, "(2000 - 100) / 30 started per second, at the known lengths 9.35 per engine"


def test_it_holds_while_a_reading_is_missing() -> None:
    ticks = PeerTicks(planner(adjustment_interval_s=15.0), 6)
    assert set(ticks.run(5, {**readings(9.0), "e.running": ABSENT})) == {6}
