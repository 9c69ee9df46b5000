"""``forescale completion``: prints a shell's completion script."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import shtab

FILES: Final = frozenset({"CONFIG", "FILE", "JOURNAL", "MANIFEST", "NEW", "PATH", "SCENARIO", "TRACE"})
"""Metavars of arguments whose values are files."""


def command(args: argparse.Namespace) -> int:
    for action in _actions(args.parser):
        if action.type is Path or action.metavar in FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(args.parser, shell=args.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of a parser and of the commands below it."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other access to them
        yield action
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from _actions(below)
