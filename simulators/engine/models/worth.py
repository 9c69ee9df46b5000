"""What an engine carries at saturation, by its model: the prior from which a policy begins to learn."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.engine.models.service import ServiceModel


@dataclass(frozen=True, slots=True)
class SaturationRates:
    """Tokens a second that a replica handles at the most, if all were of one kind."""

    prompt_tokens_per_s: float
    generation_tokens_per_s: float


def worth(model: ServiceModel, context_tokens: int = 1200) -> SaturationRates:
    """Prompts alone in full steps; decoding alone in a full batch, each sequence with `context_tokens` before it."""
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
