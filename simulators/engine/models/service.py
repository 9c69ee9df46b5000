"""Service model of one replica.

It has the step times and capacity of one model on one kind of accelerator.
"""

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
    """Service model of a replica, in seconds and tokens.

    ``docs/explanation/simulator.md`` has the equations.

    The defaults of the optional terms describe a synchronous engine without host overhead, so a model of GPU time only
    (``a + max(w, b T) + c K + d A``) is a special case. Upper bounds keep each step's time within 64-bit integers.
    """

    name: Annotated[
        str, FieldMetadata("Name in the catalogue: model, accelerator and engine.", example="llama-3.1-8b-h100")
    ]
    mem_base_s: Annotated[float, FieldMetadata("Constant part of a memory-bound step. Seconds.", ge=0, le=10)]
    cmp_base_s: Annotated[float, FieldMetadata("Constant part of a compute-bound step. Seconds.", ge=0, le=10)]
    cmp_token_s: Annotated[float, FieldMetadata("Compute-bound time per token. Seconds.", ge=0, le=0.1)]
    kv_decode_s: Annotated[float, FieldMetadata("Time per KV token read in a decode step. Seconds.", ge=0, le=1e-4)]
    kv_mixed_s: Annotated[float, FieldMetadata("Time per KV token read in a mixed step. Seconds.", ge=0, le=1e-4)]
    attn_pair_s: Annotated[
        float, FieldMetadata("Time per pair of tokens in prefill attention. Seconds.", ge=0, le=1e-7)
    ]
    kv_tokens: Annotated[int, FieldMetadata("KV-cache capacity. Tokens.", ge=1, le=1_000_000_000)]
    max_seqs: Annotated[
        int, FieldMetadata("Maximum running requests (vLLM max_num_seqs). Requests.", ge=1, le=8192)
    ] = 256
    max_step_tokens: Annotated[
        int, FieldMetadata("Token budget of a step (vLLM max_num_batched_tokens). Tokens.", ge=1, le=1_000_000)
    ] = 2048
    block_tokens: Annotated[int, FieldMetadata("Size of a KV-cache block. Tokens.", ge=1, le=256)] = 16
    mem_token_s: Annotated[float, FieldMetadata("Memory-bound time per token. Seconds.", ge=0, le=0.1)] = 0.0
    cmp_seq_s: Annotated[float, FieldMetadata("Compute-bound time per sampled sequence. Seconds.", ge=0, le=0.1)] = 0.0
    host_decode_s: Annotated[float, FieldMetadata("Host time to launch a pure decode step. Seconds.", ge=0, le=10)] = (
        0.0
    )
    host_graph_s: Annotated[float, FieldMetadata("Host time to launch a small mixed step. Seconds.", ge=0, le=10)] = 0.0
    host_eager_s: Annotated[
        float, FieldMetadata("Mean host time to launch a step too large for a CUDA graph. Seconds.", ge=0, le=1)
    ] = 0.0
    host_eager_sigma: Annotated[float, FieldMetadata("Log-normal spread of host_eager_s. Share.", ge=0, le=2)] = 0.0
    host_seq_s: Annotated[float, FieldMetadata("Host time per running sequence. Seconds.", ge=0, le=0.1)] = 0.0
    graph_tokens: Annotated[
        int, FieldMetadata("Largest step that runs as a CUDA graph; 0: none does. Tokens.", ge=0)
    ] = 0
    ingest_s: Annotated[
        float, FieldMetadata("Time from arrival until the scheduler sees a request. Seconds.", ge=0, le=10)
    ] = 0.0
    front_base_s: Annotated[float, FieldMetadata("Front-end time per step output. Seconds.", ge=0, le=10)] = 0.0
    front_seq_s: Annotated[float, FieldMetadata("Front-end time per sequence output. Seconds.", ge=0, le=0.1)] = 0.0
    pipelined: Annotated[bool, FieldMetadata("Whether a step is scheduled while the previous one runs.")] = False
    draft_tokens: Annotated[
        int, FieldMetadata("Speculative decoding: draft tokens per step and sequence. Tokens.", ge=0, le=64)
    ] = 0
    accepted_per_step: Annotated[
        float,
        FieldMetadata("Speculative decoding: mean tokens per decode step and sequence. Tokens.", ge=1, le=65),
    ] = 1.0
    calibrated: Annotated[
        bool, FieldMetadata("Whether `calibrate` fitted the model to runs of a real engine. Default: false.")
    ] = False
    provenance: Annotated[str, FieldMetadata("Source of the figures and their error. Default: none.")] = ""

    @property
    def kv_blocks(self) -> int:
        return self.kv_tokens // self.block_tokens

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield each reason why the model cannot run, as (key, rule broken)."""
        if self.max_seqs * (1 + self.draft_tokens) > self.max_step_tokens:
            yield (
                "max_seqs",
                "max_seqs * (1 + draft_tokens) must be at most max_step_tokens",
            )
        if self.accepted_per_step > 1 + self.draft_tokens:
            yield "accepted_per_step", f"must be at most draft_tokens + 1, {1 + self.draft_tokens}"
        if self.kv_blocks < 1:
            yield "kv_tokens", f"must hold at least one block of {self.block_tokens} tokens"
        pairs = self.max_step_tokens * (2 * self.kv_tokens + self.max_step_tokens)
        if self.attn_pair_s * FS_PER_S / 2 * pairs >= MAX_INTEGER:
            yield "attn_pair_s", "is too large: the attention time of the largest step exceeds 64 bits of femtoseconds"
        if self.mem_base_s + self.cmp_base_s + self.mem_token_s + self.cmp_token_s + self.host_decode_s <= 0:
            yield "cmp_base_s", "at least one time of a step must be above 0"
