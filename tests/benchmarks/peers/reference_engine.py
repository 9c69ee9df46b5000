"""Our reference engine: the rules applied one iteration at a time in plain Python, with all sums recomputed."""

from __future__ import annotations

from simulators.engine.models.integers import integers
from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.benchmarks.peers.outcome import Outcome, outcome_of, processor_s
from tests.benchmarks.traffic import Load
from tests.simulators.engine import reference


def run(model: ServiceModel, replicas: int, load: Load) -> Outcome:
    n = len(load)
    arrival_ps, prompt, output = (c.tolist() for c in (load.arrival_ps, load.prompt, load.output))
    requests = reference.Requests(arrival_ps, prompt, output, [0] * n, [1] * n)
    plans = [reference.ReplicaPlan(0, key) for key in range(replicas)]
    start_s = processor_s()
    results = reference.simulate([integers(model)], plans, requests)
    time_s = processor_s() - start_s
    times = (arrival_ps, results.first, results.finish)
    return outcome_of(time_s, [(a / PS_PER_S, b / PS_PER_S, c / PS_PER_S) for a, b, c in zip(*times, strict=True)])
