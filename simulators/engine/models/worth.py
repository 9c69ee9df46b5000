"""Token rates of a saturated engine, computed from its service model.

They are a policy's prior before it learns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

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
