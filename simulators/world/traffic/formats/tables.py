"""Reader of traffic tables, CSV or Parquet.

It reads known layouts, and other ones by a mapping of columns. Rows are read in batches, so a file needs little more
memory than its trace.
"""

from __future__ import annotations

import contextlib
import fnmatch
import functools
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from scaler.registry import did_you_mean
from simulators.world.traffic.cleaning import Cleaner, Rows
from simulators.world.traffic.formats.cells import ArrivalClock, Clients, floats, plain, printable
from simulators.world.traffic.formats.layouts import ROLES, TOKEN_ROLES, Layout, layout_of
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.quantised import spread_in_buckets
from simulators.world.traffic.formats.stream import Stream
from simulators.world.traffic.trace import REQUIRED, Floats, RequestTrace, TraceError

PARQUET: Final = b"PAR1"
BLOCK_BYTES: Final = 1 << 20
GRACE_S: Final = 0.5
"""Wait after an error for Arrow's threads to release their buffers. A release during Python's exit aborts it."""
MAX_LISTED: Final = 30
"""Maximum number of runs or models that an error lists."""
OWN_START: Final = "each run has its own start time"
OWN_ENGINE: Final = "each model has its own engines"


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
        self._model = layout.model if layout.model in header else None
        self._cache_hit = layout.cache_hit if layout.cache_hit in header else None
        selecting = [c for c in (layout.run, self._model, self._cache_hit) if c]
        self.column_names = list(dict.fromkeys([*self.fields.values(), *selecting]))
        self.cleaner = Cleaner(str(path), self.fields, skip_bad=options.skip_bad)
        self._path, self._layout, self._options = path, layout, options
        self._clock = ArrivalClock(options.unit or layout.unit)
        self._clients = Clients()
        self._rng = {role: options.rng_for(role) for role in TOKEN_ROLES}
        self._without_tokens: Counter[str] = Counter()
        self._runs: Counter[str] = Counter()
        self._models: Counter[str] = Counter()
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
        tokens = {ROLES[role]: self._counts(role, cells, len(numbers)) for role in TOKEN_ROLES}
        if "cached_tokens" in cells:
            tokens["cached_tokens"] = floats(cells["cached_tokens"])
        raw = {field: _Cells(values) for field, values in cells.items()}
        self.cleaner.add(Rows(arrival, tokens, client, raw, lambda i: place(first_row + int(numbers[i]))))

    def _counts(self, role: str, cells: Mapping[str, Any], rows: int) -> Floats:
        """Return the token counts of a role. Rows without any get one from the options."""
        field = ROLES[role]
        counts = floats(cells[field]) if field in cells else np.full(rows, np.nan)
        absent = np.asarray(pc.is_null(cells[field])) if field in cells else np.ones(rows, bool)
        lengths = self._options.lengths(role)
        if lengths is None:
            self._without_tokens[role] += int(absent.sum())
        elif absent.any():
            counts = counts.copy()
            counts[absent] = lengths.draw(int(absent.sum()), self._rng[role])
            self.cleaner.repairs[f"{role} tokens set by --{role}-tokens"] += int(absent.sum())
        return counts

    def _rows_to_keep(self, columns: Mapping[str, Any]) -> Any:
        """Return a mask of the rows to keep.

        It has no blank lines, other runs or models, failed requests or cached responses.
        """
        required = [columns[self.fields[f]] for f in ("arrival_s", *REQUIRED) if f in self.fields]
        blank = functools.reduce(pc.and_kleene, map(pc.is_null, required))
        self.cleaner.repairs["empty rows skipped"] += pc.sum(blank).as_py() or 0
        keep = pc.invert(blank)
        if self._layout.run:
            keep = _selected(columns[self._layout.run], keep, self._runs, self._options.run)
        if self._cache_hit:
            hit = pc.fill_null(pc.equal(pc.utf8_lower(pc.cast(columns[self._cache_hit], pa.string())), "true"), False)
            keep = self._leave_out(keep, hit, "responses from the proxy's cache skipped")
        if self._layout.failed_outputs and "output_tokens" in self.fields:
            failed = pa.array(floats(columns[self.fields["output_tokens"]]) == 0)
            keep = self._leave_out(keep, failed, "failed requests (0 output tokens) skipped")
        if self._model:
            keep = _selected(columns[self._model], keep, self._models, self._options.model)
        return keep

    def _leave_out(self, keep: Any, rows: Any, what: str) -> Any:
        self.cleaner.repairs[what] += pc.sum(pc.and_(keep, rows)).as_py() or 0
        return pc.and_not(keep, rows)

    def trace(self, name: str) -> RequestTrace:
        """Return the trace of all rows.

        Raises `TraceError` where the options do not select one run and model.
        """
        run, model = self._options.run, self._options.model
        if run is not None and not self._layout.run:
            raise TraceError(f"{self._path}: --run {run}: this format has no runs")
        if self._layout.run and (run not in self._runs if run else len(self._runs) > 1):
            raise TraceError(f"{self._path}: choose one run with --run{_choices(run, self._runs, OWN_START)}")
        if model is not None and not self._model:
            raise TraceError(f"{self._path}: --model-name {model}: the file does not name the model of a request")
        if not _matching(self._models, model) if model else len(set(self._models) - {""}) > 1:
            rule = "choose one model with --model-name, or all with --model-name '*'"
            raise TraceError(f"{self._path}: {rule}{_choices(model, self._models, OWN_ENGINE)}")
        for role, count in self._without_tokens.items():
            if count:
                remedy = f"forescale trace convert --{role}-tokens N sets missing {role} tokens: {count:,}"
                self.cleaner.remedies.append(remedy)
        trace = self.cleaner.trace(f"{name}:{run}" if run else name, str(self._path))
        return spread_in_buckets(trace, 1.0, self._options) if self._layout.cut_to_s else trace


def _selected(column: Any, keep: Any, counts: Counter[str], wanted: str | None) -> Any:
    """Return the rows of `keep` whose value is wanted, and count all of them by value."""
    values = pc.fill_null(pc.cast(column, pa.string()), "")
    for entry in pc.value_counts(pc.filter(values, keep)).to_pylist():
        counts[entry["values"]] += entry["counts"]
    if wanted is None:
        return keep
    return pc.and_(keep, pc.is_in(values, pa.array(_matching(counts, wanted), pa.string())))


def _matching(names: Iterable[str], wanted: str) -> list[str]:
    """Return the names that are equal to a name or match it as a shell pattern."""
    return [name for name in names if name == wanted or fnmatch.fnmatchcase(name, wanted)]


def _choices(wanted: str | None, counts: Counter[str], why: str) -> str:
    """Return the reason to choose and the values to choose from, with their rows."""
    hint = (did_you_mean(wanted, list(counts)) or f"{wanted!r} is not in the file") if wanted else why
    values = [f"{printable(value) or '(none)'} ({count})" for value, count in list(counts.items())[:MAX_LISTED]]
    return f" ({hint}): {', '.join(values)}" + (", ..." if len(counts) > MAX_LISTED else "")


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
