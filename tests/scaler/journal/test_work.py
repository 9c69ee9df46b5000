"""The work in a journal's ticks and starts is read correctly from any lines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.forecast.history_seed import HistorySeed
from policies.model import Evidence, PolicyName, PoolName, Recommendation, Tick, WorkloadName
from scaler.config.load import workload_from
from scaler.journal.codec import decode_initial_history, encode_initial_history
from scaler.journal.initial_history import InitialHistory
from scaler.journal.past_work import Grid, RecordedWork, means, work_since
from scaler.journal.reader import Journal, tail
from tests.factories import NOW
from tests.scaler.journal.test_journal import DOCUMENT, tick, writer

LLM, ME = WorkloadName("llm"), PolicyName("me")
WORKLOAD = workload_from(DOCUMENT)
SEED = HistorySeed.of(NOW - 900.0, 300.0, np.array([1.5, np.nan, 0.0]))
PAST = InitialHistory(LLM, NOW, 7, 3600.0, 15.0, {ME: SEED})


def measuring(at: float, work: float | None, **fields: Any) -> Tick:
    """Return a tick in which the policy `me` measured this work, with another policy."""
    base = tick(WORKLOAD, at)
    recommendation = Recommendation(ME, 1.0, Evidence.FULL, True, "why", work=work, **fields)
    other = Recommendation(PolicyName("other"), 1.0, Evidence.FULL, True, "why", work=99.0, peaks=((0.5, 9.0),))
    return replace(base, decision=replace(base.decision, recommendations=(recommendation, other)))


def recorded_work(directory: Path, *ticks: Tick, since: float = NOW - 100.0) -> list[tuple[float, float]]:
    w = writer(directory, keep=100)
    for base in ticks:
        w.write(base, WORKLOAD)
    w.close()
    samples = work_since(directory, since, {LLM: [ME]}).work.get((LLM, ME))
    return [] if samples is None else list(zip(samples.at, samples.work, strict=True))


TRAPS: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "peaks": {"peaks": ((0.5, 3.0),)},
    "lateness": {"latency_driven": 0.5},
    "a memory of that name": {"memory": {"a": 1.0, "work": 5.0}},
    "a pool of that name": {"pools": {PoolName("work"): 5}},
    "a text that looks like it": {"memory": {'"work":5}],"steps":[': 1.0}},
}


@pytest.mark.parametrize("fields", TRAPS.values(), ids=TRAPS)
@pytest.mark.parametrize("work", [2.5, 0.0, 1e-7, 12345678.9, None])
def test_work_since_reads_only_the_recorded_work(tmp_path: Path, work: float | None, fields: dict[str, Any]) -> None:
    assert recorded_work(tmp_path, measuring(NOW, work, **fields)) == ([] if work is None else [(NOW, work)])


def test_work_since_ignores_a_record_quoted_in_a_source_error(tmp_path: Path) -> None:
    quoted = json.dumps({"policy": "me", "work": 7.0})
    base = measuring(NOW, None)
    recommendation = replace(
        base, observation=replace(base.observation, source_errors={"queue": f'{quoted},"policy":"me"'})
    )
    assert recorded_work(tmp_path, recommendation) == []


def test_work_since_skips_old_ticks_and_damaged_lines(tmp_path: Path) -> None:
    ticks = [measuring(NOW + i, float(i)) for i in range(100)]
    assert len(recorded_work(tmp_path, *ticks)) == 100
    file = max(tmp_path.glob("*.jsonl"))
    lines = file.read_bytes().split(b"\n")
    hostile = [
        b"\xff\x00",
        b'{"v":2,"type":"initial_history","seeds":5}',
        lines[3][:900],
        lines[3].replace(b'"at":', b'"at":e'),
    ]
    newer = lines[3].replace(b'{"v":2', b'{"v":99')
    file.write_bytes(b"\n".join([*lines[:3], *hostile, newer, *lines[3:]]))
    samples = work_since(tmp_path, NOW + 60, {LLM: [ME]})
    assert list(samples.work[LLM, ME].work) == [float(i) for i in range(60, 100)]
    assert work_since(tmp_path, NOW, {WorkloadName("other"): [ME]}) == RecordedWork()
    assert work_since(tmp_path / "none", NOW, {LLM: [ME]}) == RecordedWork()


def test_means_leave_gaps_for_missing_and_invalid_work() -> None:
    at = np.array([-1.0, 0.0, 10.0, 299.0, 700.0, 701.0, 899.0, 950.0, np.inf, np.nan])
    work = np.array([9.0, 1.0, 2.0, 3.0, 4.0, np.nan, -5.0, 9.0, 9.0, 9.0])
    samples = means(at, work, Grid(0.0, 300.0, 4), until=940.0)
    assert samples.tolist() == pytest.approx([2.0, np.nan, 4.0, np.nan], nan_ok=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 1e9])
def test_seed_keeps_three_digits_and_drops_invalid_values(bad: float) -> None:
    seed = HistorySeed.of(0.0, 300.0, np.array([0.0123456, 3.14159, bad, 4096.4]))
    assert seed.work[[0, 1, 3]] == pytest.approx([0.0123456, 3.14159, 4096.4], rel=5e-4)
    assert np.isnan(seed.work[2])
    assert (seed.at.tolist(), seed.known_s) == ([150.0, 450.0, 750.0, 1050.0], 900.0)


def test_initial_history_round_trips_and_tick_readers_skip_it(tmp_path: Path) -> None:
    assert decode_initial_history(json.loads(json.dumps(encode_initial_history(PAST)))) == PAST
    w = writer(tmp_path)
    w.write(tick(WORKLOAD, NOW - 1), WORKLOAD)
    w.write_initial_history(PAST)
    w.write(tick(WORKLOAD, NOW), WORKLOAD)
    w.close()
    journal = Journal(tmp_path)
    assert [t.at for t in journal] == [NOW - 1, NOW]
    assert list(journal.records())[1] == PAST
    assert [t.at for t in tail(tmp_path, 0.0, [LLM])[LLM]] == [NOW - 1, NOW]
    assert work_since(tmp_path, 0.0, {LLM: [ME]}).starts == [PAST]
    assert journal.damaged == []


@pytest.mark.parametrize(
    "broken",
    [{"seeds": 5}, {"seeds": {"me": {"start_s": 0, "step_s": 300, "work": "AAA"}}}, {"ticks": None}, {"at": "noon"}],
    ids=["no seeds", "half a byte", "no count", "no time"],
)
def test_damaged_initial_history_counts_as_one_damaged_line(tmp_path: Path, broken: dict[str, Any]) -> None:
    (tmp_path / "00000001.jsonl").write_text(json.dumps({**encode_initial_history(PAST), **broken}) + "\n")
    journal = Journal(tmp_path)
    assert list(journal.records()) == []
    assert len(journal.damaged) == 1


def test_seed_of_two_weeks_encodes_below_12_kilobytes() -> None:
    seed = HistorySeed.of(NOW, 300.0, np.random.default_rng(1).gamma(2.0, 2.0, 4320))
    assert len(json.dumps(encode_initial_history(replace(PAST, seeds={ME: seed})))) < 12_000
