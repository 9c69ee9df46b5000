"""Progress on stderr, drawn over and cleared at the end; nothing is drawn where stderr is no terminal."""

from __future__ import annotations

import sys
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

LEAST: Final = 20_000_000
"""Smaller work, in bytes or requests, is done before anybody could read of it."""
WIDTH: Final = 30


class Drawing:
    """Lines on a terminal that are drawn over until they are cleared."""

    def __init__(self, to: TextIO | None = None) -> None:
        file = sys.stderr if to is None else to
        self.on_terminal = file.isatty()
        self._live = Live(
            console=Console(file=file, force_terminal=self.on_terminal, highlight=False),
            auto_refresh=False,  # no thread: processes are forked while this stands
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def draw(self, *lines: RenderableType) -> None:
        if self.on_terminal:
            self._live.start()
            self._live.update(Group(*lines), refresh=True)

    def clear(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()


class ProgressBar:
    """A bar for work whose length is known."""

    def __init__(self, what: str, to: TextIO | None = None) -> None:
        self._what = what
        self._drawing = Drawing(to)
        self._percent = -1

    def __call__(self, share: float) -> None:
        percent = int(100 * share)
        if percent != self._percent:
            self._percent = percent
            self._drawing.draw(bar(self._what, share))

    def large(self, done: int, total: int) -> None:
        """Show work of `total` bytes or requests, if it is long enough to be read of."""
        if total >= LEAST:
            self(done / total)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawing.clear()


def bar(what: str, share: float, note: str = "") -> Table:
    """Return one line: a name, a bar, the share in percent and a note."""
    line = Table.grid(padding=(0, 1))
    completed = Bar(total=1.0, completed=min(1.0, share), width=WIDTH)
    line.add_row(Text(what), completed, Text(f"{share:.0%}"), Text(note))
    return line
