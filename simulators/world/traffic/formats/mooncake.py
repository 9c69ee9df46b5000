"""Reader of Mooncake's JSON lines, which Dynamo and AIPerf read too.

They have the arrival, lengths and block hashes of each prompt. A block that an earlier request had is a hit in an
unbounded prefix cache: an upper bound on the hits of a real cache. Qwen-Bailian's traces have the same keys, with
seconds and blocks of 16 tokens.
Sources: kvcache-ai/Mooncake, FAST25-release/README.md; alibaba-edu/qwen-bailian-usagetraces-anon, README.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import numpy as np

from scaler.config.problems import value_text
from simulators.world.traffic.formats.options import PER_SECOND, ReadOptions, Unit
from simulators.world.traffic.formats.quantised import quantised, spread_arrivals, spread_text
from simulators.world.traffic.formats.records import cleaned, numeric
from simulators.world.traffic.formats.stream import Stream
from simulators.world.traffic.trace import RequestTrace, TraceError

KEYS: Final = ("timestamp", "input_length", "output_length")
BUCKET_S: Final = 3.0
"""Mooncake's published arrivals come in multiples of this."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """Units of a dialect's keys."""

    unit: Unit
    block_tokens: int


MOONCAKE: Final = Dialect("ms", 512)
BAILIAN: Final = Dialect("s", 16)


def read(path: Path, options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace from JSON lines, in order of arrival.

    It has the hits of an unbounded prefix cache.
    """
    lines, bad = _lines(path, options)
    dialect = BAILIAN if lines and "chat_id" in lines[0][1] else MOONCAKE
    unit = options.unit or dialect.unit
    arrival = numeric([row.get("timestamp") for _, row in lines]) / PER_SECOND[unit]
    order = np.argsort(arrival, kind="stable")
    spread = quantised(arrival[order], BUCKET_S)
    if spread:
        arrival[order] = spread_arrivals(arrival[order], BUCKET_S, options)
    columns: dict[str, Sequence[Any]] = {
        "arrival_s": arrival.tolist(),
        "prompt_tokens": [row.get("input_length") for _, row in lines],
        "output_tokens": [row.get("output_length") for _, row in lines],
    }
    names = dict(zip(columns, KEYS, strict=True))
    if lines and all("hash_ids" in row for _, row in lines):
        columns["cached_tokens"] = _cached([lines[i][1] for i in order], order, dialect.block_tokens)
        names["cached_tokens"] = "hash_ids"
    cleaner = cleaned(path, names, columns, [f"line {number}" for number, _ in lines], options)
    for number, text, rule in bad:
        cleaner.bad_row(f"line {number}", rule, text)
    cleaner.repairs[spread_text(BUCKET_S)] += spread
    return cleaner.trace(name, str(path))


def _lines(path: Path, options: ReadOptions) -> tuple[list[tuple[int, dict[str, Any]]], list[tuple[int, str, str]]]:
    """Return the objects with their line numbers, and the other lines.

    Each other line is (line number, text, rule broken).
    """
    rows: list[tuple[int, dict[str, Any]]] = []
    bad: list[tuple[int, str, str]] = []
    with Stream(path, options.progress, forgive_cut=options.skip_bad) as stream:
        for number, line in enumerate(BufferedReader(stream), 1):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and _has_plain_blocks(row):
                rows.append((number, row))
            elif line.strip():
                rule = "hash_ids must be numbers or strings" if isinstance(row, dict) else "must be a JSON object"
                bad.append((number, line.decode(errors="replace").strip(), rule))
    if rows and not set(KEYS) <= rows[0][1].keys():
        raise TraceError(
            f"{path}: line {rows[0][0]} must have the keys {', '.join(KEYS)}, not {value_text(list(rows[0][1]))}"
        )
    return rows, bad


def _has_plain_blocks(row: dict[str, Any]) -> bool:
    """Return whether a prompt's block hashes, if any, are comparable."""
    blocks = row.get("hash_ids")
    return not isinstance(blocks, list) or all(isinstance(block, int | float | str) for block in blocks)


def _cached(rows: Iterable[dict[str, Any]], order: Any, block_tokens: int) -> list[float]:
    """Return the prompt tokens in leading blocks of earlier requests.

    At least one token stays uncached.

    With blocks of 512 tokens, a prompt of 1024 tokens whose two blocks are known has 1023 cached tokens.
    """
    known: set[Any] = set()
    cached = [0.0] * len(order)
    for i, row in zip(order, rows, strict=True):
        blocks = row["hash_ids"] if isinstance(row["hash_ids"], list) else []
        hits = next((n for n, block in enumerate(blocks) if block not in known), len(blocks))
        prompt = row.get("input_length")
        if isinstance(prompt, int) and prompt > 0:
            cached[int(i)] = float(min(hits * block_tokens, prompt - 1))
        known.update(blocks)
    return cached
