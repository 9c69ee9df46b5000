"""Policy file of a point of the front.

It is the workload's file with the tuned settings and a header with the point's figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from scaler.config.document import parse
from scaler.config.load import load, workload_from
from scaler.config.problems import ConfigError
from scaler.config.scalar_edit import NoPlace
from scaler.migrate.yaml_writer import comment
from simulators.experiments.contenders.contenders import contenders
from simulators.tune.baseline import Baseline
from simulators.tune.space import Space, Value, contender_text, to_yaml
from simulators.tune.yaml_edit import edit_yaml
from simulators.world.traffic.writers import replacing

HEADER_START: Final = "Tuned by `forescale tune`"
HEADER_END: Final = "That much from forescale tune; the file itself follows."


def write(path: Path, baseline: Baseline, settings: Mapping[str, Value], space: Space, header: Sequence[str]) -> None:
    """Write the workload's file with these settings under a header.

    Raises `ConfigError`, `TraceError`.

    The daemon's loader reads a draft before it replaces an existing file.
    """
    lines = [*header, *_change_lines(space, settings), HEADER_END]
    comments = [line for text in lines for line in comment(text, "")]
    body = text_of(baseline, settings, space)
    draft = path.with_name(f".checked-{path.name}")
    try:
        draft.write_text("\n".join([*comments, body]), encoding="utf-8")
        load([draft])
        with replacing(path) as file:
            file.write(draft.read_bytes())
    finally:
        draft.unlink(missing_ok=True)


def text_of(baseline: Baseline, settings: Mapping[str, Value], space: Space) -> str:
    """Return the owner's file with the changed settings.

    If the file cannot be edited, return the whole document.
    """
    expected = contenders(baseline.case, [contender_text(settings)], with_self=False)[0].case.workload.document
    changes = {path: after for path, (_, after) in space.changes(settings).items()}
    try:
        text = edit_yaml(without_head(baseline.text), changes)
        documents, problems = parse(baseline.file, text)
        if not problems and len(documents) == 1 and workload_from(documents[0].data).document == expected:
            return text
    except (NoPlace, ConfigError):
        pass
    return yaml.safe_dump(dict(expected), sort_keys=False, allow_unicode=True, width=110)


def without_head(text: str) -> str:
    """Return a file's text without the header of an earlier search."""
    first, last = f"# {HEADER_START}", f"# {HEADER_END}\n"
    return text.split(last, 1)[1] if text.startswith(first) and last in text else text


def _change_lines(space: Space, settings: Mapping[str, Value]) -> Iterator[str]:
    changes = space.changes(settings)
    if not changes:
        yield "No setting is changed."
        return
    yield "Changed:"
    for path, (before, after) in changes.items():
        yield f"  {path.removeprefix('.')}: {to_yaml(before)} -> {to_yaml(after)}"
