"""``forescale import``: what the HPA or KEDA does today, as a workload's file."""

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
from scaler.config.problems import ConfigError, Problem
from scaler.migrate.manifests import Imported, read

URL: Final = re.compile(r"^https?://[^/@\s?#]+(/[^\s?#]*)?$")


def command(args: argparse.Namespace) -> int:
    problems = list(_misuse(args))
    if problems:
        raise ConfigError(problems)
    found = read([Path(p) for p in args.manifest], args.prometheus, native_policies=args.native)
    _loads(found)
    if args.out is not None:
        args.out.write_text(found.text, encoding="utf-8")
    if args.json:
        print(json.dumps(_as_dict(found), indent=2))
    elif args.out is None:
        print(found.text, end="")
    if not args.json:
        _print(found, args.out)
    return 1 if found.findings.lost else 0


def _misuse(args: argparse.Namespace) -> Sequence[Problem]:
    wrong = []
    if args.prometheus is not None and not URL.match(args.prometheus):
        rule = "must be an http or https address, without a name, password or query"
        wrong.append(Problem("command line", 1, "--prometheus", "", rule))
    if args.out is not None and args.out.exists():
        rule = "exists, and may be what a daemon runs by"
        wrong.append(Problem("command line", 1, "--out", str(args.out), rule, "name a new file"))
    elif args.out is not None and not args.out.parent.is_dir():
        rule = "cannot be written: there is no such directory"
        wrong.append(Problem("command line", 1, "--out", str(args.out), rule, "make it first"))
    return wrong


def _loads(found: Imported) -> None:
    """Require that the result can run. Raises `ConfigError` where the manifest asks for what no workload may have."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "workload.yaml"
        made.write_text(found.text, encoding="utf-8")
        try:
            load([made])
        except ConfigError as e:
            made_of = [Problem("the workload made of it", p.line, p.path, p.value, p.rule, p.hint) for p in e.problems]
            raise ConfigError([*made_of, *found.findings.lost]) from e


def _print(found: Imported, out: Path | None) -> None:
    """On stderr: what is not as today, and what to do next."""
    for title, problems in (("Not carried over", found.findings.lost), ("Done another way", found.findings.differs)):
        if problems:
            print(f"{title}:", file=sys.stderr)
            for problem in problems:
                print(f"  {problem}", file=sys.stderr)
    count = f"{len(found.names)} workload{'s' * (len(found.names) != 1)}"
    if out is not None:
        print(f"{out}: {count}. Next: forescale run {out} --dry-run", file=sys.stderr)


def _as_dict(found: Imported) -> dict[str, object]:
    return {
        "workloads": list(yaml.safe_load_all(found.text)),
        "not_carried_over": [p.as_dict() for p in found.findings.lost],
        "done_another_way": [p.as_dict() for p in found.findings.differs],
    }
