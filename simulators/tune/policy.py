"""A point of the front as a workload's file that a person would dare to deploy: what it promises stands at its top."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import yaml

from scaler.config.document import parse
from scaler.config.load import load, workload_from
from scaler.config.problems import ConfigError
from scaler.migrate.yaml_writer import comment
from simulators.experiments.contenders.contenders import contenders
from simulators.tune.baseline import Begin
from simulators.tune.space import Space, Value, word, written
from simulators.tune.yaml_edit import NoPlace, edited
from simulators.world.traffic.writers import replacing

FIRST: Final = "Tuned by `forescale tune`"
LAST: Final = "That much from forescale tune; the file itself follows."


def write(path: Path, begun: Begin, settings: Mapping[str, Value], space: Space, said: Sequence[str]) -> None:
    """Write the workload's file with these settings, and `said` at its top. Raises `ConfigError`, `TraceError`.

    The file is read by the daemon's own loader before it takes the place of another.
    """
    told = [*said, *_changed(space, settings), LAST]
    head = [line for text in told for line in comment(text, "")]
    body = text_of(begun, settings, space)
    aside = path.with_name(f".checked-{path.name}")
    try:
        aside.write_text("\n".join([*head, body]), encoding="utf-8")
        load([aside])
        with replacing(path) as file:
            file.write(aside.read_bytes())
    finally:
        aside.unlink(missing_ok=True)


def text_of(begun: Begin, settings: Mapping[str, Value], space: Space) -> str:
    """The owner's own file with the settings changed in it; where that cannot be, the whole document, defaults too."""
    wanted = contenders(begun.case, [word(settings)], with_self=False)[0].case.workload.document
    changes = {path: after for path, (_, after) in space.changes(settings).items()}
    try:
        text = edited(without_head(begun.text), changes)
        documents, problems = parse(begun.file, text)
        if not problems and len(documents) == 1 and workload_from(documents[0].data).document == wanted:
            return text
    except (NoPlace, ConfigError):
        pass
    return yaml.safe_dump(dict(wanted), sort_keys=False, allow_unicode=True, width=110)


def without_head(text: str) -> str:
    """Return a file's text without what an earlier search wrote at its top."""
    first, last = f"# {FIRST}", f"# {LAST}\n"
    return text.split(last, 1)[1] if text.startswith(first) and last in text else text


def _changed(space: Space, settings: Mapping[str, Value]) -> Iterator[str]:
    changes = space.changes(settings)
    if not changes:
        yield "Nothing is changed: these are the settings as they are."
        return
    yield "Changed:"
    for path, (before, after) in changes.items():
        yield f"  {path.removeprefix('.')}: {written(before)} -> {written(after)}"
