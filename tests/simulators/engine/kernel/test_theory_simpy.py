"""The kernel agrees, request by request, with an independent model of the same engine written in SimPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from simulators.engine.kernel import layout
from simulators.engine.models.service import PS_PER_S
from tests.simulators.engine.kernel.chats import ROOFLINE, chat
from tests.simulators.engine.kernel.simpy_model import Request, simulate

COLUMNS = ("admit_s", "first_s", "finish_s")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "replicas", "rate_rps"),
    [
        ({}, 4, 40.0),
        ({"kv_tokens": 24_000}, 1, 3.0),
        ({"max_seqs": 6, "max_step_tokens": 512}, 2, 6.0),
        ({"ingest_s": 0.0}, 1, 3.0),
    ],
    ids=["four replicas", "a small cache", "a small batch", "one replica"],
)
def test_request_times_match_the_simpy_model(change: dict[str, Any], replicas: int, rate_rps: float) -> None:
    model = replace(ROOFLINE, **change)
    k = chat(model, 600, rate_rps, replicas)
    rows = zip(k.times[:, layout.ARRIVAL] / PS_PER_S, *k.counts.T[:2].tolist(), strict=True)
    requests = [Request(float(arrival), prompt, output) for arrival, prompt, output in rows]
    simulate(model, replicas, requests)
    assert k.counts[:, layout.REPLICA].tolist() == [r.replica for r in requests]
    expected = np.array([[getattr(r, name) for name in COLUMNS] for r in requests])
    np.testing.assert_allclose(k.times[:, layout.ADMIT :] / PS_PER_S, expected, rtol=0, atol=1e-8)
    if change:  # the change has an effect, or the case would test nothing
        assert chat(ROOFLINE, 600, rate_rps, replicas).times.tolist() != k.times.tolist()
