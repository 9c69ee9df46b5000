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


@pytest.mark.parametrize("at_s", [53 * DAY_S, 54 * DAY_S, 100 * DAY_S, int(MAX_S)])
def test_a_request_late_in_a_long_run_is_served_as_one_at_its_beginning(at_s: int) -> None:
    kernel = Kernel([VLLM], Router(), seed=1, slots=2)
    kernel.start(kernel.add(0, key=1))
    both = np.array([0, at_s * PS_PER_S])
    kernel.offer(both, np.full(2, 100, np.int32), np.full(2, 20, np.int32))
    kernel.advance((at_s + 60) * PS_PER_S)
    kernel.read()
    spent = kernel.times[:, [layout.FIRST, layout.FINISH]] - both[:, None]
    assert spent[0].tolist() == spent[1].tolist()
