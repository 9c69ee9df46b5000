"""Reader of GuideLLM's report (``benchmarks.json``).

It reads the completed requests of one benchmark.

Sources: vllm-project/guidellm, schemas `GenerativeBenchmarksReport` and `GenerativeRequestStats`, 0.3 and later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.records import cleaned
from simulators.world.traffic.trace import RequestTrace, TraceError

PLACES: Final[Mapping[str, tuple[str, ...]]] = {
    "arrival_s": (
        "request_start_time",
        "info.timings.request_start",
        "scheduler_info.request_timings.request_start",
        "start_time",
    ),
    "prompt_tokens": ("prompt_tokens", "input_metrics.total_tokens", "input_metrics.text_tokens"),
    "output_tokens": ("output_tokens", "output_metrics.total_tokens", "output_metrics.text_tokens"),
}
"""Paths of each field in the versions of the schema, newest first."""


def read(path: Path, data: Any, options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace of one benchmark's successful requests."""
    benchmarks = data.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        raise TraceError(f"{path}: has no benchmarks")
    number = _chosen(path, len(benchmarks), options.run)
    requests = _get(benchmarks[number], "requests")
    successful = _get(requests, "successful")
    if not isinstance(successful, list):
        raise TraceError(f"{path}: benchmark {number} has no list requests.successful; the file may be a summary")
    columns = {
        field: [next((v for p in places if (v := _get(row, p)) is not None), None) for row in successful]
        for field, places in PLACES.items()
    }
    names = {field: places[0] for field, places in PLACES.items()}
    places = [f"benchmark {number}, request {i}" for i in range(len(successful))]
    cleaner = cleaned(path, names, columns, places, options)
    for status in ("incomplete", "errored"):
        others = _get(requests, status)
        cleaner.repairs[f"{status} requests skipped"] += len(others) if isinstance(others, list) else 0
    cleaner.time_of_day = True
    return cleaner.trace(f"{name}:{number}" if len(benchmarks) > 1 else name, str(path))


def _chosen(path: Path, count: int, run: str | None) -> int:
    if run is None and count == 1:
        return 0
    if run is None or not run.isdecimal() or int(run) >= count:
        raise TraceError(f"{path}: contains {count} benchmarks: choose one with --run 0 to {count - 1}")
    return int(run)


def _get(record: Any, place: str) -> Any:
    """Return the value at a dotted path, or None."""
    for key in place.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(key)
    return record
