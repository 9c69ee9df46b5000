"""The journal on disk: whole lines, bounded files, and the records that survive a crash."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, Outcome, PolicyName, PoolName, PoolStatus, Reading, Result, Stale, Tick
from policies.pipeline import decide
from scaler.config.daemon import JournalSpec as Settings
from scaler.config.load import Workload, workload_from
from scaler.journal.codec import decode_tick, encode_initial_history, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.past_work import work_since
from scaler.journal.reader import Journal, JournalError, Unread, tail
from scaler.journal.writer import JournalWriter, files
from scaler.ports import Misconfigured
from tests.factories import MAIN, NOW, fresh, seen, stale

DOCUMENT = {
    "workload": "llm",
    "max_replicas": 50,
    "sources": {"queue": {"kind": "embedded"}},
    "policies": {"depth": {"kind": "queue_depth"}},
    "pools": {"main": {"kind": "embedded"}},
}


@pytest.fixture
def workload() -> Workload:
    return workload_from(DOCUMENT)


def tick(workload: Workload, at: float = NOW, messages: float = 30) -> Tick:
    readings: dict[str, Reading[float]] = {
        "queue.visible": fresh(messages, now=at),
        "queue.in_flight": stale(3.5),
        "queue.delayed": Absent("ü"),
    }
    observation = seen(readings, 2, 1, at=at, foreign="HPA x")
    decision = decide(workload.spec, History(), observation)
    outcome = Outcome(PoolName("main"), 2, 3, Result.CONFLICT, 'somebody "else"\nwrote')
    return Tick(workload.fingerprint, observation, decision, (outcome,), 7, 0.25, 0.125, 0.0, dry_run=True, epoch=3)


def writer(directory: Path, max_bytes: int = 65536, keep: int = 3) -> JournalWriter:
    return JournalWriter(Settings(directory=str(directory), max_bytes=max_bytes, keep_files=keep), NOW, "1")


def test_decoded_tick_equals_the_encoded_tick(workload: Workload) -> None:
    original = tick(workload)
    assert decode_tick(json.loads(json.dumps(encode_tick(original)))) == original


def test_journal_reads_back_written_ticks(tmp_path: Path, workload: Workload) -> None:
    w = writer(tmp_path)
    ticks = [tick(workload, NOW + i) for i in range(5)]
    for t in ticks:
        w.write(t, workload)
    w.close()
    journal = Journal(tmp_path)
    assert list(journal) == ticks
    assert journal.specs == {workload.fingerprint: workload}
    assert journal.damaged == []


def test_journal_rotates_by_size_and_retains_keep_files(tmp_path: Path, workload: Workload) -> None:
    w = writer(tmp_path, keep=2)
    for i in range(400):
        w.write(tick(workload, NOW + i), workload)
    w.close()
    paths = files(tmp_path)
    assert len(paths) == 3
    assert int(paths[0].stem) > 1
    assert all(p.stat().st_size < 65536 + 4096 for p in paths)
    journal = Journal(tmp_path)
    read = list(journal)
    assert [t.at for t in read] == [NOW + i for i in range(400 - len(read), 400)]
    assert journal.specs, "each file contains the specifications of its ticks"
    assert list(Journal(paths[-1])), "a file can be read alone"


@pytest.mark.parametrize("torn", [1, 20, 300])
def test_truncated_last_line_loses_only_that_line(tmp_path: Path, workload: Workload, torn: int) -> None:
    w = writer(tmp_path)
    for i in range(3):
        w.write(tick(workload, NOW + i), workload)
    w.close()
    file = files(tmp_path)[-1]
    os.truncate(file, file.stat().st_size - torn)
    w = writer(tmp_path)
    w.write(tick(workload, NOW + 9), workload)
    w.close()
    journal = Journal(tmp_path)
    at = [t.at - NOW for t in journal]
    assert at == ([0, 1, 2, 9] if torn == 1 else [0, 1, 9]), (
        "only the newline of the last was lost" if torn == 1 else ""
    )
    assert len(journal.damaged) == (torn != 1)


def test_damaged_lines_are_skipped_and_counted(tmp_path: Path, workload: Workload) -> None:
    w = writer(tmp_path)
    for i in range(3):
        w.write(tick(workload, NOW + i), workload)
    w.close()
    file = files(tmp_path)[0]
    lines = file.read_bytes().split(b"\n")
    hostile = [
        b"\xff\x00",
        b"[]",
        b'{"v":2}',
        b'{"v":2,"type":"tick"}',
        b'{"v":2,"type":"spec","document":5}',
        b"[" * 9999,
    ]
    file.write_bytes(b"\n".join([*lines[:2], *hostile, *lines[2:]]))
    journal = Journal(tmp_path)
    assert [t.at - NOW for t in journal] == [0, 1, 2]
    assert len(journal.damaged) == len(hostile)
    assert [t.at - NOW for t in tail(tmp_path, NOW, [t.workload for t in Journal(tmp_path)])["llm"]] == [0, 1, 2]  # type: ignore[index]


def test_journal_of_newer_schema_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "00000001.jsonl").write_text('{"v":99,"type":"tick"}\n')
    with pytest.raises(JournalError, match="newer Forescale"):
        list(Journal(tmp_path))


def test_tail_returns_recent_ticks_of_requested_workloads(tmp_path: Path, workload: Workload) -> None:
    w = writer(tmp_path, keep=100)
    for i in range(200):
        w.write(tick(workload, NOW + i), workload)
    w.close()
    assert len(files(tmp_path)) > 2
    tails = tail(tmp_path, NOW + 60, [workload.name])
    assert [t.at - NOW for t in tails[workload.name]] == list(range(60, 200))
    assert tail(tmp_path, NOW, []) == {}


def test_second_writer_of_the_same_journal_is_rejected(tmp_path: Path) -> None:
    w = writer(tmp_path)
    with pytest.raises(Misconfigured, match="another daemon writes to"):
        writer(tmp_path)
    w.close()
    writer(tmp_path).close()


def test_unwritable_journal_directory_raises_misconfigured(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match=r"daemon\.journal\.directory: cannot write to"):
        writer(tmp_path / "file" / "journal")


@pytest.mark.slow
def test_writer_counts_records_lost_to_a_full_disk(tmp_path: Path, workload: Workload) -> None:
    script = f"""
