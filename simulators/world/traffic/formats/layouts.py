"""Known layouts of tables and JSON records: the column of each field.

A column of a JSON record is the dotted path of its keys, such as ``usage.prompt_tokens``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scaler.registry import did_you_mean
from simulators.world.traffic.formats.options import ReadOptions, Unit
from simulators.world.traffic.trace import TraceError

REQUIRED_ROLES: Final[Mapping[str, str]] = {
    "arrival": "arrival_s",
    "prompt": "prompt_tokens",
    "output": "output_tokens",
}
ROLES: Final[Mapping[str, str]] = {**REQUIRED_ROLES, "cached": "cached_tokens", "client": "client"}
"""Names of the trace's fields in ``--columns``."""
MODEL: Final = "model"
"""Name of the model's column in ``--columns``. It selects rows and is no field of the trace."""
TOKEN_ROLES: Final = ("prompt", "output")
SIMILAR: Final[Mapping[str, str]] = {
    "arrival": r"^(ts|time|date)$|timestamp|datetime|created|arriv|start_?time|time_?start|request_?time",
    "prompt": r"(prompt|input|context|^in_).*(tok|len)",
    "output": r"(completion|output|generat|response|^out_).*(tok|len)",
}
"""Pattern of the names that suggest each role."""
MAX_KEY: Final = 100
"""Characters of a name that the patterns search."""
LISTED_COLUMNS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Column names of a format.

    A file may lack `cached`, `client`, `model` and `cache_hit`; `run` is the column that separates runs, and `model`
    the one that separates models.

    `failed_outputs`: by the format's own description, a row with 0 output tokens is a failed request. `cache_hit`:
    column that is true for a response which no engine computed. `cut_to_s`: the times may be whole seconds.
    """

    arrival: str
    prompt: str
    output: str
    cached: str | None = None
    client: str | None = None
    run: str | None = None
    model: str | None = None
    cache_hit: str | None = None
    unit: Unit | None = None
    failed_outputs: bool = False
    cut_to_s: bool = False

    @property
    def required(self) -> list[str]:
        return [self.arrival, self.prompt, self.output, *([self.run] if self.run else [])]

    def present(self, header: list[str]) -> dict[str, str]:
        """Return the columns that the file has, by field."""
        named = {field: getattr(self, role) for role, field in ROLES.items()}
        return {field: column for field, column in named.items() if column and column in header}


def _openai() -> tuple[Layout, ...]:
    """Return the layouts of OpenAI's responses: the usage in them, or next to the time."""
    pairs = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))
    return tuple(
        Layout(
            arrival=arrival,
            prompt=place + prompt,
            output=place + output,
            model="model",
            failed_outputs=True,
            cut_to_s=True,
        )
        for arrival in ("timestamp", "created", "created_at")
        for place in ("usage.", "")
        for prompt, output in pairs
    )


LAYOUTS: Final[Mapping[str, tuple[Layout, ...]]] = {
    # Azure/AzurePublicDataset, AzureLLMInferenceDataset2023.md and ...2024.md
    "azure": (Layout(arrival="TIMESTAMP", prompt="ContextTokens", output="GeneratedTokens"),),
    # HPMLL/BurstGPT: seconds; a failed request has 0 response tokens
    "burstgpt": (Layout(arrival="Timestamp", prompt="Request tokens", output="Response tokens", failed_outputs=True),),
    "forescale": (
        Layout(
            arrival="arrival_s", prompt="prompt_tokens", output="output_tokens", cached="cached_tokens", client="client"
        ),
    ),
    # BerriAI/litellm, schema.prisma, LiteLLM_SpendLogs: failures and embeddings have 0 completion tokens
    "litellm": (
        Layout(
            arrival="startTime",
            prompt="prompt_tokens",
            output="completion_tokens",
            model="model",
            cache_hit="cache_hit",
            failed_outputs=True,
        ),
    ),
    # measurements of several runs in one file, each with its own start
    "runs": (Layout(arrival="arrival_unix", prompt="prompt_tokens", output="output_tokens", run="run"),),
    # alibaba/ServeGen, save_requests_to_csv
    "servegen": (Layout(arrival="timestamp", prompt="input_tokens", output="output_tokens"),),
    # openai/openai-openapi: CompletionUsage and ResponseUsage
    "openai": _openai(),
}


def fitting(header: list[str], options: ReadOptions) -> Layout | None:
    """Return the first known layout whose columns are in the header.

    Without one, the first that lacks only the token counts of one role, and the options set them.
    """
    known = [layout for layouts in LAYOUTS.values() for layout in layouts]
    for given in ((), *((role,) for role in TOKEN_ROLES if options.lengths(role))):
        for layout in known:
            if set(layout.required) - {getattr(layout, role) for role in given} <= set(header):
                return layout
    return None


