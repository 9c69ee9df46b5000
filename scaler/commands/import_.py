"""``forescale import``: writes a workload file from an HPA or a ScaledObject.

The workload has the same behavior.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from scaler.config.load import load
from scaler.config.problems import COMMAND_LINE, ConfigError, Problem
from scaler.migrate.manifests import Imported, read

URL: Final = re.compile(r"^https?://[^/@\s?#]+(/[^\s?#]*)?$")


def command(args: argparse.Namespace) -> int:
    problems = list(_option_problems(args))
    if problems:
        raise ConfigError(problems)
    imported = read([Path(p) for p in args.manifest], args.prometheus, native_policies=args.native)
    _require_valid(imported)
    if args.out is not None:
        args.out.write_text(imported.text, encoding="utf-8")
    if args.json:
        print(json.dumps(_as_dict(imported), indent=2))
    elif args.out is None:
        print(imported.text, end="")
    if not args.json:
        _print(imported, args.out)
    return 1 if imported.findings.lost else 0


def _option_problems(args: argparse.Namespace) -> Sequence[Problem]:
    problems = []
    if args.prometheus is not None and not URL.match(args.prometheus):
        rule = "must be an http or https URL without user name, password or query"
        problems.append(Problem(COMMAND_LINE, 1, "--prometheus", "", rule))
    if args.out is not None and args.out.exists():
        rule = "already exists, and a daemon may be running it"
        problems.append(Problem(COMMAND_LINE, 1, "--out", str(args.out), rule, "choose a new file"))
    elif args.out is not None and not args.out.parent.is_dir():
        rule = "cannot be written: its directory does not exist"
        problems.append(Problem(COMMAND_LINE, 1, "--out", str(args.out), rule, "create the directory first"))
    return problems


def _require_valid(imported: Imported) -> None:
    """Load the workload file.

    Raises `ConfigError` where the manifest has settings that no workload may have.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workload.yaml"
        file.write_text(imported.text, encoding="utf-8")
        try:
            load([file])
        except ConfigError as e:
            problems = [Problem("the generated workload", p.line, p.path, p.value, p.rule, p.hint) for p in e.problems]
            raise ConfigError([*problems, *imported.findings.lost]) from e


def _print(imported: Imported, out: Path | None) -> None:
    """Print the findings and the next step on stderr."""
    for title, problems in (
        ("Not carried over", imported.findings.lost),
        ("Works differently", imported.findings.differs),
    ):
        if problems:
            print(f"{title}:", file=sys.stderr)
            for problem in problems:
                print(f"  {problem}", file=sys.stderr)
    count = f"{len(imported.names)} workload{'s' * (len(imported.names) != 1)}"
    if out is not None:
        print(f"{out}: {count}. Next: forescale run {out} --dry-run", file=sys.stderr)


def _as_dict(imported: Imported) -> dict[str, object]:
    return {
        "workloads": list(yaml.safe_load_all(imported.text)),
        "not_carried_over": [p.as_dict() for p in imported.findings.lost],
        "done_another_way": [p.as_dict() for p in imported.findings.differs],
    }
