"""The engine's rules (``docs/explanation/simulator.md``) followed one iteration at a time, in plain Python integers.

It shares no code with the kernel. It is written to be compared with the text, not to be fast: sums over the batch are
computed again in each step. The kernel must give the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

from simulators.engine.models.integers import Integers

MASK: Final = 2**64 - 1


class State(IntEnum):
    """State of a request. PENDING: it has not arrived, or it waits or runs."""

    PENDING = 0
    FINISHED = 1
    REJECTED = 2
    TIMED_OUT = 3
    LOST = 4


class ReplicaPlan(NamedTuple):
    """Life of a replica: it serves from `start_ps`, takes no request from `drain_ps` on, and ends at `kill_ps`."""

    model: int = 0
    key: int = 0
    start_ps: int = 0
    drain_ps: int | None = None
    kill_ps: int | None = None


class Requests(NamedTuple):
    """Requests in order of arrival, numbered by position."""

    arrival_ps: Sequence[int]
    prompt: Sequence[int]
    output: Sequence[int]
    cached: Sequence[int]
    stride: Sequence[int]


class Counters(NamedTuple):
    """A replica's state at the end: requests running (or leaving) and waiting, blocks used, tokens handed out."""

    running: int
    waiting: int
    used_blocks: int
    tokens_out: int


@dataclass(slots=True)
class Results:
    """Times per request in picoseconds (-1: never), total `preemptions`, and `replicas` in the order of their plans."""

    admit: list[int]
    first: list[int]
    finish: list[int]
    replica: list[int]
    state: list[State]
    preemptions: int = 0
    replicas: list[Counters] = field(default_factory=list)


@dataclass(slots=True)
class Job:
    """A request on a replica. `held` tokens are in the cache; its prefill is complete at `target` tokens."""

    number: int
    prompt: int
    output: int
    cached: int
    stride: int
    enter: int
    generated: int = 0
    target: int = 0
    held: int = 0
    leaving: bool = False


@dataclass(slots=True)
class Sample:
    """A request's tokens in one step."""

    job: Job
    tokens: int
    first: bool
    last: bool