def layout_of(path: Path, header: list[str], options: ReadOptions) -> Layout:
    """Return the layout of a table.

    Raises `TraceError` with the actual and the expected columns.
    """
    given = {role for role in TOKEN_ROLES if options.lengths(role) and role not in options.columns}
    if options.columns:
        layout = _mapped(path, options, given)
    elif options.format is not None:
        layout = _named(path, options.format, header)
    else:
        layout = _detected(path, header, options)
    absent = {getattr(layout, role) for role in given}
    needed = [*layout.required, *(c for r, c in options.columns.items() if r in {"cached", "client", MODEL})]
    missing = [c for c in needed if c not in header and c not in absent]
    if missing:
        hints = [f"{c!r}" + (f" ({hint})" if (hint := did_you_mean(c, header)) else "") for c in missing]
        raise TraceError(f"{path}: missing columns: {', '.join(hints)}; the file has {listed(header)}")
    duplicated = [c for c in needed if c and header.count(c) > 1]
    if duplicated:
        raise TraceError(f"{path}: the column {duplicated[0]!r} occurs twice; rename one")
    return layout


def _named(path: Path, name: str, header: list[str]) -> Layout:
    """Return the layout of ``--format`` that fits best."""
    if name not in LAYOUTS:
        raise TraceError(f"{path}: is not in the format {name}: it has the columns {listed(header)}")
    return max(LAYOUTS[name], key=lambda layout: len(set(layout.required) & set(header)))


def _detected(path: Path, header: list[str], options: ReadOptions) -> Layout:
    """Return the first layout that fits. Raises `TraceError` with the known ones."""
    layout = fitting(header, options)
    if layout is not None:
        return layout
    if {"t_s", "rate_rps"} <= set(header):
        rule = f"is a series of rates, not of requests: convert it with forescale trace generate rates file={path}"
        raise TraceError(f"{path}: {rule}")
    raise TraceError(f"{path}: unknown format with the columns {listed(header)}; known formats:\n{help_text(header)}")


def _mapped(path: Path, options: ReadOptions, given: set[str]) -> Layout:
    """Return the layout that ``--columns`` describes. Roles in `given` need no column."""
    known = [*ROLES, MODEL]
    unknown = [role for role in options.columns if role not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known) or f"the roles are {', '.join(known)}"
        raise TraceError(f"--columns: {unknown[0]!r} is not a column role; {hint}")
    missing = [role for role in ("arrival", *TOKEN_ROLES) if role not in options.columns and role not in given]
    if missing:
        options_for = [f"--{role}-tokens N" for role in missing if role in TOKEN_ROLES]
        instead = f", or set {' and '.join(options_for)}" if options_for else ""
        raise TraceError(f"--columns: must also name the column of {', '.join(missing)}{instead} (for {path})")
    columns: Mapping[str, Any] = dict.fromkeys(TOKEN_ROLES, "") | dict(options.columns)
    return Layout(**columns, unit=options.unit)


def help_text(header: list[str]) -> str:
    """Return the known layouts, and the columns of the header that look like the needed ones."""
    known = "\n".join(f"  {name}: {', '.join(layouts[0].required)}" for name, layouts in LAYOUTS.items())
    similar = _similar(header)
    if all(similar.values()):
        mapping = ",".join(f"{role}={columns[0]}" for role, columns in similar.items())
        return f"{known}\nor name the columns, perhaps: --columns {shlex.quote(mapping)}"
    unlike = [c for c in header if not any(c in columns for columns in similar.values())]
    needed = {role: column for role, column in REQUIRED_ROLES.items() if column not in header}
    slips = [
        f"{column!r}: {hint}"
        for role, column in needed.items()
        if (hint := did_you_mean(column, [*unlike, *similar[role]]))
    ]
    return (
        f"{known}\n"
        + (f"{'; '.join(slips)}\n" if slips else "")
        + "or name the columns: --columns arrival=COLUMN,prompt=COLUMN,output=COLUMN"
    )


def _similar(header: list[str]) -> dict[str, list[str]]:
    """Return the columns whose last key looks like each role."""
    keys = {column: column.lower().rpartition(".")[2][:MAX_KEY] for column in header if column.isprintable()}
    return {role: [c for c, key in keys.items() if re.search(pattern, key)] for role, pattern in SIMILAR.items()}


def listed(header: list[str]) -> str:
    """Return the first columns, quoted."""
    shown = [repr(c[:40]) for c in header[:LISTED_COLUMNS]]
    more = len(header) - LISTED_COLUMNS
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")
