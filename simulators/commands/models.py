"""``forescale models``: the catalogue of service models."""

from __future__ import annotations

import argparse
import json

from simulators.engine.models import listing


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``models``."""
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="show this model's source and settings; a name of the list, or a file of forescale calibrate",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def command(args: argparse.Namespace) -> int:
    """Print the list, or one model. Raises `ConfigError`."""
    if args.name:
        entry = listing.entry(args.name)
        print(json.dumps(entry.as_dict(), indent=2) if args.json else "\n".join(listing.details(entry)))
        return 0
    entries = listing.entries()
    if args.json:
        print(json.dumps([entry.as_dict() for entry in entries], indent=2))
    else:
        print("\n".join(listing.table(entries)))
    return 0
