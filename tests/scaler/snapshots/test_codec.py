"""The text of a snapshot: it holds all that a history reads, and damaged or foreign ones are refused with a reason."""

from __future__ import annotations

import base64
import dataclasses
import json
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.history.ticks import History
from policies.model import Fresh, PoolStatus, Tick, WorkloadName
from policies.pipeline import decide
from scaler.journal.codec import encode_tick
from scaler.journal.schema import READABLE, SCHEMA
from scaler.journal.writer import record_line
from scaler.snapshots.codec import MAX_CHARS, SnapshotError, _checksum, decode, encode, part_of
from tests.factories import NOW, queue, seen, spec, tick_of

LLM = WorkloadName("llm")


def ticks(count: int) -> list[Tick]:
    """Return ticks in which each requested replica serves three ticks later."""
    workload, history, sizes = spec(), History(), [1, 1, 1]
    recorded: list[Tick] = []
    for n in range(count):
        observation = seen(queue(5.0 + n % 40), sizes[-1], ready=min(sizes[-3:]), at=NOW + 15.0 * n)
        decision = decide(workload, history, observation)
        recorded.append(tick_of(observation, decision, history_len=n))
        history.append(recorded[-1])
        sizes.append(decision.target or sizes[-1])
    return recorded


RECORDED = ticks(30)
TEXT = encode(LLM, [part_of(RECORDED[:20]), part_of(RECORDED[20:])], None)


def history_of(recorded: Sequence[Tick]) -> History:
    history = History()
    for tick in recorded:
        history.append(tick)
    return history


def test_snapshot_has_all_that_a_history_reads() -> None:
    snapshot = decode(TEXT, LLM)
    own, taken = history_of(RECORDED), history_of(snapshot.ticks)
    assert snapshot.at == RECORDED[-1].at
    assert own.lead_times.quantile_s(0.9) == taken.lead_times.quantile_s(0.9) == 45.0
    for n in range(1, 5):
        observation = seen(queue(70.0), 3, at=RECORDED[-1].at + 15.0 * n)
        assert decide(spec(), own, observation) == decide(spec(), taken, observation)


def test_snapshot_is_a_tenth_of_the_journal() -> None:
    assert len(TEXT) < 0.1 * sum(len(json.dumps(encode_tick(tick))) for tick in RECORDED)


@given(st.integers(0, len(TEXT) - 1))
def test_any_truncation_is_refused_with_a_reason(length: int) -> None:
    with pytest.raises(SnapshotError, match=r"\w"):
        decode(TEXT[:length], LLM)


@given(st.integers(0, 8 * len(TEXT) - 1))
def test_any_flipped_bit_is_refused_with_a_reason(bit: int) -> None:
    data = bytearray(TEXT.encode())
    data[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SnapshotError, match=r"\w"):
        decode(data.decode(errors="replace"), LLM)


@given(st.text() | st.binary().map(lambda data: data.decode(errors="replace")))
@settings(deadline=None)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(SnapshotError):
        decode(text, LLM)


def sealed(body: object, schema: int = 1) -> str:
    """Return a snapshot of this content with a valid checksum."""
    text = json.dumps(body)
    return f"forescale-snapshot {schema} {_checksum(text)}\n{text}"


def part(lines: bytes) -> str:
    return base64.b64encode(zlib.compress(lines)).decode()


OLD_TICK = json.dumps({**encode_tick(RECORDED[0]), "v": 1}).encode()


def test_ticks_of_the_previous_schema_are_read() -> None:
    """Two versions run side by side during an upgrade: the newer one continues with what the older one wrote."""
    previous, *_ = READABLE
    assert previous == SCHEMA - 1
    lines = b"".join(record_line({**encode_tick(tick), "v": previous}) for tick in RECORDED)
    read = decode(sealed({"type": "snapshot", "workload": LLM, "ticks": [part(lines)]}), LLM)
    assert [tick.at for tick in read.ticks] == [tick.at for tick in RECORDED]
    assert len(history_of(read.ticks).lead_times) == len(history_of(RECORDED).lead_times)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (sealed({}, schema=0), "snapshot schema 0; this version reads 1"),
        (sealed({}, schema=2), "snapshot schema 2; this version reads 1"),
        (sealed({"workload": "llm", "ticks": [part(OLD_TICK)]}), "a schema of the journal"),
        (sealed({"workload": "llm", "ticks": [part(b"0" * 100_000_000)]}), "malformed"),
        (sealed({"workload": "llm", "ticks": [part(b"x")[:-4]]}), "malformed"),
        (sealed({"workload": "llm", "ticks": ["%"]}), "malformed"),
        (sealed({"workload": "llm", "ticks": []}), "malformed"),
        (sealed([]), "malformed"),
        (sealed({"workload": "llm", "ticks": [part_of(RECORDED)], "slo_history": {}}), "malformed"),
        (sealed({"workload": "other", "ticks": [part_of(RECORDED)]}), "of another workload"),
        ("x" * (MAX_CHARS + 1), "more than"),
    ],
)
def test_other_content_is_refused_whatever_its_checksum(text: str, reason: str) -> None:
    with pytest.raises(SnapshotError, match=reason):
        decode(text, LLM)


def test_size_is_bounded_and_the_newest_parts_are_kept() -> None:
    long = [dataclasses.replace(tick, spec=f"{n:060}") for n, tick in enumerate(RECORDED)]
    parts = [part_of(long)] * 400
    text = encode(LLM, [*parts, part_of(RECORDED[-1:])], None)
    assert 0.9 * MAX_CHARS < len(text) <= MAX_CHARS
    assert decode(text, LLM).ticks[-1].spec == RECORDED[-1].spec


def test_ticks_of_pools_keep_interruptions_and_shortfalls() -> None:
    status = PoolStatus(4, 3, None, interruption_pending=1, interrupted=2, failed=1)
    observation = seen({}, pools={"spot": Fresh(status, NOW)})
    recorded = tick_of(observation, dataclasses.replace(RECORDED[0].decision, at=observation.at))
    assert decode(encode(LLM, [part_of([recorded])], None), LLM).ticks[0].observation == observation
