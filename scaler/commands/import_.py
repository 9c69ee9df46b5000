"""``forescale import``: writes workload files from HPAs and ScaledObjects.

The workloads have the same behavior.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from policies.model.names import NAME
from scaler.adapters import EXTRAS
from scaler.clock import SystemClock
from scaler.config.document import Document
from scaler.config.files import files_of
from scaler.config.problems import COMMAND_LINE, NOT_SHOWN, ConfigError, Problem
from scaler.migrate.findings import Findings, Omission
from scaler.migrate.inputs import STDIN, cluster_documents, documents_of
from scaler.migrate.manifests import Imported, ImportOptions, convert
from scaler.migrate.validate import validated
from scaler.registry import did_you_mean, import_object
from scaler.shared_resources import AdapterContext, Resources

URL: Final = re.compile(r"^https?://[^/@\s?#]+(/[^\s?#]*)?$")
LIST_AUTOSCALERS: Final = "scaler.clouds.kubernetes.autoscalers:list_autoscalers"
"""Imported on use: it needs the Kubernetes SDK."""
DEADLINE_S: Final = 60.0
ROLE: Final = "config/deploy/kubernetes-import.yaml"


def command(args: argparse.Namespace) -> int:
    problems = list(_option_problems(args))
    if problems:
        raise ConfigError(problems)
    documents, findings = _from_cluster(args.namespace) if args.cluster else _from_files(args.manifest)
    options = ImportOptions(args.prometheus, args.native, frozenset(args.skip))
    imported = convert(documents, findings, options)
    imported = validated(imported, _neighbors(args.out, imported.names))
    is_incomplete = bool(imported.findings.lost or imported.findings.errors)
    files = {} if is_incomplete and args.strict else _files(imported, args.out)
    _write(files, force=args.force)
    if args.json:
        print(json.dumps(_as_dict(imported), indent=2))
    elif args.out is None and not (is_incomplete and args.strict):
        print(imported.text, end="")
    if not args.json:
        _print(imported, args, list(files))
    return 1 if is_incomplete else 0


def _option_problems(args: argparse.Namespace) -> Iterator[Problem]:
    if args.prometheus is not None and not URL.match(args.prometheus):
        rule = "must be an http or https URL without user name, password or query"
        yield Problem(COMMAND_LINE, 1, "--prometheus", "", rule)
    if args.cluster and args.manifest:
        yield Problem(COMMAND_LINE, 1, "--cluster", "", "excludes manifests", "remove one of the two")
    if not args.cluster and not args.manifest:
        hint = "name a file or a directory, - for standard input, or --cluster"
        yield Problem(COMMAND_LINE, 1, "MANIFEST", "", "is required", hint)
    if args.namespace is not None and not args.cluster:
        yield Problem(COMMAND_LINE, 1, "--namespace", args.namespace, "requires --cluster", "add it, or remove this")
    elif args.namespace is not None and not re.match(NAME.regex, args.namespace):
        rule = f"must be {NAME.words}"
        yield Problem(COMMAND_LINE, 1, "--namespace", args.namespace, rule, "kubectl get namespaces")
    if args.out is not None and not _is_directory(args.out) and not Path(args.out).parent.is_dir():
        rule = "cannot be written: its directory does not exist"
        yield Problem(COMMAND_LINE, 1, "--out", args.out, rule, "create the directory first")


def _is_directory(out: str) -> bool:
    """Return whether each workload is written to its own file in `out`."""
    return out.endswith(os.sep) or Path(out).is_dir()


def _overwritten(files: Sequence[Path], *, force: bool) -> Iterator[Problem]:
    for file in files:
        if file.exists() and not force:
            rule = "already exists, and a daemon may be running it"
            yield Problem(COMMAND_LINE, 1, "--out", str(file), rule, "choose a new file, or add --force to replace it")


def _from_files(manifests: Sequence[str]) -> tuple[list[Document], Findings]:
    if not STDIN.isdisjoint(manifests) and os.isatty(0):
        print("Reading manifests from the terminal; Ctrl-D ends them.", file=sys.stderr)
    documents, problems = documents_of([Path(p) for p in manifests])
    return documents, Findings(errors=problems)


def _from_cluster(namespace: str | None) -> tuple[list[Document], Findings]:
    """Return the autoscaler objects of the cluster.

    A kind that may not be listed is an omission. Raises port errors and `ConfigError`.
    """
    try:
        list_autoscalers = import_object(LIST_AUTOSCALERS)
    except ImportError as e:
        extra = EXTRAS.get((e.name or "").partition(".")[0], "kubernetes")
        rule = f"needs the package {e.name}, which is not installed"
        raise ConfigError([Problem(COMMAND_LINE, 1, "--cluster", "", rule, f"pip install 'forescale[{extra}]'")]) from e

    async def listed() -> Any:
        async with Resources() as resources:
            return await list_autoscalers(AdapterContext(resources, SystemClock(), DEADLINE_S), namespace)

    found = asyncio.run(listed())
    findings = Findings()
    for plural, message in found.refused.items():
        rule, hint = f"may not be listed: {message}", f"grant it with the rules in {ROLE}"
        findings.lost.append(Omission("cluster", 0, plural, "", rule, hint, (plural,)))
    where = f"namespace {namespace}" if namespace is not None else "the cluster"
    print(f"Read {_count(len(found.objects), 'object')} of {where}.", file=sys.stderr)
    return cluster_documents(found.objects), findings


def _neighbors(out: str | None, names: Sequence[str]) -> list[Path]:
    """Return the present workload files next to those that are written."""
    if out is None or not Path(out).is_dir():
        return []
    replaced = {f"{name}.yaml" for name in names}
    return [file for file in files_of([Path(out)])[0] if file.name not in replaced]


def _files(imported: Imported, out: str | None) -> dict[Path, str]:
    """Return the text of each file to write."""
    if out is None:
        return {}
    if not _is_directory(out):
        return {Path(out): imported.text}
    return {Path(out) / f"{workload.name}.yaml": workload.text for workload in imported.workloads}


def _write(files: dict[Path, str], *, force: bool) -> None:
    """Write all files, each at once, or none where one exists already. Raises `ConfigError`."""
    if problems := list(_overwritten(list(files), force=force)):
        raise ConfigError(problems)
    for file, text in files.items():
        partial = file.with_name(f".{file.name}.partial")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text, encoding="utf-8")
            partial.replace(file)
        except OSError as e:
            rule = f"cannot be written: {e.strerror}"
            raise ConfigError([Problem(COMMAND_LINE, 1, "--out", str(file), rule)]) from e


def _print(imported: Imported, args: argparse.Namespace, files: Sequence[Path]) -> None:
    """Print the findings, each file, a summary and the next step on stderr."""
    findings = imported.findings
    for title, problems in (
        ("Not imported", findings.errors),
        ("Not carried over", findings.lost),
        ("Left out, as accepted by --skip", findings.accepted),
        ("Works differently", findings.differs),
    ):
        _print_list(title, [str(p) for p in sorted(problems, key=lambda p: (p.file, p.line))])
    if _is_directory(args.out or ""):
        names = {workload.name: workload.origin.location() for workload in imported.workloads}
        _print_list("Written", [f"{file}: {names[file.stem]}" for file in files])
    for line in _summary(imported, args, files):
        print(line, file=sys.stderr)


def _print_list(title: str, lines: Sequence[str]) -> None:
    if lines:
        print("\n  ".join([f"{title}:", *lines]), file=sys.stderr)


def _summary(imported: Imported, args: argparse.Namespace, files: Sequence[Path]) -> Iterator[str]:
    findings = imported.findings
    known = dict.fromkeys(name for omission in findings.lost for name in omission.shown_names if name != NOT_SHOWN)
    used = {name for omission in findings.accepted for name in omission.names}
    for name in args.skip:
        if name not in used:
            yield f"--skip {name}: nothing was left out under this name. {did_you_mean(name, list(known))}".rstrip()
    if known:
        yield f"To accept what is not carried over: {' '.join(f'--skip {name}' for name in known)}"
    is_refused = args.strict and not files and bool(findings.errors or findings.lost)
    count = f"{len(imported.workloads)} of {_count(imported.autoscalers, 'autoscaler')}"
    if is_refused:
        yield f"{count} can be imported. Nothing is written because of --strict."
        return
    yield f"{count} imported."
    if files:
        yield f"Next: forescale check {args.out}, then forescale run --dry-run {args.out}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _as_dict(imported: Imported) -> dict[str, object]:
    findings = imported.findings
    return {
        "workloads": list(yaml.safe_load_all(imported.text)),
        "not_imported": [p.as_dict() for p in findings.errors],
        "not_carried_over": [p.as_dict() for p in findings.lost],
        "accepted": [p.as_dict() for p in findings.accepted],
        "done_another_way": [p.as_dict() for p in findings.differs],
    }