import json, resource, signal
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from tests.scaler.journal.test_journal import DOCUMENT, NOW, tick, writer
from scaler.config.load import workload_from
workload = workload_from(DOCUMENT)
w = writer(Path({str(tmp_path)!r}), max_bytes=10_000_000)
for i in range(3):
    w.write(tick(workload, NOW + i), workload)
resource.setrlimit(resource.RLIMIT_FSIZE, (w._size + 100, resource.RLIM_INFINITY))
for i in range(3, 6):
    w.write(tick(workload, NOW + i), workload)
lost = w.lost, w.error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
w.write(tick(workload, NOW + 6), workload)
print(json.dumps([*lost, w.lost, w.error]))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [3, "File too large", 3, None]
    assert [t.at - NOW for t in Journal(tmp_path)] == [0, 1, 2, 6]


@pytest.mark.parametrize("removed", ["folder", "file", "lock"])
def test_writer_recreates_a_removed_journal_and_counts_lost_records(
    tmp_path: Path, workload: Workload, removed: str
) -> None:
    folder = tmp_path / "journal"
    w = writer(folder)
    for i in range(3):
        w.write(tick(workload, NOW + i), workload)
    if removed == "folder":
        shutil.rmtree(folder)
    else:
        (files(folder)[0] if removed == "file" else folder / ".lock").unlink()
    w.write(tick(workload, NOW + 3), workload)
    assert (w.lost, w.error) == (0 if removed == "lock" else 3, None)
    assert [t.at - NOW for t in Journal(folder)] == ([0, 1, 2, 3] if removed == "lock" else [3])
    with pytest.raises(Misconfigured, match="another daemon writes to"):
        writer(folder)
    w.close()


def test_writer_stops_while_another_writer_holds_its_directory(tmp_path: Path, workload: Workload) -> None:
    folder = tmp_path / "journal"
    w = writer(folder)
    w.write(tick(workload), workload)
    shutil.rmtree(folder)
    other = writer(folder)
    other.write(tick(workload, NOW + 1), workload)
    w.write(tick(workload, NOW + 2), workload)
    assert w.lost == 2
    assert w.error
    assert [t.at - NOW for t in Journal(folder)] == [1]
    other.close()
    w.write(tick(workload, NOW + 3), workload)
    assert w.lost == 2
    w.close()
    assert [t.at - NOW for t in Journal(folder)] == [1, 3]


