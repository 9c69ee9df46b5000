"""Progress on stderr, redrawn in place and cleared at the end.

Nothing is drawn if stderr is no terminal.
"""

from __future__ import annotations

import sys
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar as Bar
from rich.table import Table
from rich.text import Text

MIN_WORK: Final = 20_000_000
"""The minimum work for a progress bar, in bytes or requests: smaller work ends too soon to be read."""
BAR_WIDTH: Final = 30


class Drawing:
    """Lines on a terminal that are redrawn in place until they are cleared."""

    def __init__(self, stream: TextIO | None = None) -> None:
        file = sys.stderr if stream is None else stream
        self.on_terminal = file.isatty()
        self._live = Live(
            console=Console(file=file, force_terminal=self.on_terminal, highlight=False),
            auto_refresh=False,  # no thread: processes are forked while this is open
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def draw(self, *lines: RenderableType) -> None:
        if self.on_terminal:
            self._live.start()
            self._live.update(Group(*lines), refresh=True)

    def clear(self) -> None:
        """Restore the terminal."""
        self._live.stop()


class ProgressBar:
    """A progress bar for work of known length."""

    def __init__(self, title: str, stream: TextIO | None = None) -> None:
        self._title = title
        self._drawing = Drawing(stream)
        self._percent = -1

    def __call__(self, share: float) -> None:
        percent = int(100 * share)
        if percent != self._percent:
            self._percent = percent
            self._drawing.draw(bar(self._title, share))

    def large(self, done: int, total: int) -> None:
        """Show the progress of work of `total` bytes or requests, if it is at least `MIN_WORK`."""
        if total >= MIN_WORK:
            self(done / total)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._drawing.clear()


def bar(title: str, share: float, note: str = "") -> Table:
    """Return one line: a name, a bar, the share in percent and a note."""
    line = Table.grid(padding=(0, 1))
    completed = Bar(total=1.0, completed=min(1.0, share), width=BAR_WIDTH)
    line.add_row(Text(title), completed, Text(f"{share:.0%}"), Text(note))
    return line
