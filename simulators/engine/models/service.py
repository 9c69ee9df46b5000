"""Service model of one replica: step times and capacity of one model on one kind of accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata

PS_PER_S: Final = 10**12
FS_PER_S: Final = 10**15
MAX_INTEGER: Final = 2**62


@dataclass(frozen=True, kw_only=True)
class ServiceModel:
    """Service model of a replica, in seconds and tokens. ``docs/simulator.md`` has the equations.

    The defaults of the optional terms describe a synchronous engine without host overhead, so a model of GPU time only
    (``a + max(w, b T) + c K + d A``) is a special case. Upper bounds keep each step's time within 64-bit integers.
    """

    name: Annotated[
        str, FieldMetadata("Model, accelerator and engine, as the catalogue lists it.", example="llama-3.1-8b-h100")
    ]
    mem_base_s: Annotated[float, FieldMetadata("A step that memory bounds: constant part. Seconds.", ge=0, le=10)]
    cmp_base_s: Annotated[float, FieldMetadata("A step that computing bounds: constant part. Seconds.", ge=0, le=10)]
    cmp_token_s: Annotated[float, FieldMetadata("Computing-bound time per token. Seconds.", ge=0, le=0.1)]
    kv_decode_s: Annotated[float, FieldMetadata("Time per KV token that decoding reads. Seconds.", ge=0, le=1e-4)]
    kv_mixed_s: Annotated[float, FieldMetadata("The same in a step that also prefills. Seconds.", ge=0, le=1e-4)]
    attn_pair_s: Annotated[
        float, FieldMetadata("Time per pair of tokens that prefill attends. Seconds.", ge=0, le=1e-7)
    ]
    kv_tokens: Annotated[int, FieldMetadata("KV-cache capacity. Tokens.", ge=1, le=1_000_000_000)]
    max_seqs: Annotated[int, FieldMetadata("Requests that run at once (max_num_seqs).", ge=1, le=8192)] = 256
    max_step_tokens: Annotated[
        int, FieldMetadata("Token budget of a step (max_num_batched_tokens).", ge=1, le=1_000_000)
    ] = 2048
    block_tokens: Annotated[int, FieldMetadata("Tokens of a KV-cache block.", ge=1, le=256)] = 16
    mem_token_s: Annotated[float, FieldMetadata("Memory-bound time per token. Seconds.", ge=0, le=0.1)] = 0.0
    cmp_seq_s: Annotated[float, FieldMetadata("Computing-bound time per sequence sampled. Seconds.", ge=0, le=0.1)] = (
        0.0
    )
    host_decode_s: Annotated[float, FieldMetadata("Host time to launch a pure decode step. Seconds.", ge=0, le=10)] = (
        0.0
    )
    host_graph_s: Annotated[float, FieldMetadata("Host time to launch a small mixed step. Seconds.", ge=0, le=10)] = 0.0
    host_eager_s: Annotated[
        float, FieldMetadata("Mean host time to launch a step too large for a CUDA graph. Seconds.", ge=0, le=1)
    ] = 0.0
    host_eager_sigma: Annotated[float, FieldMetadata("Log-normal spread of that. Share.", ge=0, le=2)] = 0.0
    host_seq_s: Annotated[float, FieldMetadata("Host time per running sequence. Seconds.", ge=0, le=0.1)] = 0.0
    graph_tokens: Annotated[int, FieldMetadata("Largest step that runs as a CUDA graph; 0: none is padded.", ge=0)] = 0
    ingest_s: Annotated[
        float, FieldMetadata("From arrival until the scheduler can see a request. Seconds.", ge=0, le=10)
    ] = 0.0
    front_base_s: Annotated[float, FieldMetadata("Front end's time per step handed out. Seconds.", ge=0, le=10)] = 0.0
    front_seq_s: Annotated[float, FieldMetadata("Front end's time per sequence handed out. Seconds.", ge=0, le=0.1)] = (
        0.0
    )
    pipelined: Annotated[bool, FieldMetadata("Whether a step is scheduled while the one before it still runs.")] = False
    draft_tokens: Annotated[
        int, FieldMetadata("Speculative decoding: tokens drafted per step and sequence.", ge=0, le=64)
    ] = 0
    accepted_per_step: Annotated[
        float,
        FieldMetadata("Speculative decoding: mean tokens that a decode step yields a sequence. Tokens.", ge=1, le=65),
    ] = 1.0
    provenance: Annotated[str, FieldMetadata("Where the numbers come from, and how far they may be off.")] = ""

    @property
    def kv_blocks(self) -> int:
        return self.kv_tokens // self.block_tokens

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the model cannot run, as (key, rule broken)."""
        if self.max_seqs * (1 + self.draft_tokens) > self.max_step_tokens:
            yield (
                "max_seqs",
                "the step's token budget must hold one decode token, and the drafted ones, of every sequence",
            )
        if self.accepted_per_step > 1 + self.draft_tokens:
            yield "accepted_per_step", f"must be at most one more than draft_tokens, {self.draft_tokens}"
        if self.kv_blocks < 1:
            yield "kv_tokens", f"must hold at least one block of {self.block_tokens} tokens"
        pairs = self.max_step_tokens * (2 * self.kv_tokens + self.max_step_tokens)
        if self.attn_pair_s * FS_PER_S / 2 * pairs >= MAX_INTEGER:
            yield "attn_pair_s", "times the pairs of the largest step does not fit into 64 bits of femtoseconds"
        if self.mem_base_s + self.cmp_base_s + self.mem_token_s + self.cmp_token_s + self.host_decode_s <= 0:
            yield "cmp_base_s", "a step must take time: all of the step's times are zero"
