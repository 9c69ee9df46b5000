"""Invariants of every world: no request is lost, no replica idles while requests wait, units do not matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from simulators.engine.kernel import layout
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.layout import NEVER
from simulators.engine.models.integers import integers
from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.laws import law
from tests.simulators.engine import reference
from tests.simulators.engine.kernel.worlds import VLLM, World, by_kernel, outcome, worlds

pytestmark = pytest.mark.slow

RISING = (layout.LAST_EVENT, layout.STEP, layout.TOKENS_OUT, layout.TOKENS_IN, layout.FINISHED, layout.OCCUPIED)
LAUNCHED = (layout.BUSY, layout.GPU_END)
"""Fields that count a step at its launch. A kill takes back the part that was not computed."""


def follow(world: World, stops_ps: Sequence[int], unused: Sequence[int] = ()) -> Iterator[tuple[int, Kernel]]:
    """Run a world; yield it before the events at each of `stops_ps`, and at the end.

    ``unused[n]`` replicas that never start are added before replica n.
    """
    k = Kernel([world.model], world.router, world.seed, len(world.requests.arrival_ps))
    arrival, *counts = (np.array(column) for column in world.requests)
    k.offer(arrival, *(c.astype(np.int32) for c in counts))
    changes: list[tuple[int, int, int]] = [(t, -1, -1) for t in stops_ps]
    for plan, unused_before in zip(world.plans, unused or [0] * len(world.plans), strict=True):
        for _ in range(unused_before):
            k.add(plan.model, plan.key)
        times_ps = (plan.kill_ps, plan.start_ps, NEVER if plan.drain_ps is None else plan.drain_ps)
        last = NEVER if plan.kill_ps is None else plan.kill_ps
        number = k.add(plan.model, plan.key)
        changes += [(t, kind, number) for kind, t in enumerate(times_ps) if t is not None and t <= last]
    for t, kind, number in sorted(c for c in changes if c[0] < NEVER):
        k.advance(t)
        if kind < 0:
            yield t, k
        else:
            (k.kill, k.start, k.drain)[kind](number)
    k.advance(NEVER)
    yield NEVER, k


def event_times(world: World) -> list[int]:
    """Return the times just before and just after each event of a request."""
    times = np.unique(by_kernel(world).times)
    return sorted({int(t) + after for t in times[times >= 0] for after in (0, 1)})


@law(100)
@given(worlds())
def test_every_arrived_request_is_counted_in_exactly_one_state(world: World) -> None:
    for _, k in follow(world, event_times(world)):
        s, w = k.read().rows, k.world
        lost = int((k.times[:, layout.FINISH] == layout.LOST).sum())
        present = int(s[:, layout.OUTSTANDING].sum()) + int(w[layout.QUEUED])
        gone = int(s[:, layout.FINISHED].sum()) + int(w[layout.REJECTIONS] + w[layout.TIMEOUTS]) + lost
        assert w[layout.ARRIVED] == present + gone
        assert (s[:, layout.OUTSTANDING] == s[:, layout.WAITING] + s[:, layout.RUNNING]).all()


@law(100)
@given(worlds())
def test_kv_usage_is_within_capacity_and_zero_without_running_requests(world: World) -> None:
    for _, k in follow(world, event_times(world)):
        s = k.read().rows
        assert (s[:, layout.USED] >= 0).all()
        assert (s[:, layout.USED] <= world.model.kv_blocks).all()
        assert (s[:, layout.RUNNING] <= world.model.max_seqs).all()
        assert (s[s[:, layout.RUNNING] == 0, layout.USED] == 0).all()


@law(100)
@given(worlds(), st.data())
def test_replica_state_at_any_time_equals_the_reference(world: World, data: st.DataObject) -> None:
    t = data.draw(st.sampled_from(event_times(world)))
    patience_s = world.router.patience_s
    results = reference.simulate(
        [integers(world.model)],
        world.plans,
        world.requests,
        world.router.kind,
        world.router.limit,
        world.router.queue_limit,
        None if patience_s is None else round(patience_s * 10**12),
        world.seed,
        until_ps=t,
    )
    _, k = next(follow(world, [t]))
    for s, plan, counters in zip(k.read().rows, world.plans, results.replicas, strict=True):
        if plan.kill_ps is None or plan.kill_ps >= t:
            actual = tuple(int(s[f]) for f in (layout.RUNNING, layout.WAITING, layout.USED, layout.TOKENS_OUT))
            assert actual == tuple(counters)


@law(100)
@given(worlds())
def test_every_requested_token_is_produced_once(world: World) -> None:
    k = by_kernel(world)
    finish, replica, prompt, output = k.times[:, layout.FINISH], k.counts[:, layout.REPLICA], *k.counts.T[:2]
    for s, plan in zip(k.read().rows, world.plans, strict=True):
        done = (replica == s[layout.NUMBER]) & (finish >= 0)
        assert s[layout.FINISHED] == done.sum()
        if plan.kill_ps is None:
            assert s[layout.TOKENS_OUT] == output[done].sum()
            assert s[layout.TOKENS_IN] == prompt[done].sum()
        else:
            lost = (replica == s[layout.NUMBER]) & (finish == layout.LOST)
            assert output[done].sum() <= s[layout.TOKENS_OUT] <= output[done | lost].sum()
    if all(p.kill_ps is None for p in world.plans) and not k.replicas[:, layout.PREEMPTIONS].any():
        stride = k.counts[:, layout.STRIDE]
        assert k.gaps.sum() == (-(-(output - 1) // stride))[finish >= 0].sum()


@law(100)
@given(worlds())
def test_times_of_a_request_are_in_causal_order(world: World) -> None:
    k = by_kernel(world)
    arrival, enter, admit, first, finish = k.times.T
    assert (arrival <= enter)[enter >= 0].all()
    assert (enter + integers(world.model).ingest <= admit)[admit >= 0].all()
    assert (admit < first)[first >= 0].all()
    assert (first <= finish)[finish >= 0].all()
    assert ((enter >= 0) | (admit < 0)).all()
    assert ((admit >= 0) | (first < 0)).all()
    assert ((first >= 0) | (finish < 0)).all()


@law(100)
@given(worlds())
def test_no_request_waits_while_a_replica_could_serve_it(world: World) -> None:
    ingest = integers(world.model).ingest
    for _, k in follow(world, event_times(world)):
        limit = int(k.world[layout.LIMIT])
        for s in k.read().rows:
            assert s[layout.DUE] >= k.now_ps
            assert s[layout.OUTSTANDING] == 0 or s[layout.DUE] < NEVER
            if s[layout.WAITING] and not s[layout.RUNNING]:
                visible_ps = k.times[s[layout.FIFO_HEAD], layout.ENTER] + ingest
                assert s[layout.DUE] <= max(int(s[layout.GPU_END]), int(visible_ps))
            if k.world[layout.QUEUED]:
                assert not s[layout.TAKES] or s[layout.OUTSTANDING] >= limit


@law(100)
@given(worlds())
def test_clocks_and_counters_never_decrease(world: World) -> None:
    killed = np.array([NEVER if p.kill_ps is None else p.kill_ps for p in world.plans])
    before = np.zeros((len(killed), layout.REPLICA_FIELDS), dtype=np.int64)
    for t, k in follow(world, event_times(world)):
        assert k.now_ps == t
        s = k.read().rows.copy()
        assert (s[:, RISING] >= before[:, RISING]).all()
        assert (s[:, LAUNCHED] >= before[:, LAUNCHED])[killed >= t].all()
        assert (s[:, layout.BUSY] <= s[:, layout.GPU_END]).all()
        assert (s[:, layout.LAST_EVENT] < max(1, t)).all()
        before = s


@law(100)
@given(worlds())
def test_requests_present_over_time_equal_the_sum_of_their_stays(world: World) -> None:
    """Little's law (1961) holds exactly on every replica and in the central queue, the ends of the run included."""
    model = replace(world.model, front_base_s=0.0, front_seq_s=0.0)
    world = replace(world, model=model, router=replace(world.router, patience_s=None))
    rules = zip(world.requests.prompt, world.requests.output, world.requests.stride, strict=True)
    assume(all(-(-sum(r) // model.block_tokens) <= model.kv_blocks for r in rules))
    killed = np.array([NEVER if p.kill_ps is None else p.kill_ps for p in world.plans])
    times = by_kernel(world).times
    marks = np.unique((*times[times >= 0], *killed[killed < NEVER])).tolist()
    present, busy, queued = np.zeros_like(killed), np.zeros_like(killed), 0
    k = Kernel([model], world.router, 0, 1)
    for (_, k), (start, end) in zip(follow(world, [t + 1 for t in marks]), pairwise(marks), strict=False):
        outstanding = k.read().rows[:, layout.OUTSTANDING]
        present += outstanding * (end - start)
        busy += (outstanding > 0) * (end - start)
        queued += int(k.world[layout.QUEUED]) * (end - start)
    arrival, enter, *_, finish = times.T
    replica = by_kernel(world).counts[:, layout.REPLICA]
    leave = np.where(finish == layout.LOST, killed[replica], finish)
    assert present.tolist() == [(leave - enter)[replica == r].sum() for r in range(len(killed))]
    left = np.where(enter >= 0, enter, np.where(finish == layout.OPEN, marks[-1], arrival))
    assert queued == (left - arrival).sum()
    assert [by_kernel(world).occupied_ps(r) for r in range(len(killed))] == busy.tolist()


TIMES = tuple(name for name in ServiceModel.__dataclass_fields__ if name.endswith("_s"))


@law(100)
@given(worlds(), st.sampled_from([2, 3, 7]))
def test_scaling_all_input_times_scales_all_results(world: World, k: int) -> None:
    """Input times multiplied by k multiply all results by k. Launch noise is left out: it is rounded."""
    quiet = replace(world, model=replace(world.model, host_eager_s=0.0), reads_ps=[])
    slower: dict[str, Any] = {name: k * getattr(quiet.model, name) for name in TIMES}
    patience_s = world.router.patience_s
    slow = replace(
        quiet,
        model=replace(quiet.model, **slower),
        plans=[
            p._replace(
                start_ps=k * p.start_ps,
                drain_ps=None if p.drain_ps is None else k * p.drain_ps,
                kill_ps=None if p.kill_ps is None else k * p.kill_ps,
            )
            for p in world.plans
        ],
        requests=world.requests._replace(arrival_ps=[k * t for t in world.requests.arrival_ps]),
        router=replace(world.router, patience_s=None if patience_s is None else k * patience_s),
    )
    times = by_kernel(quiet).times
    assert by_kernel(slow).times.tolist() == np.where(times >= 0, k * times, times).tolist()


@law(100)
@given(worlds(), st.lists(st.integers(0, 9), min_size=5, max_size=5))
def test_replicas_that_never_start_do_not_change_the_results(world: World, unused: list[int]) -> None:
    unused = unused[: len(world.plans)]
    *_, (_, k) = follow(world, world.reads_ps, unused)
    numbers = np.cumsum(np.array(unused) + 1) - 1
    result = outcome(k)
    result["replica"] = [-1 if r < 0 else numbers.tolist().index(r) for r in result["replica"]]
    assert result == outcome(by_kernel(world))


def test_tokens_dropped_by_a_preemption_are_counted_exactly() -> None:
    """3 blocks of 16 tokens, 2 prompts of 16: both need a second block to decode, so the later one is preempted."""
    model = replace(VLLM, kv_tokens=48, max_seqs=4, pipelined=False)
    k = Kernel([model], Router(), 0, 2)
    k.start(k.add(0, 1))
    k.offer(np.zeros(2, np.int64), np.full(2, 16, np.int32), np.array([12, 12], np.int32))
    k.advance(60 * PS_PER_S)
    s = k.read().rows[0]
    assert (int(s[layout.PREEMPTIONS]), int(s[layout.DROPPED])) == (1, 16)
