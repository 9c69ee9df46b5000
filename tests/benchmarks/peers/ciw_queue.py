"""Ciw: networks of queues. It has no batches whose step time depends on their size, so it is compared on M/M/c only."""

from __future__ import annotations

from dataclasses import dataclass

import ciw  # type: ignore[import-untyped]

from tests.benchmarks.peers.outcome import processor_s


@dataclass(frozen=True, slots=True)
class Queue:
    """Result of an M/M/c run: `wait` is the mean wait, in units of the mean service time."""

    time_s: float
    customers: int
    wait: float


def run(servers: int, load: float, customers: int) -> Queue:
    """Simulate M/M/c at this load per server, in units of the mean service time."""
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(servers * load)],
        service_distributions=[ciw.dists.Exponential(1.0)],
        number_of_servers=[servers],
    )
    ciw.seed(1)
    simulation = ciw.Simulation(network)
    start_s = processor_s()
    simulation.simulate_until_max_customers(customers)
    time_s = processor_s() - start_s
    waits = [r.waiting_time for r in simulation.get_all_records()]
    return Queue(time_s, len(waits), sum(waits) / len(waits))
