"""Journals of another schema: commands refuse them, a start skips them, and no file mixes two schemas."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from scaler.cli import main
from scaler.config.load import Workload, workload_from
from scaler.journal.initial_history import InitialHistory
from scaler.journal.past_work import RecordedWork, work_since
from scaler.journal.reader import Journal, JournalError, Unread, tail
from scaler.journal.schema import READERS, SCHEMA, schema_of
from scaler.journal.writer import files
from tests.factories import NOW
from tests.scaler.journal.test_journal import DOCUMENT, tick, writer

OLD = 1


@pytest.fixture
def workload() -> Workload:
    return workload_from(DOCUMENT)


def write_ticks(directory: Path, workload: Workload, *at: float) -> None:
    """Append a start, and ticks at these times, to a journal."""
    w = writer(directory)
    w.write_initial_history(InitialHistory(workload.name, NOW, 0, 3600.0, 15.0))
    for when in at:
        w.write(tick(workload, when), workload)
    w.close()


def write_old_journal(directory: Path, workload: Workload, schema: int = OLD) -> bytes:
    """Write a journal of an earlier schema, and return the bytes of its file."""
    write_ticks(directory, workload, NOW, NOW + 1)
    (file,) = files(directory)
    data = file.read_bytes().replace(f'{{"v":{SCHEMA},'.encode(), f'{{"v":{schema},'.encode())
    file.write_bytes(data)
    return data


@pytest.mark.parametrize("verb", ["explain", "replay", "report", "advise"])
def test_command_rejects_old_journal_and_names_a_version_that_reads_it(
    tmp_path: Path, workload: Workload, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_old_journal(tmp_path, workload)
    assert main([verb, str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / '00000001.jsonl'}:1: journal schema 1; this version reads 2 and 3" in error
    assert f"Read it with Forescale {READERS[OLD]}, or start a new journal folder" in error


def test_journal_of_the_previous_schema_is_read(tmp_path: Path, workload: Workload) -> None:
    write_old_journal(tmp_path, workload, SCHEMA - 1)
    assert [t.at - NOW for t in Journal(tmp_path)] == [0, 1]
    unread = Unread()
    assert [t.at - NOW for t in tail(tmp_path, 0.0, [workload.name], unread)[workload.name]] == [0, 1]
    assert (unread.damaged, unread.schemas) == ([], Counter())


def test_one_line_of_an_old_schema_is_rejected(tmp_path: Path, workload: Workload) -> None:
    write_ticks(tmp_path, workload, NOW)
    (file,) = files(tmp_path)
    file.write_text(file.read_text() + json.dumps({"v": OLD, "type": "tick"}) + "\n")
    with pytest.raises(JournalError, match="journal schema 1"):
        list(Journal(tmp_path))


def test_writer_starts_a_new_file_after_an_old_journal(tmp_path: Path, workload: Workload) -> None:
    before = write_old_journal(tmp_path, workload)
    for at in (NOW + 2, NOW + 3):
        write_ticks(tmp_path, workload, at)
    first, second = files(tmp_path)
    assert first.read_bytes() == before
    assert {schema_of(line) for line in second.read_bytes().splitlines()} == {SCHEMA}
    assert [t.at - NOW for t in Journal(second)] == [2, 3]


def test_tail_counts_and_skips_records_of_an_old_schema(tmp_path: Path, workload: Workload) -> None:
    records = len(write_old_journal(tmp_path, workload).splitlines())
    write_ticks(tmp_path, workload, NOW + 2)
    unread = Unread()
    assert [t.at - NOW for t in tail(tmp_path, 0.0, [workload.name], unread)[workload.name]] == [2]
    assert (unread.damaged, unread.schemas) == ([], Counter({OLD: records}))


def test_work_since_ignores_a_journal_of_an_old_schema(tmp_path: Path, workload: Workload) -> None:
    write_old_journal(tmp_path, workload)
    assert work_since(tmp_path, 0.0, {workload.name: list(workload.spec.policies)}) == RecordedWork()


@pytest.mark.parametrize(
    ("line", "schema"),
    [
        (b'{"v":1,"type":"tick"}', 1),
        (b'{"v": 12, "type": "tick"}', 12),
        (b'{"v":true}', None),
        (b'{"v":1.5}', None),
        (b'{"type":"tick","v":1}', None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_schema_of_reads_the_version_of_a_line(line: bytes, schema: int | None) -> None:
    assert schema_of(line) == schema
