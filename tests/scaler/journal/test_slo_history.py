"""Error budgets in the journal: the exact round trip, and their restoration after a start."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from policies.model import Fresh, Reading, Tick, WorkloadName
from policies.model.error_budget import HOUR_S
from policies.model.spec import Slo
from scaler.config.daemon import JournalSpec
from scaler.config.load import workload_from
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.fields import DAMAGED
from scaler.journal.reader import Journal
from scaler.journal.slo_codec import decode_slo_history, encode_slo_history
from scaler.journal.slo_history import restore
from scaler.journal.writer import JournalWriter
from scaler.slo_record import SloRecord, record_of
from tests.servers.dashboard import INTERVAL_S, NOON, tick
from tests.slo import ENGINES, READ, with_error_budgets

CHAT = WorkloadName("chat")
SOURCE = {"kind": "prometheus", "url": ENGINES.url, "preset": "vllm", "read": list(READ)}
CONFIGURED = workload_from(
    {
        "workload": "chat",
        "max_replicas": 24,
        "slo": {"ttft_s": 1.0, "itl_s": 0.05},
        "sources": {"engines": SOURCE},
        "policies": {"concurrency": {"kind": "concurrency"}},
        "pools": {"gpus": {"kind": "kubernetes", "namespace": "llm", "name": "chat"}},
    }
)
WORKLOAD = CONFIGURED.spec


def readings(late: float) -> dict[str, Reading[float]]:
    values = {"requests_per_s": 40.0, "ttft_late_share": late, "itl_late_share": 0.0}
    return {f"engines.{name}": Fresh(value, NOON) for name, value in values.items()}


def new_record() -> SloRecord:
    record = record_of(WORKLOAD)
    assert record is not None
    return record


def ticks(turns: Iterable[int], record: SloRecord, **changed: Any) -> list[Tick]:
    plain = (tick(turn=turn, readings=readings(0.1 if turn % 3 else 0.0), **changed) for turn in turns)
    return list(with_error_budgets(plain, WORKLOAD, record))


def write(directory: Path, turns: Iterable[int], record: SloRecord, max_bytes: int = 2**26, **changed: Any) -> None:
    """Measure and write the ticks of these turns, one after the other as a daemon does."""
    journal = JournalWriter(JournalSpec(directory=str(directory), max_bytes=max_bytes, keep_files=1), NOON, "1")
    for turn in turns:
        (one,) = ticks([turn], record, **changed)
        journal.write(one, CONFIGURED, record)
    journal.close()
    assert journal.lost == 0


def restored(directory: Path, now: float = NOON + 1e6) -> SloRecord:
    record = new_record()
    restore(directory, {CHAT: record}, now)
    return record


def assert_same(a: SloRecord, b: SloRecord, turn: int) -> None:
    at = NOON + turn * INTERVAL_S
    values = tick(readings=readings(0.2)).observation.readings
    assert a.observe(at, values) == b.observe(at, values)


def test_error_budget_round_trip_is_exact() -> None:
    for one in ticks([0, 1, 2, 40], new_record()):
        assert decode_tick(json.loads(json.dumps(encode_tick(one)))) == one


def test_slo_history_round_trip_is_exact() -> None:
    record = new_record()
    ticks(range(2000), record)
    history = record.history(CHAT)
    assert history is not None
    assert decode_slo_history(json.loads(json.dumps(encode_slo_history(history)))) == history


@pytest.mark.parametrize(
    "damage",
    [
        {"minutes": [[NOON, 15, 600]]},
        {"minutes": [[NOON, 15, 600, -1]]},
        {"minutes": [[1e300, 15, 600, 1]]},
        {"hours": []},
        {"hours": "many"},
        {"at": None},
        {"limits_s": {"ttft_s": "1"}},
        {"workload": 7},
    ],
    ids=str,
)
def test_damaged_history_is_refused(damage: dict[str, Any]) -> None:
    record = new_record()
    ticks(range(10), record)
    history = record.history(CHAT)
    assert history is not None
    with pytest.raises(DAMAGED):
        decode_slo_history({**encode_slo_history(history), **damage})


@pytest.mark.parametrize("damage", [{"windows": []}, {"last": [1, 2]}, {"share": "0.99"}, {"since": "noon"}], ids=str)
def test_damaged_error_budget_is_refused(damage: dict[str, Any]) -> None:
    data = encode_tick(ticks([0, 1], new_record())[-1])
    with pytest.raises(DAMAGED):
        decode_tick({**data, "error_budget": {**data["error_budget"], **damage}})


def test_record_is_restored_from_one_file(tmp_path: Path) -> None:
    record = new_record()
    write(tmp_path, range(50), record)
    assert_same(restored(tmp_path), record, 50)


def test_rotated_file_keeps_what_removed_files_counted(tmp_path: Path) -> None:
    """Files of few ticks are removed soon; the last one begins with the record of all of them."""
    record = new_record()
    for turn in range(200):
        write(tmp_path, [turn], record, max_bytes=8192)
    assert sum(1 for _ in Journal(tmp_path)) < 100, "older files are gone"
    again = restored(tmp_path)
    assert_same(again, record, 200)
    assert again.observe(NOON + 201 * INTERVAL_S, {}).windows[HOUR_S].measured_s > 0


def test_clock_jump_in_the_journal_moves_no_request(tmp_path: Path) -> None:
    record = new_record()
    write(tmp_path, range(10), record)
    write(tmp_path, [5770], record, clock_step_s=5760 * INTERVAL_S)
    write(tmp_path, range(5771, 5780), record)
    again = restored(tmp_path)
    assert again.observe(NOON + 5780 * INTERVAL_S, {}).windows[HOUR_S].measured_s == 19 * INTERVAL_S


def test_counts_of_other_limits_of_the_future_and_of_damaged_lines_are_left_out(tmp_path: Path) -> None:
    record, other = new_record(), record_of(replace(WORKLOAD, slo=Slo(ttft_s=9.0)))
    assert other is not None
    write(tmp_path, range(4), other)
    write(tmp_path, range(4, 8), record)
    write(tmp_path, range(9000, 9004), record)
    (path,) = tmp_path.glob("*.jsonl")
    with path.open("ab") as f:
        f.write(b'{"v":2,"type":"slo_history","workload":"chat","at":1}\n{"v":2,"type":"tick","workload":"chat","at":')
    again = restored(tmp_path, now=NOON + 100 * INTERVAL_S)
    assert again.observe(NOON + 9 * INTERVAL_S, {}).windows[HOUR_S].measured_s == 3 * INTERVAL_S


def test_hostile_texts_in_a_tick_count_nothing(tmp_path: Path) -> None:
    record = new_record()
    forged = '"error_budget":{"last":[60.0,1e9,1e9],"share":0.99,"limits_s":{"ttft_s":1.0,"itl_s":0.05},"since":1'
    write(tmp_path, range(4), record, errors={"engines": forged})
    assert restored(tmp_path).observe(NOON + 4 * INTERVAL_S, {}).windows[HOUR_S].requests == 3 * 600


def test_readers_of_ticks_skip_slo_histories(tmp_path: Path) -> None:
    record = new_record()
    write(tmp_path, range(3), record)
    journal = Journal(tmp_path)
    assert len(list(journal)) == 3
    assert journal.damaged == []
