"""Reader of traffic tables, CSV or Parquet.

It reads known layouts, and other ones by a mapping of columns. Rows are read in batches, so a file needs little more
memory than its trace.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from scaler.registry import did_you_mean
from simulators.world.traffic.cleaning import Cleaner, Rows
from simulators.world.traffic.formats.cells import ArrivalClock, Clients, floats, plain
from simulators.world.traffic.formats.options import ReadOptions, Unit
from simulators.world.traffic.formats.stream import Stream
from simulators.world.traffic.trace import RequestTrace, TraceError

PARQUET: Final = b"PAR1"
BLOCK_BYTES: Final = 1 << 20
GRACE_S: Final = 0.5
"""Wait after an error for Arrow's threads to release their buffers. A release during Python's exit aborts it."""
MAX_RUNS_LISTED: Final = 30
ROLES: Final[Mapping[str, str]] = {
    "arrival": "arrival_s",
    "prompt": "prompt_tokens",
    "output": "output_tokens",
    "cached": "cached_tokens",
    "client": "client",
}
"""Names of the trace's fields in ``--columns``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Column names of a format.

    A file may lack `cached` and `client`; `run` is the column that separates runs.

    `failed_outputs`: by the format's own description, a row with 0 output tokens is a failed request.
    """

    arrival: str
    prompt: str
    output: str
    cached: str | None = None
    client: str | None = None
    run: str | None = None
    unit: Unit | None = None
    failed_outputs: bool = False

    @property
    def required(self) -> list[str]:
        return [self.arrival, self.prompt, self.output, *([self.run] if self.run else [])]

    def present(self, header: list[str]) -> dict[str, str]:
        """Return the columns that the file has, by field."""
        named = {field: getattr(self, role) for role, field in ROLES.items()}
        return {field: column for field, column in named.items() if column in header}


LAYOUTS: Final[Mapping[str, Layout]] = {
    # Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and ...2024.md
    "azure": Layout(arrival="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens"),
    # HPMLL/BurstGPT: seconds; a failed request has 0 response tokens
    "burstgpt": Layout(arrival="Timestamp", prompt="Request tokens", output="Response tokens", failed_outputs=True),
    "forescale": Layout(
        arrival="arrival_s", prompt="prompt_tokens", output="output_tokens", cached="cached_tokens", client="client"
    ),
    # measurements of several runs in one file, each with its own start
    "runs": Layout(arrival="arrival_unix", prompt="prompt_tokens", output="output_tokens", run="run"),
    # alibaba/ServeGen, save_requests_to_csv
    "servegen": Layout(arrival="timestamp", prompt="input_tokens", output="output_tokens"),
}


def layout_of(path: Path, header: list[str], options: ReadOptions) -> Layout:
    """Return the layout of a table.

    Raises `TraceError` with the actual and the expected columns.
    """
    if options.columns:
        layout = _mapped(path, options)
    elif options.format is not None:
        layout = LAYOUTS[options.format]
    else:
        fitting = [known for known in LAYOUTS.values() if set(known.required) <= set(header)]
        if not fitting:
            raise TraceError(_unknown_format(path, header))
        layout = fitting[0]
    needed = [*layout.required, *(c for r, c in options.columns.items() if r in {"cached", "client"})]
    missing = [c for c in needed if c not in header]
    if missing:
        hints = [f"{c!r}" + (f" ({hint})" if (hint := did_you_mean(c, header)) else "") for c in missing]
        raise TraceError(f"{path}: missing columns: {', '.join(hints)}; the file has {_listed(header)}")
    duplicated = [c for c in needed if header.count(c) > 1]
    if duplicated:
        raise TraceError(f"{path}: the column {duplicated[0]!r} occurs twice; rename one")
    return layout


def read_csv(path: Path, header: list[str], options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace from a CSV file, plain or gzipped."""
    table = Table(path, layout_of(path, header, options), header, options)
    skipped: list[int] = []

    def bad(row: Any) -> str:
        if row.text.strip():
            lines = row.text.count("\n") + 1  # an unclosed quote includes the following lines
            skipped.extend(range(row.number, row.number + lines))
            rule = f"has {row.actual_columns} columns; must have {row.expected_columns}"
            table.cleaner.bad_row(f"line {row.number}", rule, row.text, lines)
        return "skip"

    with Stream(path, options.progress, forgive_cut=options.skip_bad, must_be_text=True) as stream:
        try:
            batches = pyarrow.csv.open_csv(
                stream,
                pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                pyarrow.csv.ParseOptions(invalid_row_handler=bad, ignore_empty_lines=False),
                pyarrow.csv.ConvertOptions(
                    include_columns=table.column_names,
                    column_types=dict.fromkeys(table.column_names, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                ),
            )
            previous = None
            try:
                for batch in batches:
                    table.add(previous, lambda i: f"line {_line(i, skipped)}")
                    previous = batch
            except BaseException:
                _read_to_the_end(batches, stream)
                del batches  # the traceback must not keep it
                time.sleep(GRACE_S)
                raise
        except pa.ArrowException as e:
            raise TraceError(f"{path}: is not a valid CSV table: {str(e).splitlines()[0]}") from e
        if stream.is_truncated and previous is not None:
            previous = previous.slice(0, previous.num_rows - 1)  # the row at the break may lack digits
            table.cleaner.repairs["truncated file, last row skipped"] += 1
        elif stream.last_byte not in {b"\n", b"\r", b""}:
            table.cleaner.repairs["last line without a line break kept"] += 1
        table.add(previous, lambda i: f"line {_line(i, skipped)}")
    return table.trace(name)


def _read_to_the_end(batches: Any, stream: Stream) -> None:
    """Let Arrow's threads, which read ahead, reach the end."""
    stream.end()
    with contextlib.suppress(pa.ArrowException, TraceError):
        for _ in batches:
            pass


def read_parquet(path: Path, options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace from a Parquet file."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            table = Table(path, layout_of(path, header, options), header, options)
            total, done = file.metadata.num_rows, 0
            for group in range(file.num_row_groups):  # by group: Arrow keeps unpacked data until the last one
                for batch in file.iter_batches(columns=table.column_names, row_groups=[group]):
                    table.add(batch, lambda i: f"row {i + 1}")
                    done += batch.num_rows
                    options.progress(done, total)
            return table.trace(name)
    except (pa.ArrowException, OSError) as e:
        raise TraceError(f"{path}: is not a complete Parquet file: {str(e).splitlines()[0]}; download it again") from e


class Table:
    """Builds a trace from the batches of a table."""

    def __init__(self, path: Path, layout: Layout, header: list[str], options: ReadOptions) -> None:
        self.fields = layout.present(header)
        self.column_names = [*dict.fromkeys([*self.fields.values(), *([layout.run] if layout.run else [])])]
        self.cleaner = Cleaner(str(path), self.fields, skip_bad=options.skip_bad)
        self._path, self._layout, self._options = path, layout, options
        self._clock = ArrivalClock(options.unit or layout.unit)
        self._clients = Clients()
        self._runs: dict[str, int] = {}
        self._rows = 0

    def add(self, batch: Any, place: Any) -> None:
        """Add a batch. ``place(i)`` is the position of row i of the whole table, such as "line 7"."""
        if batch is None:
            return
        columns = {name: batch.column(name) for name in self.column_names}
        keep, first_row = self._rows_to_keep(columns), self._rows
        self._rows += batch.num_rows
        numbers = pc.indices_nonzero(keep).to_numpy()
        cells = {field: pc.filter(columns[column], keep) for field, column in self.fields.items()}
        try:
            arrival = self._clock.seconds(cells["arrival_s"])
            client = self._clients.numbers(cells["client"]) if "client" in cells else None
        except TraceError as e:
            raise TraceError(f"{self._path}: {e}") from e
        self.cleaner.time_of_day = self._clock.time_of_day
        tokens = {field: floats(cells[field]) for field in cells if field.endswith("_tokens")}
        raw = {field: _Cells(values) for field, values in cells.items()}
        self.cleaner.add(Rows(arrival, tokens, client, raw, lambda i: place(first_row + int(numbers[i]))))

    def _rows_to_keep(self, columns: Mapping[str, Any]) -> Any:
        """Return a mask of the rows to keep: no blank lines, other runs or failed requests."""
        blank = pc.and_kleene(*(pc.is_null(columns[self.fields[f]]) for f in ("arrival_s", "prompt_tokens")))
        blank = pc.and_kleene(blank, pc.is_null(columns[self.fields["output_tokens"]]))
        self.cleaner.repairs["empty rows skipped"] += pc.sum(blank).as_py() or 0
        keep = pc.invert(blank)
        if self._layout.run:
            runs = pc.cast(columns[self._layout.run], pa.string())
            for entry in pc.value_counts(pc.filter(runs, keep)).to_pylist():
                self._runs[str(entry["values"])] = self._runs.get(str(entry["values"]), 0) + entry["counts"]
            if self._options.run is not None:
                keep = pc.and_kleene(keep, pc.fill_null(pc.equal(runs, self._options.run), False))
        if self._layout.failed_outputs:
            failed = pa.array(floats(columns[self._layout.output]) == 0)
            self.cleaner.repairs["failed requests (0 output tokens) skipped"] += pc.sum(failed).as_py() or 0
            keep = pc.and_kleene(keep, pc.invert(failed))
        return keep

    def trace(self, name: str) -> RequestTrace:
        run = self._options.run
        if run is not None and not self._layout.run:
            raise TraceError(f"{self._path}: --run {run}: this format has no runs")
        if self._layout.run and (run not in self._runs if run else len(self._runs) > 1):
            runs = [f"{r} ({n})" for r, n in self._runs.items()]
            listed = ", ".join(runs[:MAX_RUNS_LISTED]) + (", ..." if len(runs) > MAX_RUNS_LISTED else "")
            hint = did_you_mean(run, list(self._runs)) if run else "each run has its own start time"
            raise TraceError(f"{self._path}: choose one run with --run ({hint or 'unknown run'}): {listed}")
        return self.cleaner.trace(f"{name}:{run}" if run else name, str(self._path))


class _Cells(Sequence[Any]):
    """An Arrow column read one cell at a time, for errors."""

    def __init__(self, cells: Any) -> None:
        self._cells = cells

    def __getitem__(self, i: Any) -> Any:
        return plain(self._cells[i])

    def __len__(self) -> int:
        return len(self._cells)


def _line(row: int, skipped: list[int]) -> int:
    """Return the line number of a good row: the header and the skipped lines before it count.

    Row 5 is on line 7, or on line 8 if one line before it was skipped.
    """
    line = row + 2
    for bad in skipped:
        if bad > line:
            break
        line += 1
    return line


def _mapped(path: Path, options: ReadOptions) -> Layout:
    """Return the layout that ``--columns`` describes."""
    unknown = [role for role in options.columns if role not in ROLES]
    if unknown:
        hint = did_you_mean(unknown[0], list(ROLES)) or f"the roles are {', '.join(ROLES)}"
        raise TraceError(f"--columns: {unknown[0]!r} is not a column role; {hint}")
    missing = [role for role in ("arrival", "prompt", "output") if role not in options.columns]
    if missing:
        raise TraceError(f"--columns: must also name the column of {', '.join(missing)} (for {path})")
    columns: Mapping[str, Any] = options.columns
    return Layout(**columns, unit=options.unit)


def _unknown_format(path: Path, header: list[str]) -> str:
    known = "\n".join(f"  {name}: {', '.join(layout.required)}" for name, layout in LAYOUTS.items())
    required = LAYOUTS["forescale"].required
    similar = [f"{c!r}: {hint}" for c in required if c not in header and (hint := did_you_mean(c, header))]
    if {"t_s", "rate_rps"} <= set(header):
        return (
            f"{path}: is a series of rates, not of requests: convert it with forescale trace generate rates file={path}"
        )
    return (
        f"{path}: unknown format with the columns {_listed(header)}; known formats:\n{known}\n"
        + (f"{'; '.join(similar)}\n" if similar else "")
        + "or name the columns: --columns arrival=COLUMN,prompt=COLUMN,output=COLUMN"
    )


def _listed(header: list[str]) -> str:
    shown = [repr(c[:40]) for c in header[:20]]
    return ", ".join(shown) + (f" and {len(header) - 20} more" if len(header) > 20 else "")
