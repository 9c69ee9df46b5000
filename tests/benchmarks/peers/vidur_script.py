"""Vidur (Agrawal et al., MLSys 2024) on a load from standard input; run by a Python that has `pip install vidur`.

Its scheduler is Sarathi's, which chunks prompts within a step's token budget as our engine does; routing is round
robin. Its learned step times are replaced by our roofline, so that both simulate the same engine and only the event
loop is measured. No metrics are stored.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import vidur.config as settings  # type: ignore[import-not-found]
from vidur._native.entities import ExecutionTime  # type: ignore[import-not-found]
from vidur.entities import Batch, Request  # type: ignore[import-not-found]
from vidur.execution_time_predictor import (  # type: ignore[import-not-found]
    BaseExecutionTimePredictor,
    ExecutionTimePredictorRegistry,
)
from vidur.request_generator import RequestGeneratorRegistry  # type: ignore[import-not-found]
from vidur.simulator import Simulator  # type: ignore[import-not-found]
from vidur.types import ExecutionTimePredictorType, RequestGeneratorType  # type: ignore[import-not-found]

LOAD: dict[str, Any] = json.load(sys.stdin)


class Roofline(BaseExecutionTimePredictor):  # type: ignore[misc]
    """Our model of a step's time."""

    def get_execution_time(self, batch: Batch, pipeline_stage: int) -> ExecutionTime:
        m, held, sampled, pairs = LOAD["model"], 0, 0, 0.0
        tokens = sum(batch.num_q_tokens)
        for request, q in zip(batch.requests, batch.num_q_tokens, strict=True):
            processed = request.num_processed_tokens
            if request.is_prefill_complete:
                held += processed - 1  # Vidur counts a token as processed when it is sampled
                sampled += 1
            else:
                pairs += q * (processed + q / 2)
                sampled += processed + q == request.num_prefill_tokens
        memory_s = m["mem_base_s"] + m["mem_token_s"] * tokens
        computing_s = m["cmp_base_s"] + m["cmp_token_s"] * tokens + m["cmp_seq_s"] * sampled
        kv_s = m["kv_mixed_s"] if pairs else m["kv_decode_s"]
        step_s = max(memory_s, computing_s) + m["attn_pair_s"] * pairs + kv_s * held
        return ExecutionTime(1, step_s * 1000, *[0.0] * 13)


class GivenRequests:
    """Generator of the given requests."""

    def __init__(self, _config: object) -> None:
        columns = (LOAD["arrival_s"], LOAD["prompt"], LOAD["output"])
        self.requests = [Request(*row) for row in zip(*columns, strict=True)]
        REQUESTS.extend(self.requests)

    def generate(self) -> list[Request]:
        return self.requests


REQUESTS: list[Request] = []


def simulation(folder: str) -> Simulator:
    m = LOAD["model"]
    quiet = dict.fromkeys(
        [f for f in settings.MetricsConfig.__dataclass_fields__ if f.startswith(("write_", "store_", "enable_"))], False
    )
    cluster = settings.ClusterConfig(
        num_replicas=LOAD["replicas"],
        replica_config=settings.ReplicaConfig(num_pipeline_stages=1, tensor_parallel_size=1),
        cache_config=settings.CacheConfig(
            block_size=m["block_tokens"],
            num_blocks=m["kv_tokens"] // m["block_tokens"],
            watermark_blocks_fraction=0.0,
            enable_prefix_caching=False,
        ),
        global_scheduler_config=settings.RoundRobinGlobalSchedulerConfig(),
        replica_scheduler_config=settings.SarathiSchedulerConfig(
            chunk_size=m["max_step_tokens"], batch_size_cap=m["max_seqs"]
        ),
    )
    for registry, key, implementation in (
        (ExecutionTimePredictorRegistry, ExecutionTimePredictorType.RANDOM_FORREST, Roofline),
        (RequestGeneratorRegistry, RequestGeneratorType.SYNTHETIC, GivenRequests),
    ):
        registry.unregister(key)
        registry.register(key, implementation)
    return Simulator(
        settings.SimulationConfig(
            cluster_config=cluster, metrics_config=settings.MetricsConfig(output_dir=folder, **quiet)
        )
    )


def main() -> None:
    logging.disable(logging.CRITICAL)
    Roofline.__abstractmethods__ = frozenset()  # components of a step's time, which are never read
    with tempfile.TemporaryDirectory() as folder:
        simulator = simulation(folder)
        start_s = time.process_time()
        simulator.run()
        time_s = time.process_time() - start_s
    rows = [(r.arrived_at, r.prefill_completed_at, r.completed_at) for r in REQUESTS]
    Path(sys.argv[1]).write_text(json.dumps({"taken_s": time_s, "rows": rows}))


if __name__ == "__main__":
    main()
