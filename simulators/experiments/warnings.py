"""Warnings about a run: conditions that limit what its figures mean."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.engine.tables import RequestEnd, Tokens
from simulators.experiments.run import SimulationRun

WINDOW_S: Final = 600.0
"""The window over which work is summed. A shorter burst can wait in a queue. Seconds."""
MIN_SCRAPES: Final = 2
"""Minimum scrape intervals in a rate window."""
Floats = NDArray[np.float64]


def run_warnings(run: SimulationRun) -> tuple[str, ...]:
    """Return the warnings of a run, as sentences."""
    return tuple(text for check in WARNINGS for text in check(run))


def _trace_repairs(run: SimulationRun) -> Iterator[str]:
    if run.trace.repairs:
        yield f"the trace was repaired: {'; '.join(f'{repair}: {n:,}' for repair, n in run.trace.repairs.items())}"


def _fits(run: SimulationRun) -> NDArray[np.bool_]:
    """Return a mask of the requests that fit into the largest KV cache.

    A request needs its prompt, its output and the next step's tokens, in blocks. A prompt of 100 and an output of 20
    with 1 token a step take 121 tokens: 8 blocks of 16.
    """
    requests = run.world.kernel.requests
    block = next(iter(run.case.models.values())).block_tokens
    max_blocks = max(model.kv_blocks for model in run.case.models.values())
    total_tokens = requests.prompt_tokens.astype(np.int64) + requests.output_tokens + requests.tokens_per_step
    fits: NDArray[np.bool_] = -(-total_tokens // block) <= max_blocks
    return fits


def _too_long_requests(run: SimulationRun) -> Iterator[str]:
    count = int((~_fits(run)).sum())
    if count:
        capacity = max(model.kv_tokens for model in run.case.models.values())
        yield (
            f"{count:,} of {len(run.trace):,} requests were rejected: prompt and output exceed the KV cache of a"
            f" replica, {capacity:,} tokens"
        )


def _overload(run: SimulationRun) -> Iterator[str]:
    requests = run.world.kernel.requests
    requests = requests[_fits(run) & requests.has_arrived & (requests.arrived_ps <= run.world.now_ps)]
    if not len(requests):
        return
    tokens = requests.prompt_tokens, requests.cached_tokens, requests.output_tokens
    work_s = np.min([full_batch_work_s(model, *tokens) for model in run.case.models.values()], axis=0)
    window = requests.arrived_ps // round(WINDOW_S * PS_PER_S)
    load = np.bincount(window, work_s) / WINDOW_S
    peak, limit = int(load.argmax()), max_replicas(run)
    if load[peak] > limit:
        yield (
            f"from {peak * WINDOW_S:g} to {(peak + 1) * WINDOW_S:g} s the load is at least {load[peak]:.1f} replicas,"
            f" but at most {limit} are allowed: no policy can meet the SLO then"
        )


def full_batch_work_s(
    model: ServiceModel, prompt_tokens: Tokens, cached_tokens: Tokens, output_tokens: Tokens
) -> Floats:
    """Return each request's minimum GPU time, in full batches. Seconds.

    ``docs/explanation/simulator.md`` has the equations.

    `llama-3.1-8b-h100-vllm` takes 41 ms for 1,000 prompt and 200 output tokens. Compute exceeds memory: 200 / 128 =
    1.56 steps of 1.17 ms, 1,199 tokens of 23.5 us and 200 sequence steps of 6.7 us are 31.4 ms. KV reads and attention
    add 9.6 ms.
    """
    prompt, cached, output = (c.astype(np.float64) for c in (prompt_tokens, cached_tokens, output_tokens))
    per_step = 1 + model.draft_tokens
    tokens = prompt - cached + output - 1
    steps = np.maximum(output / (model.max_seqs * per_step), tokens / model.max_step_tokens)
    memory = model.mem_base_s * steps + model.mem_token_s * tokens
    computing = model.cmp_base_s * steps + model.cmp_token_s * tokens + model.cmp_seq_s * output / per_step
    read = (output - 1) * prompt + (output - 1) * (output - 2) / 2
    kv = min(model.kv_decode_s, model.kv_mixed_s) * read / per_step
    pairs = (prompt**2 - cached**2) / 2
    gpu_s: Floats = np.maximum(memory, computing)
    return gpu_s + kv + model.attn_pair_s * pairs


def max_replicas(run: SimulationRun) -> int:
    """Return the replicas that the workload's bounds, quotas and constant capacities allow."""
    spec, total = run.case.workload.spec, 0
    for name, pool in spec.pools.items():
        offer = run.case.scenario.pools[run.case.pools[name]]
        limits = [spec.max_replicas, pool.max_replicas, offer.quota]
        capacities = [None if zone.varies else zone.capacity for zone in offer.zones.values()]
        limits.append(None if None in capacities else sum(c or 0 for c in capacities))
        total += min(limit for limit in limits if limit is not None)
    return min(spec.max_replicas, total)


def _all_in_warm_up(run: SimulationRun) -> Iterator[str]:
    warm_up_s = run.case.scenario.warm_up_s
    if run.trace.duration_s < warm_up_s:
        yield f"no request is counted: all arrive within the warm-up of {warm_up_s:g} s (warm_up_s)"


def _unfinished(run: SimulationRun) -> Iterator[str]:
    arrived = run.world.arrived_requests
    unsent = len(run.trace) - run.world.arrived_at_gateway
    if unsent:
        yield f"{unsent:,} of {len(run.trace):,} requests arrive after the end of the run (duration_s): not counted"
    unfinished = int(arrived.ended_as(RequestEnd.OPEN).sum())
    if unfinished:
        yield f"{unfinished:,} requests were unfinished at the end of the run: a longer settle_s may let them finish"


def _rate_windows_differ(run: SimulationRun) -> Iterator[str]:
    telemetry = run.case.telemetry
    scraped_s = telemetry.window_s
    for name, policy in run.case.workload.spec.policies.items():
        window_s = getattr(policy, "rate_window_s", None)
        if window_s is not None and window_s != scraped_s:
            yield (
                f"policy {name} expects rates over {window_s:g} s (rate_window_s), but the scenario provides rates over"
                f" {scraped_s:g} s (telemetry.rate_window_s): its demand estimate is wrong"
            )
        if window_s is not None and scraped_s < MIN_SCRAPES * telemetry.scrape_interval_s:
            yield (
                f"policy {name} reads rates over {scraped_s:g} s, less than {MIN_SCRAPES} scrape intervals of"
                f" {telemetry.scrape_interval_s:g} s (telemetry.scrape_interval_s): a lost scrape leaves none"
            )


WARNINGS: Final = (_trace_repairs, _too_long_requests, _overload, _all_in_warm_up, _unfinished, _rate_windows_differ)