def splitmix64(x: int) -> int:
    """Return 64 mixed bits (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014)."""
    z = (x + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def step_time(i: Integers, tokens: int, sampled: int, pairs: int, held: int, prefill: bool) -> int:
    """Return G, the step's time on the GPU."""
    padded = tokens
    if tokens <= i.graph_tokens:
        padded = tokens if tokens <= 2 else 4 if tokens <= 4 else -(-tokens // 8) * 8
    memory = i.mem_base + i.mem_token * padded
    compute = i.cmp_base + i.cmp_token * padded + i.cmp_seq * sampled
    return max(memory, compute) + i.attn * pairs // 1000 + (i.kv_mixed if prefill else i.kv_decode) * held


def host_time(i: Integers, tokens: int, running: int, prefill: bool, seed: int) -> int:
    """Return C, the host's time to launch the step."""
    launch = i.host_decode
    if tokens > i.graph_tokens:
        launch = i.host_eager * int(i.noise[splitmix64(seed & MASK) >> 54]) // 65536
    elif prefill:
        launch = i.host_graph
    return launch + i.host_seq * running


class Engine:
    """One replica."""

    def __init__(self, world: World, number: int, plan: ReplicaPlan, i: Integers) -> None:
        self.world, self.number, self.plan, self.i = world, number, plan, i
        self.event_at: int | None = plan.start_ps
        self.drain = False
        self.alive = True
        self.gpu_end = self.front_end = self.step = self.tokens_out = 0
        self.waiting: list[Job] = []
        self.running: list[Job] = []
        self.flight: list[list[Sample]] = []

    def blocks(self, tokens: int) -> int:
        return -(-tokens // self.i.block)

    def free(self) -> int:
        return self.i.kv_blocks - sum(self.blocks(max(j.held, j.target)) for j in self.running)

    def takes(self, t: int) -> bool:
        drained = self.plan.drain_ps is not None and t >= self.plan.drain_ps
        below_limit = self.world.limit is None or len(self.waiting) + len(self.running) < self.world.limit
        return self.alive and self.plan.start_ps <= t and not drained and below_limit

    def take(self, number: int, t: int) -> bool:
        """Put a request into the queue and return True. Reject it and return False if it can never fit."""
        r, world = self.world.requests, self.world
        job = Job(number, r.prompt[number], r.output[number], r.cached[number], r.stride[number], t)
        if self.blocks(job.prompt + job.output + job.stride) > self.i.kv_blocks:
            world.out.state[number] = State.REJECTED
            return False
        world.out.replica[number] = self.number
        self.waiting.append(job)
        return True

    def event(self, t: int) -> None:
        self.hand_out(t, keep=1 if self.i.pipelined and not self.drain else 0)
        self.drain = False
        self.event_at = None
        self.world.pull(self, t)
        self.schedule(t)

    def hand_out(self, t: int, keep: int) -> None:
        out = self.world.out
        while len(self.flight) > keep:
            samples = self.flight.pop(0)
            if not samples:
                continue
            self.front_end = max(self.front_end, t) + self.i.front_base + self.i.front_seq * len(samples)
            for s in samples:
                self.tokens_out += s.tokens
                if s.first:
                    out.first[s.job.number] = self.front_end
                if s.last:
                    out.finish[s.job.number] = self.front_end
                    out.state[s.job.number] = State.FINISHED
                    self.running.remove(s.job)

    def schedule(self, t: int) -> None:
        preempted = self.preempt()
        decoding = self.decoding()
        held = sum(j.held for j in decoding)
        budget = self.i.max_tokens - len(decoding) * (1 + self.i.draft)
        samples = [self.sample(j, j.stride) for j in decoding]
        for s in samples:
            s.job.held += s.job.stride
        chunks: list[tuple[int, int]] = []
        for job in self.running:
            if job.held < job.target and budget > 0:
                budget -= self.prefill(job, budget, chunks, samples)
        while budget > 0 and not preempted and self.admit(t):
            budget -= self.prefill(self.running[-1], budget, chunks, samples)
        tokens = len(decoding) * (1 + self.i.draft) + sum(q for q, _ in chunks)
        if tokens:
            self.launch(t, tokens, samples, sum(q * (2 * x + q) for q, x in chunks), held, bool(chunks))
        elif self.flight:
            self.drain = True
            self.event_at = max(t, self.gpu_end)
        elif self.waiting:
            self.event_at = self.waiting[0].enter + self.i.ingest

    def decoding(self) -> list[Job]:
        return [j for j in self.running if j.held >= j.target and not j.leaving]

    def preempt(self) -> bool:
        """Send the request admitted last back to the queue until the new tokens of the decoding ones fit."""
        preempted = False
        while sum(self.blocks(j.held + j.stride) - self.blocks(j.held) for j in self.decoding()) > self.free():
            job = [j for j in self.running if not j.leaving][-1]
            self.running.remove(job)
            job.held = job.target = 0
            self.waiting.insert(0, job)
            self.world.out.preemptions += 1
            preempted = True
        return preempted

    def admit(self, t: int) -> bool:
        """Admit the head of the FIFO if it fits. Drop a head that waited too long, and try the next one."""
        out, world = self.world.out, self.world
        while self.waiting and len(self.running) < self.i.max_seqs:
            job = self.waiting[0]
            target = job.prompt + job.generated
            if job.enter + self.i.ingest > t or self.blocks(target) > self.free():
                return False
            self.waiting.pop(0)
            if out.admit[job.number] == -1 and world.too_late(job.number, t):
                out.state[job.number] = State.TIMED_OUT
                world.pull(self, t)
                continue
            if out.admit[job.number] == -1:
                out.admit[job.number] = t
            job.target, job.held = target, job.cached
            self.running.append(job)
            return True
        return False

    def prefill(self, job: Job, budget: int, chunks: list[tuple[int, int]], samples: list[Sample]) -> int:
        q = min(budget, job.target - job.held)
        chunks.append((q, job.held))
        job.held += q
        if job.held == job.target:
            samples.append(self.sample(job, 1))
        return q

    def sample(self, job: Job, tokens: int) -> Sample:
        first, before = job.generated == 0, job.generated
        job.generated = min(job.output, before + tokens)
        job.leaving = job.generated == job.output
        return Sample(job, job.generated - before, first, job.leaving)

    def launch(self, t: int, tokens: int, samples: list[Sample], pairs: int, held: int, prefill: bool) -> None:
        gpu = step_time(self.i, tokens, len(samples), pairs, held, prefill)
        host_end = t + host_time(self.i, tokens, len(self.running), prefill, self.plan.key + self.step + 1)
        before = self.gpu_end
        self.gpu_end = max(max(before, t) + gpu, host_end)
        self.event_at = max(host_end, before) if self.i.pipelined else self.gpu_end
        self.step += 1
        self.flight.append(samples)

    def kill(self) -> None:
        out = self.world.out
        self.alive, self.event_at = False, None
        self.waiting, self.running, self.flight = [], [], []
        for number, replica in enumerate(out.replica):
            if replica == self.number and out.state[number] is State.PENDING:
                out.state[number] = State.LOST

    def counters(self) -> Counters:
        used = self.i.kv_blocks - self.free()
        return Counters(len(self.running), len(self.waiting), used, self.tokens_out)


class World:
    """The router, the central queue and the replicas."""

    def __init__(self, requests: Requests, limit: int | None, patience_ps: int | None) -> None:
        n = len(requests.arrival_ps)
        self.requests, self.limit, self.patience_ps = requests, limit, patience_ps
        self.queue: list[int] = []
        self.chosen = -1
        self.out = Results([-1] * n, [-1] * n, [-1] * n, [-1] * n, [State.PENDING] * n)

    def too_late(self, number: int, t: int) -> bool:
        return self.patience_ps is not None and t - self.requests.arrival_ps[number] > self.patience_ps

    def pull(self, engine: Engine, t: int) -> None:
        while self.queue and engine.takes(t):
            number = self.queue.pop(0)
            if self.too_late(number, t):
                self.out.state[number] = State.TIMED_OUT
            else:
                engine.take(number, t)

    def choose(self, eligible: list[Engine], router: str, seed: int, number: int) -> Engine:
        if router == "least_loaded":
            return min(eligible, key=lambda e: (len(e.waiting) + len(e.running), e.number))
        if router == "round_robin":
            return next((e for e in eligible if e.number > self.chosen), eligible[0])
        return eligible[splitmix64((seed + number) & MASK) % len(eligible)]

    def arrive(self, number: int, engines: list[Engine], router: str, queue_limit: int | None, seed: int) -> None:
        t = self.requests.arrival_ps[number]
        eligible = [e for e in engines if e.takes(t)]
        if eligible:
            engine = self.choose(eligible, router, seed, number)
            self.chosen = engine.number
            if engine.take(number, t) and engine.event_at is None:
                engine.event_at = t + engine.i.ingest
        elif queue_limit is None or len(self.queue) < queue_limit:
            self.queue.append(number)
        else:
            self.out.state[number] = State.REJECTED


def simulate(
    models: Sequence[Integers],
    replicas: Sequence[ReplicaPlan],
    requests: Requests,
    router: str = "least_loaded",
    limit: int | None = None,
    queue_limit: int | None = None,
    patience_ps: int | None = None,
    seed: int = 0,
    until_ps: int | None = None,
) -> Results:
    """Run until no event is left, or to just before `until_ps`."""
    world = World(requests, limit, patience_ps)
    engines = [Engine(world, n, plan, models[plan.model]) for n, plan in enumerate(replicas)]
    arrived = 0
    while True:
        agenda = [(e.plan.kill_ps, 0, e.number) for e in engines if e.alive and e.plan.kill_ps is not None]
        agenda += [(e.event_at, 1, e.number) for e in engines if e.event_at is not None]
        if arrived < len(requests.arrival_ps):
            agenda.append((requests.arrival_ps[arrived], 2, arrived))
        if not agenda or (until_ps is not None and min(agenda)[0] >= until_ps):
            break
        t, kind, number = min(agenda)
        if kind == 0:
            engines[number].kill()
        elif kind == 1:
            engines[number].event(t)
        else:
            world.arrive(arrived, engines, router, queue_limit, seed)
            arrived += 1
    world.out.replicas = [e.counters() for e in engines]
    return world.out
