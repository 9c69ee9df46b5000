"""A command on a real pseudo-terminal, and the screen that a person would see."""

from __future__ import annotations

import asyncio
import codecs
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.patience import PATIENCE_S

ROOT: Final = Path(__file__).parents[2]
SEQUENCE: Final = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])")
INCOMPLETE: Final = re.compile(r"\x1b(\[[?\d;]*)?$")
COLOR: Final = re.compile(r"\x1b\[(?:[\d;]*;)?(?:3[0-8]|4[0-8]|9\d|10\d)(?:;[\d;]*)?m")
LAUNCH: Final = """\
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
"""A program that makes its standard input the controlling terminal, for Ctrl-C, and becomes another program. A
`preexec_fn` would run between fork and exec, where the locks of other threads, as of gRPC, may be held forever."""
CURSOR: Final = re.compile(r"\x1b\[[?\d;]*[A-HJKfhl]")


class Screen:
    """The rows of a terminal: text, line breaks, cursor positions, erasing, and the alternate screen."""

    def __init__(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self.has_cursor, self.is_alternate = True, False
        self._saved: tuple[list[list[str]], int, int] | None = None
        self._clear()

    def resize(self, columns: int, rows: int) -> None:
        self.columns, self.rows = columns, rows
        self._clear()

    def _clear(self) -> None:
        self._cells = [[" "] * self.columns for _ in range(self.rows)]
        self._row = self._column = 0

    def text(self) -> str:
        return "\n".join("".join(cells).rstrip() for cells in self._cells)

    def feed(self, data: str) -> None:
        position = 0
        for match in SEQUENCE.finditer(data):
            self._write(data[position : match.start()])
            self._control(match[1], match[2])
            position = match.end()
        self._write(data[position:])

    def _write(self, text: str) -> None:
        for character in text:
            if character == "\r":
                self._column = 0
            elif character == "\n":
                self._line_feed()
            elif character.isprintable():
                if self._column == self.columns:
                    self._column = 0
                    self._line_feed()
                self._cells[self._row][self._column] = character
                self._column += 1

    def _line_feed(self) -> None:
        if self._row == self.rows - 1:
            self._cells = [*self._cells[1:], [" "] * self.columns]
        else:
            self._row += 1

    def _control(self, parameters: str, kind: str) -> None:
        if kind == "H":
            row, _, column = parameters.partition(";")
            self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
        elif kind == "J":
            self._cells = [[" "] * self.columns for _ in range(self.rows)]
        elif kind in "hl" and parameters == "?25":
            self.has_cursor = kind == "h"
        elif kind in "hl" and parameters == "?1049":
            self._switch(alternate=kind == "h")

    def _switch(self, *, alternate: bool) -> None:
        if alternate:
            self._saved = self._cells, self._row, self._column
            self._clear()
        elif self._saved is not None:
            self._cells, self._row, self._column = self._saved
        self.is_alternate = alternate


class Terminal:
    """A command on a pseudo-terminal; `output` is all that it has written."""

    def __init__(self, process: Process, descriptor: int, screen: Screen) -> None:
        self.process, self.screen = process, screen
        self.output = ""
        self._descriptor = descriptor
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._incomplete = ""
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the command has ended
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        text = self._incomplete + self._decoder.decode(data)
        cut = match.start() if (match := INCOMPLETE.search(text)) else len(text)
        text, self._incomplete = text[:cut], text[cut:]
        self.output += text
        self.screen.feed(text)

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(columns, rows)
        set_size(self._descriptor, columns, rows)

    def press(self, keys: bytes) -> None:
        """Type keys. A terminal turns Ctrl-C into a signal."""
        os.write(self._descriptor, keys)

    def shows(self, text: str) -> bool:
        return text in self.screen.text()

    async def ended(self) -> int:
        """Return the exit code, once the command has ended."""
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


def set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@asynccontextmanager
async def forescale_on_terminal(
    *args: str, cwd: Path, env: Mapping[str, str] | None = None, columns: int = 120, rows: int = 30
) -> AsyncIterator[Terminal]:
    """Run ``forescale`` on a pseudo-terminal, without the settings of the present one; kill it at the end."""
    inherited = {k: v for k, v in os.environ.items() if k not in {"CI", "NO_COLOR", "COLUMNS", "LINES"}}
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    descriptor, end = pty.openpty()
    set_size(descriptor, columns, rows)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LAUNCH, "-m", "scaler.cli", *args),
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=cwd,
        env={**inherited, "TERM": "xterm-256color", "PYTHONPATH": paths, **(env or {})},
        start_new_session=True,
    )
    os.close(end)
    terminal = Terminal(process, descriptor, Screen(columns, rows))
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
