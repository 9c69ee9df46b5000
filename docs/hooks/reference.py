"""MkDocs hook: generate the reference pages.

Their sources are the schema, the argument parser and the catalogue of service models.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from scaler.cli import parser
from scaler.commands.verbs import VERBS
from scaler.config.load import json_schema
from simulators.engine.models import listing

NO_BOUND: Final = 1e15
"""Bound of a number without a documented one."""
HELP_COLUMNS: Final = "100"
"""Width of the printed help, which argparse reads from the environment."""
SECTIONS: Final = {"sources": "Sources", "policies": "Policies", "pools": "Pools", "routes": "Routes"}
"""The sections of a workload whose entries have a kind, and the title of the page of each."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    os.environ["COLUMNS"] = HELP_COLUMNS
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Return the text of each generated page by its name."""
    schema = json_schema()
    records = schema["$defs"]
    by_section = {section: _kinds(records["WorkloadSpec"]["properties"][section]) for section in SECTIONS}
    of_kinds = {record for kinds in by_section.values() for record in kinds.values()}
    texts = {"cli": "\n".join(_command_line()), "workload": "\n".join(_page("Workload", records, ["WorkloadSpec"]))}
    texts["models"] = "\n".join(_models())
    texts["daemon"] = "\n".join(_page("Daemon", records, ["DaemonSpec"]))
    for section, kinds in by_section.items():
        texts[section] = "\n".join(_page(SECTIONS[section], records, list(kinds.values()), of_kinds))
    return texts


def _kinds(section: Mapping[str, Any]) -> dict[str, str]:
    """Return the record of each kind that a section accepts."""
    (entry,) = section["patternProperties"].values()
    return {kind: _name(ref) for kind, ref in entry["discriminator"]["mapping"].items()}


def _page(title: str, records: Mapping[str, Any], roots: list[str], elsewhere: set[str] | None = None) -> Iterator[str]:
    """Yield the lines of a page: the root records, then the records that they contain."""
    yield from (f"# {title}", "", "Generated from the configuration's JSON Schema (`forescale schema`).", "")
    shown: list[str] = []
    queue = list(roots)
    while queue:
        record = queue.pop(0)
        if record not in shown:
            shown.append(record)
            queue += sorted(_references(records[record]) - {*(elsewhere or ()), *shown, "WorkloadSpec"})
    for record in shown:
        yield from _record(record, records[record], set(shown))


def _record(name: str, record: Mapping[str, Any], on_page: set[str]) -> Iterator[str]:
    """Yield the heading, the description and the table of a record's keys."""
    properties = record["properties"]
    kind = properties.get("kind", {}).get("const")
    yield from (f"## {f'`{kind}`' if kind else name} {{#{name.lower()}}}", "")
    if kind and (description := record.get("description")):
        yield from (description, "")
    yield from ("| Key | Type | Default | Description |", "|---|---|---|---|")
    required = record.get("required", ())
    for key, value in properties.items():
        if key == "kind":
            continue
        default = "*required*" if key in required else f"`{_yaml(value['default'])}`" if "default" in value else ""
        description = _cell(str(value.get("description", "")))
        examples = value.get("examples")
        example = f" Example: `{_cell(_yaml(examples[0]))}`." if examples else ""
        yield f"| `{key}` | {_type(value, on_page)} | {default} | {description}{example} |"
    yield ""


def _type(value: Mapping[str, Any], on_page: set[str]) -> str:
    """Return the type of a value in words, with its bounds."""
    if reference := value.get("$ref"):
        name = _name(reference)
        return f"[{name}](#{name.lower()})" if name in on_page else name
    if options := value.get("anyOf") or value.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option, on_page) for option in options))
    if "const" in value:
        return f"`{_yaml(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{_yaml(option)}`" for option in value["enum"])
    kind = value.get("type", "object" if "patternProperties" in value else "any")
    if kind == "array":
        return f"list of {_type(value['items'], on_page)}" if isinstance(value.get("items"), dict) else "list"
    if kind == "object":
        return "mapping"
    return f"{kind}{_bounds(value)}"


def _bounds(value: Mapping[str, Any]) -> str:
    """Return the bounds of a number, as in `, 0 to 1`; empty without any."""
    low, high = value.get("minimum"), value.get("maximum")
    above, below = value.get("exclusiveMinimum"), value.get("exclusiveMaximum")
    parts = [
        f"{word} {bound:g}"
        for word, bound in (("≥", low), (">", above), ("≤", high), ("<", below))
        if bound is not None
    ]
    return f", {', '.join(parts)}" if parts else ""


def _references(value: Any) -> set[str]:
    """Return the names of all records that a part of the schema refers to."""
    if isinstance(value, Mapping):
        own = {_name(value["$ref"])} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(part) for part in value.values()))
    return set().union(*map(_references, value)) if isinstance(value, list) else set()


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[1]


def _yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'


def _cell(text: str) -> str:
    """Return a text that can stand in a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("{{", "{ {")


def _models() -> Iterator[str]:
    """Yield a table of the service models, the meaning of its columns, and each source."""
    yield from ("# Service models", "", "Generated from the shipped catalogue (`forescale models`).", "")
    yield from (
        "A scenario names a model as `model` of a pool, and `forescale simulate --model` takes it directly.",
        "",
    )
    yield from (f"| {' | '.join(listing.HEADER)} |", "|---|---|---|---:|---:|---:|---|")
    entries = listing.entries()
    for entry in entries:
        name, *others = listing.cells(entry)
        yield f"| [`{name}`](#{_anchor(name)}) | {' | '.join(others)} |"
    yield ""
    yield from (f"- {note}" for note in listing.notes())
    yield from ("", "## Sources", "")
    for entry in entries:
        yield from (f"### `{entry.name}` {{#{_anchor(entry.name)}}}", "", _cell(entry.model.provenance), "")


def _anchor(name: str) -> str:
    return name.replace(".", "")


def _command_line() -> Iterator[str]:
    """Yield the help of every command, as `--help` prints it."""
    yield from ("# Command line", "", "Generated from `forescale COMMAND --help`.", "")
    for verb in VERBS:
        for command in _with_subcommands(verb):
            yield from (f"## forescale {command}", "", "```text", _help(command), "```", "")


def _with_subcommands(command: str) -> Iterator[str]:
    """Yield a command and the commands below it, which its usage lists in braces."""
    yield command
    if names := re.search(r"\{([a-z,-]+)\} \.\.\.", _help(command)):
        for name in names[1].split(","):
            yield from _with_subcommands(f"{command} {name}")


@functools.cache
def _help(command: str) -> str:
    """Return what `forescale COMMAND --help` prints."""
    verb, *rest = command.split()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        parser(verb).parse_args([verb, *rest, "--help"])
    return printed.getvalue().rstrip()
