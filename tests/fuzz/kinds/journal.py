"""Journals: every reader skips, counts and reports damaged lines, without a traceback."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any, Final

from policies.model import Tick, WorkloadName
from scaler.cli import main
from scaler.config.load import Workload
from scaler.journal.codec import encode_initial_history, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.reader import tail
from scaler.journal.schema import SCHEMA
from tests.fuzz.mutate import JSON_TOKENS, text, tree
from tests.fuzz.rng import Rng
from tests.fuzz.sequences.draw import draw
from tests.fuzz.sequences.play import play

STORIES: Final = (3, 20, 41)
"""Seeds of the sequences whose records are mutated."""
TICKS: Final = 8


@functools.cache
def _records() -> tuple[dict[str, Any], ...]:
    """Return records of every type: specifications, starts, ticks."""
    records: list[dict[str, Any]] = []
    for seed in STORIES:
        story = draw(seed)
        for workload in story.workloads.values():
            records += [_spec(workload), encode_initial_history(InitialHistory(workload.name, 0.0, 0, 3600.0, 15.0))]
        ticks = [tick for _, tick in play(story).record]
        records += [encode_tick(tick) for tick in _with_known_spec(ticks, story.workloads.values())][:TICKS]
    return tuple(records)


def _spec(workload: Workload) -> dict[str, Any]:
    return {"v": SCHEMA, "type": "spec", "fingerprint": workload.fingerprint, "document": workload.document}


def _with_known_spec(ticks: list[Tick], workloads: Any) -> list[Tick]:
    fingerprints = {workload.fingerprint for workload in workloads}
    return [tick for tick in ticks if tick.spec in fingerprints]


def mutated(rng: Rng) -> bytes:
    records: list[Any] = list(_records())
    for _ in range(rng.randint(1, 3)):
        k = rng.randrange(len(records))
        records[k] = tree(rng, records[k])
    data = b"".join(json.dumps(record, skipkeys=True).encode() + b"\n" for record in records)
    return text(rng, data, JSON_TOKENS) if rng.happens(0.3) else data


def check(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "00000001.jsonl").write_bytes(data)
        names = [WorkloadName("chat"), WorkloadName("code"), WorkloadName("batch")]
        for name, ticks in tail(Path(folder), 0.0, names).items():
            for tick in ticks:
                json.dumps(encode_tick(tick))
                if tick.workload != name:
                    return f"a tick of {tick.workload!r} among those of {name}"
        for argv in (["explain", folder], ["replay", folder], ["explain", folder, "--json"]):
            if problem := _command(argv):
                return problem
    return ""


def _command(argv: list[str]) -> str:
    """Run a command. A usage error is not a failure."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(argv)
    return "" if code in {0, 1, 2} else f"{argv[0]}: exit code {code}"
