"""Helpers that write small traffic files, and the location of recorded traffic if it is available."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simulators.world.traffic.trace import RequestTrace

SHARED = Path(__file__).resolve().parents[4].parent / "shared"


def shared(place: str) -> Path:
    """Return a file of third-party data, which the project does not ship, or skip the test."""
    path = SHARED / place
    if not path.exists():
        pytest.skip(f"third-party data {place} is not beside the repository")
    return path


def trace(*rows: tuple[float, int, int], **more: Any) -> RequestTrace:
    columns = np.array(rows, float).reshape(-1, 3)
    return RequestTrace(columns[:, 0], columns[:, 1].astype(int), columns[:, 2].astype(int), **more)


def rows_of(result: RequestTrace) -> list[tuple[float, int, int]]:
    columns = (result.arrival_s.tolist(), result.prompt_tokens.tolist(), result.output_tokens.tolist())
    return list(zip(*columns, strict=True))


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def gz(path: Path, content: str) -> Path:
    path.write_bytes(gzip.compress(content.encode()))
    return path


def json_lines(path: Path, rows: Iterable[Any]) -> Path:
    return text(path, "".join(json.dumps(row) + "\n" for row in rows))
