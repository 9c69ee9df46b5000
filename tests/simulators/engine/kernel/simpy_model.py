"""Iteration-level continuous batching (Yu et al., Orca, OSDI 2022) in idiomatic SimPy: processes that wait.

It shares nothing with the kernel or with its reference: times are seconds in floating point, a replica is a process
that computes one step after another, and the requests of a step are visited one by one. It models a synchronous
engine: chunked prefill within the step's token budget, first come first served, at most `max_seqs` requests at
once, KV blocks reserved as tokens come. It has no host time, CUDA graphs or speculation, and it raises where an
engine would have to preempt.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import simpy

from simulators.engine.models.service import ServiceModel

Wait = Generator[simpy.Event, Any, None]


@dataclass(slots=True)
class Request:
    """A request with its progress (tokens) and times (seconds). `replica` is the one that served it."""

    arrival_s: float
    prompt: int
    output: int
    enter_s: float = -1.0
    computed: int = 0
    generated: int = 0
    replica: int = -1
    admit_s: float = -1.0
    first_s: float = -1.0
    finish_s: float = -1.0


@dataclass
class Engine:
    """One replica: a process that sleeps while it has no request."""

    env: simpy.Environment
    model: ServiceModel
    number: int
    waiting: deque[Request] = field(default_factory=deque)
    running: list[Request] = field(default_factory=list)
    steps: int = 0

    def __post_init__(self) -> None:
        self.wake = self.env.event()
        self.env.process(self.serve())

    @property
    def outstanding(self) -> int:
        return len(self.waiting) + len(self.running)

    def submit(self, request: Request) -> None:
        request.replica, request.enter_s = self.number, self.env.now
        self.waiting.append(request)
        if not self.wake.triggered:
            self.wake.succeed()

    def serve(self) -> Wait:
        while True:
            if not self.outstanding:
                self.wake = self.env.event()
                yield self.wake
            while not self.running and self.env.now < self.seen_s(self.waiting[0]):
                yield self.env.timeout(self.seen_s(self.waiting[0]) - self.env.now)
            yield from self.step()

    def seen_s(self, request: Request) -> float:
        """Return when the scheduler can see a request."""
        return request.enter_s + self.model.ingest_s

    def step(self) -> Wait:
        """Schedule a step, wait while the GPU computes it, and hand out its tokens."""
        decoding = [r for r in self.running if r.computed >= r.prompt]
        held = sum(r.computed for r in decoding)
        for r in decoding:
            r.computed += 1
        chunks = self.prefill(self.model.max_step_tokens - len(decoding))
        yield self.env.timeout(self.step_s(decoding, held, chunks))
        self.steps += 1
        for r, q in chunks:
            r.computed += q
        self.hand_out([r for r in self.running if r.computed >= r.prompt])

    def prefill(self, budget: int) -> list[tuple[Request, int]]:
        """Return the step's prompt chunks (request, tokens): running requests first, then waiting ones."""
        chunks: list[tuple[Request, int]] = []
        for r in self.running:
            if r.computed < r.prompt and budget > 0:
                chunks.append((r, min(budget, r.prompt - r.computed)))
                budget -= chunks[-1][1]
        while budget > 0 and self.waiting and self.admissible(self.waiting[0]):
            r = self.waiting.popleft()
            r.admit_s = self.env.now
            self.running.append(r)
            chunks.append((r, min(budget, r.prompt)))
            budget -= chunks[-1][1]
        return chunks

    def admissible(self, request: Request) -> bool:
        free = self.model.kv_blocks - sum(self.blocks(max(r.prompt, r.computed)) for r in self.running)
        if free < 0:
            raise RuntimeError("the KV cache is full: this model knows no preemption; give it more kv_tokens")
        has_place = len(self.running) < self.model.max_seqs
        return has_place and self.env.now >= self.seen_s(request) and self.blocks(request.prompt) <= free

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.model.block_tokens)

    def hand_out(self, sampled: Sequence[Request]) -> None:
        for r in sampled:
            r.generated += 1
            if r.generated == 1:
                r.first_s = self.env.now
            if r.generated == r.output:
                r.finish_s = self.env.now
        self.running = [r for r in self.running if r.generated < r.output]

    def step_s(self, decoding: Sequence[Request], held: int, chunks: Sequence[tuple[Request, int]]) -> float:
        m = self.model
        tokens = len(decoding) + sum(q for _, q in chunks)
        sampled = len(decoding) + sum(r.computed + q == r.prompt for r, q in chunks)
        memory_s = m.mem_base_s + m.mem_token_s * tokens
        computing_s = m.cmp_base_s + m.cmp_token_s * tokens + m.cmp_seq_s * sampled
        pairs = sum(q * (r.computed + q / 2) for r, q in chunks)
        kv_s = m.kv_mixed_s if chunks else m.kv_decode_s
        return max(memory_s, computing_s) + m.attn_pair_s * pairs + kv_s * held


def simulate(model: ServiceModel, replicas: int, requests: Sequence[Request]) -> int:
    """Serve the requests in order of arrival, each on the least loaded replica. Return the number of steps."""
    env = simpy.Environment()
    engines = [Engine(env, model, number) for number in range(replicas)]

    def arrivals() -> Wait:
        for request in requests:
            yield env.timeout(max(0.0, request.arrival_s - env.now))
            min(engines, key=lambda e: (e.outstanding, e.number)).submit(request)

    env.process(arrivals())
    env.run()
    return sum(e.steps for e in engines)
