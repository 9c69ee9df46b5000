"""Work of a decision, counted in function calls: its time would depend on the machine.

The benchmark `decide` measures the time.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType

import pytest

from policies.history.ticks import History
from policies.model import Tick
from policies.pipeline import decide
from simulators.experiments.run import simulate, traffic_of
from tests.benchmarks.decide import an_hour
from tests.golden.runs import SCENARIOS, short

WARM_UP = 60


def calls(work: Callable[[], object]) -> int:
    """Return the number of functions that `work` calls, those of C included."""
    count = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_three_threshold_policies_take_at_most_360_calls() -> None:
    workload, history, observation = an_hour()
    decision = partial(decide, workload, history, observation)
    decision()  # fills the caches of the specification
    assert calls(decision) <= 360


@pytest.mark.slow
def test_the_predictive_policy_takes_at_most_950_calls(tmp_path: Path) -> None:
    """The forecast is not computed in a decision, but when the tick before it is recorded."""
    case = short("chat", tmp_path, 3600.0, workload=str(SCENARIOS / "workloads" / "chat-predictive.yaml"))
    ticks: list[Tick] = []
    simulate(case, case.scenario.seed, traffic_of(case, case.scenario.seed), record=[ticks.append])
    history, counts = History(), []
    for tick in ticks:
        counts.append(calls(partial(decide, case.workload.spec, history, tick.observation)))
        history.append(tick)
    assert statistics.median(counts[WARM_UP:]) <= 950
