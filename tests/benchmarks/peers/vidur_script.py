"""Vidur (Agrawal et al., MLSys 2024) on a load from standard input; run by a Python that has `pip install vidur`.

Its scheduler is Sarathi's, which chunks prompts within a step's token budget as our engine does; requests go round
robin. Its learnt step times are replaced by our roofline, so that both simulate the same engine: what is measured is
its event loop. No metrics are stored.
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

ASKED: dict[str, Any] = json.load(sys.stdin)


class Roofline(BaseExecutionTimePredictor):  # type: ignore[misc]
    """Our model of a step's time."""

    def get_execution_time(self, batch: Batch, pipeline_stage: int) -> ExecutionTime:
        m, held, sampled, pairs = ASKED["model"], 0, 0, 0.0
        tokens = sum(batch.num_q_tokens)
        for request, q in zip(batch.requests, batch.num_q_tokens, strict=True):
            known = request.num_processed_tokens
            if request.is_prefill_complete:
                held += known - 1  # it counts a token as processed when it is sampled
                sampled += 1
            else:
                pairs += q * (known + q / 2)
                sampled += known + q == request.num_prefill_tokens
        memory_s = m["mem_base_s"] + m["mem_token_s"] * tokens
        computing_s = m["cmp_base_s"] + m["cmp_token_s"] * tokens + m["cmp_seq_s"] * sampled
        kv_s = m["kv_mixed_s"] if pairs else m["kv_decode_s"]
        step_s = max(memory_s, computing_s) + m["attn_pair_s"] * pairs + kv_s * held
        return ExecutionTime(1, step_s * 1000, *[0.0] * 13)


class Given:
    """Generator of the given requests."""

    def __init__(self, _config: object) -> None:
        columns = (ASKED["arrival_s"], ASKED["prompt"], ASKED["output"])
        self.requests = [Request(*row) for row in zip(*columns, strict=True)]
        MADE.extend(self.requests)

    def generate(self) -> list[Request]:
        return self.requests


MADE: list[Request] = []


def simulation(folder: str) -> Simulator:
    m = ASKED["model"]
    quiet = dict.fromkeys(
        [f for f in settings.MetricsConfig.__dataclass_fields__ if f.startswith(("write_", "store_", "enable_"))], False
    )
    cluster = settings.ClusterConfig(
        num_replicas=ASKED["replicas"],
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
    for registry, key, made in (
        (ExecutionTimePredictorRegistry, ExecutionTimePredictorType.RANDOM_FORREST, Roofline),
        (RequestGeneratorRegistry, RequestGeneratorType.SYNTHETIC, Given),
    ):
        registry.unregister(key)
        registry.register(key, made)
    return Simulator(
        settings.SimulationConfig(
            cluster_config=cluster, metrics_config=settings.MetricsConfig(output_dir=folder, **quiet)
        )
    )


def main() -> None:
    logging.disable(logging.CRITICAL)
    Roofline.__abstractmethods__ = frozenset()  # the parts of a step's time, which nothing asks for
    with tempfile.TemporaryDirectory() as folder:
        simulator = simulation(folder)
        start_s = time.process_time()
        simulator.run()
        time_s = time.process_time() - start_s
    rows = [(r.arrived_at, r.prefill_completed_at, r.completed_at) for r in MADE]
    Path(sys.argv[1]).write_text(json.dumps({"taken_s": time_s, "rows": rows}))


if __name__ == "__main__":
    main()
