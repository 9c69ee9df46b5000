"""The kernel's clock holds as long as the simulator lets a run last."""

from __future__ import annotations

import numpy as np
import pytest

from simulators.engine.kernel import layout
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.service import PS_PER_S
from simulators.world.world import MAX_S
from tests.simulators.engine.kernel.worlds import VLLM

DAY_S = 86_400


@pytest.mark.parametrize("arrival_s", [53 * DAY_S, 54 * DAY_S, 100 * DAY_S, int(MAX_S)])
def test_a_request_late_in_a_long_run_has_the_same_latency_as_an_early_one(arrival_s: int) -> None:
    kernel = Kernel([VLLM], Router(), seed=1, slots=2)
    kernel.start(kernel.add(0, key=1))
    arrival_ps = np.array([0, arrival_s * PS_PER_S])
    kernel.offer(arrival_ps, np.full(2, 100, np.int32), np.full(2, 20, np.int32))
    kernel.advance((arrival_s + 60) * PS_PER_S)
    kernel.read()
    durations = kernel.times[:, [layout.FIRST, layout.FINISH]] - arrival_ps[:, None]
    assert durations[0].tolist() == durations[1].tolist()
