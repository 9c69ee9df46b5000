"""What whoever reads a run's figures must know of them: told in words, beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.engine.tables import RequestEnd, Tokens
from simulators.experiments.run import SimulationRun

WINDOW_S: Final = 600.0
"""Work is summed up over so long: a shorter burst can wait in a queue, and need not be a mistake."""
Floats = NDArray[np.float64]


def run_warnings(run: SimulationRun) -> tuple[str, ...]:
    """Everything that makes a run's figures mean less than they seem to."""
    return tuple(text for tell in WARNINGS for text in tell(run))


def _repaired(run: SimulationRun) -> Iterator[str]:
    if run.trace.repairs:
        yield f"the trace was mended: {'; '.join(f'{what}: {n:,}' for what, n in run.trace.repairs.items())}"


def _fits(run: SimulationRun) -> NDArray[np.bool_]:
    """Return which requests the largest KV cache holds: prompt, output and the token being made, in whole blocks."""
    requests = run.world.kernel.requests
    block = next(iter(run.case.models.values())).block_tokens
    most = max(model.kv_blocks for model in run.case.models.values())
    whole = requests.prompt_tokens.astype(np.int64) + requests.output_tokens + requests.tokens_per_step
    fits: NDArray[np.bool_] = -(-whole // block) <= most
    return fits


def _too_long(run: SimulationRun) -> Iterator[str]:
    found = int((~_fits(run)).sum())
    if found:
        most = max(model.kv_tokens for model in run.case.models.values())
        yield (
            f"{found:,} of {len(run.trace):,} requests are longer, prompt and output together, than a replica's KV"
            f" cache of {most:,} tokens: they are rejected"
        )


def _too_much(run: SimulationRun) -> Iterator[str]:
    requests = run.world.kernel.requests
    requests = requests[_fits(run) & (requests.arrived_ps <= run.world.now_ps)]
    if not len(requests):
        return
    tokens = requests.prompt_tokens, requests.cached_tokens, requests.output_tokens
    least = np.min([work_s(model, *tokens) for model in run.case.models.values()], axis=0)
    window = requests.arrived_ps // round(WINDOW_S * PS_PER_S)
    needs = np.bincount(window, least) / WINDOW_S
    worst, most = int(needs.argmax()), most_replicas(run)
    if needs[worst] > most:
        yield (
            f"from {worst * WINDOW_S:g} to {(worst + 1) * WINDOW_S:g} s requests bring at least {needs[worst]:.1f}"
            f" replicas' worth of work, and there can be {most} at most: no policy can serve them in time"
        )


def work_s(model: ServiceModel, prompt_tokens: Tokens, cached_tokens: Tokens, output_tokens: Tokens) -> Floats:
    """Return each request's least GPU time: in full batches, by the equations of docs/simulator.md."""
    prompt, cached, output = (c.astype(np.float64) for c in (prompt_tokens, cached_tokens, output_tokens))
    per_step = 1 + model.draft_tokens
    tokens = prompt - cached + output - 1
    steps = np.maximum(output / (model.max_seqs * per_step), tokens / model.max_step_tokens)
    memory = model.mem_base_s * steps + model.mem_token_s * tokens
    computing = model.cmp_base_s * steps + model.cmp_token_s * tokens + model.cmp_seq_s * output / per_step
    read = (output - 1) * prompt + (output - 1) * (output - 2) / 2
    kv = min(model.kv_decode_s, model.kv_mixed_s) * read / per_step
    pairs = (prompt**2 - cached**2) / 2
    least: Floats = np.maximum(memory, computing)
    return least + kv + model.attn_pair_s * pairs


def most_replicas(run: SimulationRun) -> int:
    """As many as the workload's bounds, quotas and constant capacities ever allow."""
    spec, total = run.case.workload.spec, 0
    for name, pool in spec.pools.items():
        offer = run.case.scenario.pools[run.case.pools[name]]
        limits = [spec.max_replicas, pool.max_replicas, offer.quota]
        capacities = [None if zone.varies else zone.capacity for zone in offer.zones.values()]
        limits.append(None if None in capacities else sum(c or 0 for c in capacities))
        total += min(limit for limit in limits if limit is not None)
    return min(spec.max_replicas, total)


def _uncounted(run: SimulationRun) -> Iterator[str]:
    warm_up_s = run.case.scenario.warm_up_s
    if run.trace.duration_s < warm_up_s:
        yield f"every request arrives before warm_up_s, {warm_up_s:g}: none is counted"


def _unfinished(run: SimulationRun) -> Iterator[str]:
    arrived = run.world.kernel.arrived_requests
    late = len(run.trace) - len(arrived)
    if late:
        yield f"{late:,} of {len(run.trace):,} requests come after the end and are not counted: see duration_s"
    left = int(arrived.ended_as(RequestEnd.OPEN).sum())
    if left:
        yield f"{left:,} requests had not ended when the run did: a longer settle_s may let them"


def _other_windows(run: SimulationRun) -> Iterator[str]:
    told_s = run.case.scenario.telemetry.rate_window_s
    for name, policy in run.case.workload.spec.policies.items():
        window_s = getattr(policy, "rate_window_s", told_s)
        if window_s != told_s:
            yield (
                f"policy {name} takes rates to span {window_s:g} s (rate_window_s), and here they span {told_s:g} s"
                " (telemetry.rate_window_s): it misjudges what comes"
            )


WARNINGS: Final = (_repaired, _too_long, _too_much, _uncounted, _unfinished, _other_windows)
