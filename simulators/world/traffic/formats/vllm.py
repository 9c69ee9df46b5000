"""Reader of vLLM's benchmark results (``vllm bench serve --save-result --save-detailed``).

Source: vllm-project/vllm, vllm/benchmarks/serve.py, the `result` dictionary.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from scaler.config.problems import value_text
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.records import FIELDS, cleaned
from simulators.world.traffic.trace import RequestTrace, TraceError

KEYS: Final = ("start_times", "input_lens", "output_lens")


def read(path: Path, data: Any, options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace of the requests that succeeded."""
    missing = [key for key in KEYS if not isinstance(data.get(key), list)]
    if missing:
        raise TraceError(
            f"{path}: missing lists: {', '.join(missing)}; the file has {value_text(list(data))}: run the benchmark"
            " with --save-detailed, on a vLLM version that writes start_times"
        )
    columns = {field: data[key] for field, key in zip(FIELDS, KEYS, strict=True)}
    errors = data.get("errors") or [""] * len(columns["arrival_s"])
    if not isinstance(errors, list):
        raise TraceError(
            f"{path}: errors = {value_text(errors)}: must be a list, with an empty string for each successful request"
        )
    lengths = {len(values) for values in columns.values()} | {len(errors)}
    if len(lengths) > 1:
        raise TraceError(
            f"{path}: start_times, input_lens, output_lens and errors must have the same length, not {sorted(lengths)}"
        )
    succeeded = [i for i, error in enumerate(errors) if not error]
    columns = {field: [values[i] for i in succeeded] for field, values in columns.items()}
    names = dict(zip(FIELDS, KEYS, strict=True))
    cleaner = cleaned(path, names, columns, [f"request {i}" for i in succeeded], options)
    cleaner.repairs["failed requests skipped"] += len(errors) - len(succeeded)
    cleaner.time_of_day = True  # perf_counter counts from an arbitrary moment
    return cleaner.trace(name, str(path))
