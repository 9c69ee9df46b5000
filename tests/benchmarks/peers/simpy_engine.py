"""SimPy: the iteration-level model that the kernel is tested against."""

from __future__ import annotations

from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.benchmarks.peers.outcome import Outcome, outcome_of, timed
from tests.benchmarks.traffic import Load
from tests.simulators.engine.kernel.simpy_model import Request, simulate


def run(model: ServiceModel, replicas: int, load: Load) -> Outcome:
    columns = (c.tolist() for c in (load.arrival_ps / PS_PER_S, load.prompt, load.output))
    requests = [Request(*row) for row in zip(*columns, strict=True)]
    time_s = timed(lambda: simulate(model, replicas, requests))
    return outcome_of(time_s, [(r.arrival_s, r.first_s, r.finish_s) for r in requests])
