"""Speculative decoding and prefix caches, as factors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from simulators.engine.models.service import PS_PER_S
from simulators.experiments.run import traffic_of
from simulators.world.traffic.shapes import Poisson
from simulators.world.traffic.trace import RequestTrace, TraceError
from tests.simulators.world.makers import STEADY, case, trace, world

SPECULATING = dataclasses.replace(STEADY, draft_tokens=3, accepted_per_step=2.5)


def test_speculative_decoding_divides_decode_steps_by_accepted_tokens() -> None:
    """A request alone: a step for its prompt and first token, then (n - 1) / 2.5 steps of 10 ms in the mean."""
    many = trace(*[(10.0 * i, 10, 101) for i in range(400)])
    w = world(many, model=SPECULATING)
    w.run_until(4000 * PS_PER_S)
    steps = (w.kernel.requests.finished_ps - w.kernel.requests.arrived_ps) / (0.01 * PS_PER_S)
    assert set(steps.tolist()) == {1 + 100 / 2, 1 + 34.0}, "whole tokens, 2 or 3 per step"
    strides = w.kernel.requests.tokens_per_step
    assert strides.mean() == pytest.approx(2.5, abs=3 * 0.5 / 20)
    assert int(w.kernel.read().output_tokens.sum()) == 400 * 101, "no more tokens than requested"


def test_accepted_tokens_above_the_draft_length_are_rejected() -> None:
    broken = dataclasses.replace(STEADY, draft_tokens=1, accepted_per_step=2.5)
    assert [key for key, _ in broken.problems()] == ["accepted_per_step"]


def test_cached_prefix_tokens_skip_prefill() -> None:
    """1,000 prompt tokens at 512 per step take two steps, and one if 60 % of them are cached."""
    requests = trace((0.0, 1000, 1))
    for hits, steps in ((requests, 2), (requests.with_prefix_hits(0.6), 1)):
        w = world(hits)
        w.run_until(PS_PER_S)
        assert w.kernel.requests.first_token_ps[0] == steps * PS_PER_S // 100


def test_recorded_prefix_hits_override_a_hit_share() -> None:
    recorded = RequestTrace(
        np.zeros(1), np.array([10], np.int32), np.array([1], np.int32), cached_tokens=np.array([3], np.int32)
    )
    assert recorded.with_prefix_hits(0.9) is recorded
    with pytest.raises(TraceError, match="below 1"):
        recorded.with_prefix_hits(1.0)


def test_a_scenario_applies_its_prefix_hit_share_to_its_traffic() -> None:
    requests = traffic_of(case(traffic=Poisson(rps=1.0, duration_s=60.0), prefix_hit_share=0.5), 1)
    assert requests.cached_tokens is not None
    assert (requests.cached_tokens == requests.prompt_tokens // 2).all()