@pytest.mark.slow
@pytest.mark.parametrize("room", [0, 60], ids=["no byte", "a torn start"])
def test_writer_recovers_from_a_disk_that_is_full_at_start(tmp_path: Path, workload: Workload, room: int) -> None:
    script = f"""
import json, resource
from pathlib import Path
from tests.scaler.journal.test_journal import DOCUMENT, NOW, tick, writer
from scaler.config.load import workload_from
workload = workload_from(DOCUMENT)
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, resource.RLIM_INFINITY))
w = writer(Path({str(tmp_path)!r}))
w.write(tick(workload, NOW), workload)
lost = w.lost, w.error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
w.write(tick(workload, NOW + 1), workload)
print(json.dumps([*lost, w.lost, w.error]))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lost, error, lost_later, error_after_recovery = json.loads(result.stdout)
    assert (lost, lost_later, error_after_recovery) == (1, 1, None)
    assert error in {"File too large", "No space left on device"}
    assert [t.at - NOW for t in Journal(tmp_path)] == [1]


def test_unencodable_values_lose_at_most_their_own_record(tmp_path: Path, workload: Workload) -> None:
    w = writer(tmp_path)
    good = tick(workload)
    spoiled = seen({"queue.visible": fresh(float("inf"))}, 1)
    w.write(dataclasses.replace(good, observation=spoiled), workload)
    assert w.lost == 1
    w.write(dataclasses.replace(good, outcomes=(Outcome(MAIN, 1, 1, Result.CONFLICT, "\ud800 of a server"),)), workload)
    w.close()
    (read,) = Journal(tmp_path)
    assert read.outcomes[0].reason == "? of a server"


HUGE = 10**310


@pytest.mark.parametrize(
    "change",
    [
        {"at": "2026"},
        {"at": HUGE},
        {"at": 1e300},
        {"at": None},
        {"at": True},
        {"workload": 5},
        {"workload": ["llm"]},
        {"workload": "\ud800"},
        {"spec": {}},
        {"readings": []},
        {"readings": {"queue.visible": {"value": HUGE, "measured_at": 1}}},
        {"readings": {"queue.visible": {"value": "7", "measured_at": 1}}},
        {"readings": {"queue.visible": {"value": 7, "measured_at": "1"}}},
        {"pools": {"main": {"value": {"desired": "3"}, "measured_at": 1}}},
        {
            "pools": {
                "main": {"value": {"desired": HUGE, "ready": 1, "other_writer": None, "version": ""}, "measured_at": 1}
            }
        },
        {"readings": {"queue.visible": {"value": 1e30, "measured_at": 1}}},
        {"pools": {"main": {"value": {"desired": 10**9, "ready": 1}, "measured_at": 1}}},
        {"source_errors": {"queue": 5}},
        {"grant": {"gpus": [[], []]}},
        {"decision": []},
        {"decision": {"recommendations": "abc"}},
        {"outcomes": [1]},
        {"history_len": "7"},
        {"lateness_s": {}},
        {"took_s": [[[]]]},
        {"dry_run": "no"},
    ],
    ids=lambda change: repr(change)[:60],
)
def test_valid_json_with_malformed_tick_is_skipped_and_counted(
    tmp_path: Path, workload: Workload, change: dict[str, object]
) -> None:
    w = writer(tmp_path)
    for i in range(3):
        w.write(tick(workload, NOW + i), workload)
    w.close()
    file = files(tmp_path)[0]
    lines = file.read_bytes().splitlines(keepends=True)
    line = json.dumps({**json.loads(lines[-1]), **change}).encode()
    file.write_bytes(b"".join([*lines, line, b"\n", *lines[-1:]]))
    unread = Unread()
    assert [t.at - NOW for t in tail(tmp_path, NOW, [workload.name], unread)[workload.name]] == [0, 1, 2, 2]
    assert (len(unread.damaged), unread.schemas.total()) == (1, 0)
    journal = Journal(tmp_path)
    assert [t.at - NOW for t in journal] == [0, 1, 2, 2]
    assert journal.damaged == [f"{file}:{len(lines) + 1}"]
    assert work_since(tmp_path, NOW, {workload.name: {PolicyName("depth")}}).starts == []


@pytest.mark.parametrize(
    "change",
    [
        {"at": "x"},
        {"step_s": 0},
        {"step_s": 5e-324},
        {"span_s": HUGE},
        {"seeds": []},
        {"seeds": {"p": {"start_s": 1, "step_s": 0, "work": ""}}},
        {"seeds": {"p": {"start_s": 1, "step_s": 1, "work": "AA"}}},
    ],
    ids=lambda change: repr(change)[:60],
)
def test_damaged_initial_history_is_skipped_and_counted(
    tmp_path: Path, workload: Workload, change: dict[str, Any]
) -> None:
    record = {**encode_initial_history(InitialHistory(workload.name, NOW, 0, 60.0, 15.0)), **change}
    (tmp_path / "00000001.jsonl").write_text(json.dumps(record) + "\n")
    journal = Journal(tmp_path)
    assert list(journal.records()) == []
    assert len(journal.damaged) == 1
    assert work_since(tmp_path, NOW - 60, {workload.name: {PolicyName("p")}}).starts == []


@pytest.mark.slow
def test_killed_writer_keeps_all_written_records(tmp_path: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from tests.scaler.journal.test_journal import DOCUMENT, NOW, tick, writer
from scaler.config.load import workload_from
workload = workload_from(DOCUMENT)
w = writer(Path({str(tmp_path)!r}))
for i in range(4):
    w.write(tick(workload, NOW + i), workload)
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    assert len(list(Journal(tmp_path))) == 4
    writer(tmp_path).close()


@pytest.mark.parametrize("path", ["nothing", "empty"])
def test_missing_journal_raises_journal_error(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(JournalError, match=f"{path}: (no such file|the folder contains no journal files)"):
        Journal(tmp_path / path)


def test_readings_and_statuses_of_every_kind_round_trip() -> None:
    status = PoolStatus(3, 1, None, "v7")
    observation = seen(
        {"a.b": Fresh(1.5, NOW), "a.c": Fresh(2.0, NOW, "1 of 2 did not answer")},
        pools={"x": Fresh(status, NOW), "y": Stale(status, NOW - 5, 5.0), "z": Absent("?")},
    )
    decision = decide(workload_from(DOCUMENT).spec, History(), seen({}, 1))
    original = Tick("f", observation, decision, (), 0, 0.0, 0.0)
    assert decode_tick(json.loads(json.dumps(encode_tick(original)))) == original
