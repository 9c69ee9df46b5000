"""Token rates of a saturated engine, computed from its service model.

They are a policy's prior before it learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.engine.models.service import ServiceModel

CONTEXT_TOKENS: Final = 1200
"""Tokens of each sequence, by default."""


@dataclass(frozen=True, slots=True)
class SaturationRates:
    """Maximum tokens per second of one replica, for prompts alone and for decoding alone."""

    prompt_tokens_per_s: float
    generation_tokens_per_s: float


def saturation_rates(model: ServiceModel, context_tokens: int = CONTEXT_TOKENS) -> SaturationRates:
    """Return the rates of full prefill steps and of a full decode batch.

    Each sequence has `context_tokens`. The prefill rate is step tokens / step time: 2048 tokens in 50.2 ms are 40,800
    tokens/s. The decode rate is batch / step time: 128 sequences in 14.4 ms are 8,890 tokens/s
    (``llama-3.1-8b-h100-vllm``).
    """
    full = model.max_step_tokens
    prefill_s = max(model.mem_base_s + full * model.mem_token_s, model.cmp_base_s + full * model.cmp_token_s)
    prefill_s = max(prefill_s, model.host_eager_s) + full * context_tokens / 2 * model.attn_pair_s
    batch = min(model.max_seqs, model.kv_tokens // context_tokens)
    decode_s = max(
        model.mem_base_s + batch * model.mem_token_s,
        model.cmp_base_s + batch * (model.cmp_token_s + model.cmp_seq_s),
    )
    decode_s += batch * context_tokens * model.kv_decode_s
    return SaturationRates(full / prefill_s, batch * model.accepted_per_step / decode_s)


PROFILED_PROMPTS: Final = (0.0, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Prompt tokens of the profiled steps, as shares of a full step."""
PROFILED_BATCHES: Final = (1, 8, 32, 128)
PROFILED_CONTEXTS: Final = (300, 1200, 4000)


def engine_profile(model: ServiceModel) -> dict[str, float]:
    """Return limits and step times of an engine, as a profiler fits them.

    A step is a line over prompt and cached tokens, by least squares over steps with prompts of up to a full step next
    to 1 to 128 running requests. The keys are the parameters of a planner that works with a profile.
    """
    steps = [
        (share * model.max_step_tokens, float(batch), float(batch * context))
        for share in PROFILED_PROMPTS
        for batch in PROFILED_BATCHES
        for context in PROFILED_CONTEXTS
        if batch <= model.max_seqs and batch * context <= model.kv_tokens
    ]
    rows = np.array([(1.0, prompt, cached) for prompt, _, cached in steps])
    times_s = np.array([_step_s(model, *step) for step in steps])
    step_s, prompt_token_s, kv_token_s = np.maximum(np.linalg.lstsq(rows, times_s, rcond=None)[0], 0.0).tolist()
    return {
        "kv_tokens": model.kv_tokens,
        "max_seqs": model.max_seqs,
        "max_step_tokens": model.max_step_tokens,
        "step_s": step_s,
        "prompt_token_s": prompt_token_s,
        "kv_token_s": kv_token_s,
    }


def _step_s(model: ServiceModel, prompt_tokens: float, batch: float, cached_tokens: float) -> float:
    """Return the time of a step with prompt tokens and a batch of decoding requests. Seconds."""
    tokens = prompt_tokens + batch
    compute_s = model.cmp_base_s + tokens * model.cmp_token_s + batch * model.cmp_seq_s
    busy_s = max(model.mem_base_s + tokens * model.mem_token_s, compute_s)
    launch_s = model.host_graph_s if tokens <= model.graph_tokens else model.host_eager_s
    host_s, kv_token_s = (model.host_decode_s, model.kv_decode_s) if not prompt_tokens else (launch_s, model.kv_mixed_s)
    return (
        max(busy_s, host_s + batch * model.host_seq_s)
        + cached_tokens * kv_token_s
        + prompt_tokens**2 / 2 * model.attn_pair_s
    )
