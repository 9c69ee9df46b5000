"""Runs read from journals: merged, cut to a period, with gaps, and with unreadable lines reported."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.model import PoolName, SignalName
from scaler.journal.reader import Journal, JournalError
from simulators.backtest.journals import JournalPeriod, read
from simulators.backtest.recorded_run import LACKING, RecordedRun
from tests.simulators.backtest import recorded_runs

RUNNING = SignalName("engines.running")


def read_all(
    *journals: Path, since: float = -math.inf, until: float = math.inf, name: str | None = None
) -> JournalPeriod:
    return read(journals, since, until, name)


def only_run(*journals: Path, **ends: Any) -> RecordedRun:
    (run,) = read_all(*journals, **ends).recorded
    return run


def ticks(lines: list[str]) -> list[int]:
    return [k for k, line in enumerate(lines) if '"type":"tick"' in line]


@pytest.mark.slow
def test_a_journal_reads_as_a_row_per_tick_and_a_column_per_signal() -> None:
    period = recorded_runs.period()
    run = only_run(period.journal)
    ticks_ = list(Journal(period.journal))
    assert len(run) == len(ticks_) == len(period.run.timeline.at_s)
    assert run.at.tolist() == [t.at for t in ticks_]
    assert run.pools.keys() == {"gpus"}
    assert {name.partition(".")[2] for name in run.readings} == set(recorded_runs.READ)
    np.testing.assert_array_equal(run.columns["target"], period.run.timeline.desired)
    assert run.interval_s == 15.0
    assert (run.silent_s, run.damaged, run.out_of_order) == (0.0, 0, 0)


@pytest.mark.slow
def test_a_period_is_cut_at_its_bounds() -> None:
    run = only_run(recorded_runs.period().journal, since=recorded_runs.BEGAN + 600, until=recorded_runs.BEGAN + 1200)
    assert (run.at[0], run.at[-1], len(run)) == (recorded_runs.BEGAN + 600, recorded_runs.BEGAN + 1185, 40)


def test_consecutive_journals_are_merged_in_any_order(tmp_path: Path) -> None:
    whole = only_run(recorded_runs.period().journal)
    halves = []
    for name in ("early", "late"):
        (tmp_path / name).mkdir()

        def half(lines: list[str], early: bool = name == "early") -> list[str]:
            places = ticks(lines)
            middle = places[len(places) // 2]
            kept_lines = range(middle) if early else [k for k in range(len(lines)) if k >= middle or k not in places]
            return [lines[k] for k in kept_lines]

        halves.append(recorded_runs.edited_journal(tmp_path / name, half))
    early, late = halves
    for order in ((early, late), (late, early)):
        run = only_run(*order)
        assert run.at.tolist() == whole.at.tolist()
        assert run.out_of_order == 0


def test_a_tick_in_two_journals_counts_once() -> None:
    journal = recorded_runs.period().journal
    run = only_run(journal, journal)
    assert len(run) == len(only_run(journal))
    assert run.out_of_order == len(run)


def test_missing_ticks_are_a_gap_in_time(tmp_path: Path) -> None:
    def without(lines: list[str]) -> list[str]:
        places = set(ticks(lines)[100:140])
        return [line for k, line in enumerate(lines) if k not in places]

    run = only_run(recorded_runs.edited_journal(tmp_path, without))
    assert run.silent_s == 600.0
    assert run.span_s == only_run(recorded_runs.period().journal).span_s
    assert run.over_s.max() == 15.0


def test_damaged_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    def tear(lines: list[str]) -> list[str]:
        places = ticks(lines)
        return [line[: len(line) // 2] if k in {places[10], places[20]} else line for k, line in enumerate(lines)]

    run = only_run(recorded_runs.edited_journal(tmp_path, tear))
    assert run.damaged == 2
    assert len(run) == len(only_run(recorded_runs.period().journal)) - 2


def test_absent_stale_and_partial_readings_are_nan(tmp_path: Path) -> None:
    bad_readings = (
        {"absent": "HTTP 503"},
        {"value": 1.0, "measured_at": recorded_runs.BEGAN, "age_s": 100.0},
        {"value": 1.0, "measured_at": recorded_runs.BEGAN, "missing": "1 of 2 did not answer"},
    )

    def spoil(lines: list[str]) -> list[str]:
        places = dict(zip(ticks(lines)[50:53], bad_readings, strict=True))
        records = [json.loads(line) for line in lines]
        for place, reading in places.items():
            records[place]["readings"]["engines.running"] = reading
        return [json.dumps(record) for record in records]

    before, after = only_run(recorded_runs.period().journal), only_run(recorded_runs.edited_journal(tmp_path, spoil))
    lost = np.isfinite(before.readings[RUNNING]) & ~np.isfinite(after.readings[RUNNING])
    assert np.flatnonzero(lost).tolist() == [50, 51, 52]


def test_read_progress_increases_to_the_total() -> None:
    progress: list[tuple[int, int]] = []
    read([recorded_runs.period().journal], -math.inf, math.inf, None, lambda done, of: progress.append((done, of)))
    done, of = zip(*progress, strict=True)
    assert list(done) == sorted(done)
    assert len(set(of)) == 1
    assert done[-1] == of[-1]


def test_files_that_end_before_the_period_are_not_read(tmp_path: Path) -> None:
    lines = (recorded_runs.period().journal / "00000001.jsonl").read_text().splitlines()
    places = ticks(lines)
    head = [line for k, line in enumerate(lines) if k not in places]
    for number, first in enumerate((0, 200), 1):
        header = {**json.loads(head[0]), "at": json.loads(lines[places[first]])["at"]}
        rows = [json.dumps(header), *head[1:], *(lines[k] for k in places[first : first + 200])]
        (tmp_path / f"0000000{number}.jsonl").write_text("".join(f"{row}\n" for row in rows))
    progress: list[int] = []
    late = recorded_runs.BEGAN + 300 * 15.0 + 3600.0  # the second file begins more than an hour earlier
    with pytest.raises(JournalError, match="no tick is recorded in this period"):
        read([tmp_path], late, math.inf, None, lambda _, of: progress.append(of))
    assert progress[-1] == (tmp_path / "00000002.jsonl").stat().st_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"name": "caht"}, "--workload 'caht': is not in the journals; did you mean", id="name"),
        pytest.param(
            {"since": recorded_runs.BEGAN + 1e6},
            "no tick is recorded in this period; the journals cover 2026-01-05T",
            id="late",
        ),
        pytest.param({"until": recorded_runs.BEGAN + 20.0}, "chat: only 2 ticks, but a report needs 4", id="few"),
    ],
)
def test_an_empty_period_has_a_reason(options: dict[str, Any], message: str) -> None:
    with pytest.raises(JournalError, match=message):
        read_all(recorded_runs.period().journal, **options)


def test_a_journal_without_its_specification_is_rejected(tmp_path: Path) -> None:
    def without(lines: list[str]) -> list[str]:
        return [line for line in lines if '"type":"spec"' not in line]

    with pytest.raises(JournalError, match=r"the journal has no specification of its ticks .* \(damaged: none\)"):
        read_all(recorded_runs.edited_journal(tmp_path, without))


@pytest.mark.slow
def test_an_incompatible_specification_is_reported_by_its_line(tmp_path: Path) -> None:
    def other(lines: list[str]) -> list[str]:
        return [line.replace('"target_per_replica"', '"target_of_old"') for line in lines]

    with pytest.raises(JournalError, match=r"damaged: .*00000001.jsonl:2\): run the report with the version"):
        read_all(recorded_runs.edited_journal(tmp_path, other))


def test_an_unreadable_journal_is_reported(tmp_path: Path) -> None:
    (tmp_path / "00000001.jsonl").write_text("noise\n" * 3)
    with pytest.raises(JournalError, match="no tick can be read: 3 lines are damaged"):
        read_all(tmp_path)


def test_reasons_count_every_tick_and_keep_the_largest_changes() -> None:
    run = only_run(recorded_runs.period().journal)
    reasons = run.reasons
    assert sum(rule.ticks for rule in reasons.rules.values()) == len(run)
    timeline = recorded_runs.period().run.timeline
    assert reasons.ups + reasons.downs == sum(rule.changes for rule in reasons.rules.values())
    assert reasons.ups >= 1
    assert max(c.replicas for c in reasons.largest) == max(
        abs(b - a) for a, b in zip(timeline.desired, timeline.desired[1:], strict=False) if not math.isnan(b - a)
    )
    assert [c.at for c in reasons.largest] == sorted(c.at for c in reasons.largest)


def test_a_pool_added_later_has_zero_replicas_before(tmp_path: Path) -> None:
    def add_pool(lines: list[str]) -> list[str]:
        records = [json.loads(line) for line in lines]
        for place in ticks(lines)[100:]:
            records[place]["pools"]["more"] = records[place]["pools"]["gpus"]
        return [json.dumps(record) for record in records]

    record = only_run(recorded_runs.edited_journal(tmp_path, add_pool))
    more, gpus = record.pools[PoolName("more")], record.pools[PoolName("gpus")]
    assert more["desired"][:100].tolist() == [0.0] * 100
    assert more["desired"][100:].tolist() == gpus["desired"][100:].tolist()
    assert np.isfinite(record.desired()).all()
    assert np.isnan(more["interrupted"][:100]).all(), "a counter that did not exist is unknown, not zero"


def test_a_tick_with_abandoned_replicas_lacks_capacity(tmp_path: Path) -> None:
    def abandon(lines: list[str]) -> list[str]:
        records = [json.loads(line) for line in lines]
        for place in ticks(lines)[30:35]:
            records[place]["decision"]["abandoned"] = {"gpus": 2}
        return [json.dumps(record) for record in records]

    record = only_run(recorded_runs.edited_journal(tmp_path, abandon))
    assert np.flatnonzero(record.columns["short"]).tolist() == [30, 31, 32, 33, 34]
    assert record.pools[PoolName("gpus")][LACKING][29:36].tolist() == [0, 2, 2, 2, 2, 2, 0]
