"""The lower bound of a request's engine time never exceeds the time that the kernel spends on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.layout import NEVER
from simulators.engine.models import catalogue
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.experiments.oracle.lower_bound import work_s
from simulators.world.traffic.trace import RequestTrace
from tests.laws import law
from tests.simulators.engine.kernel.worlds import models


def busy_s_of(model: ServiceModel, trace: RequestTrace) -> tuple[float, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return the GPU time of one replica that gets the trace, and the requests that it finished."""
    k = Kernel([model], Router(), 0, len(trace))
    k.start(k.add(0, 0))
    arrival = np.round(trace.arrival_s * PS_PER_S).astype(np.int64)
    k.offer(arrival, trace.prompt_tokens, trace.output_tokens, trace.cached_tokens)
    k.advance(NEVER)
    return float(k.read().busy_ps[0]) / PS_PER_S, k.requests.finished_ps >= 0


@st.composite
def traces(draw: st.DrawFn) -> RequestTrace:
    n = draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    prompt = rng.integers(1, draw(st.sampled_from([2, 100, 400])), n)
    output = rng.integers(1, draw(st.sampled_from([2, 50, 300])), n)
    cached = (prompt * rng.random(n) * draw(st.sampled_from([0.0, 0.9]))).astype(np.int32)
    arrival = np.sort(rng.random(n)) * draw(st.sampled_from([0.0, 1.0, 100.0]))
    return RequestTrace(arrival, prompt.astype(np.int32), output.astype(np.int32), cached)


@given(model=models(), trace=traces())
@law(150)
def test_engine_time_is_never_below_the_bound(model: ServiceModel, trace: RequestTrace) -> None:
    busy_s, served = busy_s_of(model, trace)
    steps = int(trace.output_tokens.astype(np.int64).sum() + trace.prompt_tokens.astype(np.int64).sum())
    rounded_s = steps / PS_PER_S  # the kernel rounds each step's attention down to a picosecond
    assert work_s(model, trace)[served].sum() <= busy_s + rounded_s


@pytest.mark.parametrize("name", ["llama-3.1-8b-h100-vllm", "llama-3.1-8b-l40s", "qwen3-32b-h100x2"])
def test_engine_time_under_a_long_queue_is_close_to_the_bound(name: str) -> None:
    rng, n = np.random.default_rng(1), 2000
    prompt, output = rng.integers(200, 1800, n).astype(np.int32), rng.integers(50, 350, n).astype(np.int32)
    trace = RequestTrace(np.zeros(n), prompt, output)
    model = catalogue.load(name)
    busy_s, served = busy_s_of(model, trace)
    assert served.all()
    assert 0.9 * busy_s <= work_s(model, trace).sum() <= busy_s
