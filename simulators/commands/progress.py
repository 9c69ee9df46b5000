"""How far long work has come, on the terminal of whoever waits for it."""

from __future__ import annotations

import sys
from typing import Final, TextIO

LEAST: Final = 20_000_000
"""Work smaller than this many bytes, or requests, is done before one could read of it."""


class Bar:
    """A line on stderr that is written over, and cleared at the end; silent where stderr is no terminal."""

    def __init__(self, what: str, to: TextIO | None = None) -> None:
        self._what = what
        self._to = sys.stderr if to is None else to
        self._percent = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if percent != self._percent and total >= LEAST and self._to.isatty():
            self._percent = percent
            self._to.write(f"\r{self._what} {percent:3d} %")
            self._to.flush()

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._percent >= 0:
            self._to.write("\r\033[K")


class ProgressBar:
    """A bar on stderr for work whose length is known; silent where stderr is no terminal."""

    WIDTH: Final = 30

    def __init__(self, what: str, to: TextIO | None = None) -> None:
        self._what = what
        self._to = sys.stderr if to is None else to
        self._shown = -1

    def __call__(self, share: float) -> None:
        percent = int(100 * share)
        if percent != self._shown and self._to.isatty():
            self._shown = percent
            full = self.WIDTH * percent // 100
            self._to.write(f"\r{self._what} [{'#' * full}{'.' * (self.WIDTH - full)}] {percent:3d} %")
            self._to.flush()

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown >= 0:
            self._to.write("\r\033[K")
