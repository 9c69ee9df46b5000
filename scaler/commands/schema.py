"""``forescale schema``: prints the configuration's JSON Schema, for editors and CI.

It can print the documented example instead.
"""

from __future__ import annotations

import argparse
import json

from scaler.config.example import example
from scaler.config.load import json_schema


def command(args: argparse.Namespace) -> int:
    print(example() if args.example else json.dumps(json_schema(), indent=2), end="" if args.example else "\n")
    return 0
