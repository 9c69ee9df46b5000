"""Parsing of command-line arguments, with hints for mistyped options."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

from scaler.config.listen import listen_problem
from scaler.registry import did_you_mean


class Parser(argparse.ArgumentParser):
    """Argument parser that names the nearest option for an unknown one, and rules of numbers."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register("type", int, whole_number)
        self.register("type", float, number)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        for option in self._unknown_options(args or ()):
            known = [o for o in self._option_string_actions if o.startswith("--")]
            hint = did_you_mean(option, known) or f"the options are {', '.join(known)}"
            self.error(f"unknown option {option!r}; {hint}")
        return super().parse_known_args(args, namespace)

    def _unknown_options(self, args: Sequence[str]) -> Iterator[str]:
        """Yield the options of this parser's own part of the command line that it does not have.

        A part ends at the name of a command below. An unambiguous beginning of an option counts as the option.
        """
        for arg in args:
            option = arg.partition("=")[0]
            if arg == "--" or (self._subparsers is not None and not arg.startswith("-")):
                return
            if not option.startswith("-") or option == "-" or option[1].isdigit() or " " in option:
                continue
            known = self._option_string_actions
            if option[:2] not in known and not any(o.startswith(option) for o in known):
                yield option


def listen_address(text: str) -> str:
    """Return an address to listen on. Raises `ArgumentTypeError`."""
    if rule := listen_problem(text):
        raise argparse.ArgumentTypeError(f"{rule}, not {text!r}")
    return text


def seconds(text: str) -> float:
    """Return a duration in seconds. Raises `ArgumentTypeError`."""
    try:
        duration_s = float(text)
    except ValueError:
        duration_s = -1.0
    if not 0 < duration_s < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text!r}")
    return duration_s


def whole_number(text: str) -> int:
    """Return a whole number. Raises `ArgumentTypeError`."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None


def number(text: str) -> float:
    """Return a number. Raises `ArgumentTypeError`."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, not {text!r}") from None
