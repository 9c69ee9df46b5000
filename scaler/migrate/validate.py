"""Loads imported workloads as the daemon does.

Files in the same directory are loaded with them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scaler.config.load import load
from scaler.config.problems import ConfigError, Problem
from scaler.migrate.findings import Findings
from scaler.migrate.manifests import Imported, require_workloads


def validated(imported: Imported, neighbors: Sequence[Path] = ()) -> Imported:
    """Return the import without the workloads that no daemon would load, which become errors.

    `neighbors` are present workload files of the directory that is written to: no two may resize the same object.
    Raises `ConfigError` where no workload is valid.
    """
    invalid: dict[str, list[Problem]] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {str(Path(folder) / f"{w.name}.yaml"): w for w in imported.workloads}
        for file, workload in files.items():
            Path(file).write_text(workload.text, encoding="utf-8")
        try:
            load([*neighbors, *map(Path, files)])
        except ConfigError as e:
            for problem in e.problems:
                if problem.file in files:
                    invalid.setdefault(files[problem.file].name, []).append(problem)
    findings = Findings()
    findings.extend(imported.findings)
    for workload in imported.workloads:
        o = workload.origin
        for problem in invalid.get(workload.name, ()):
            key = f"{problem.path} = {problem.value}" if problem.value else problem.path
            rule = f"the generated workload is invalid: {key}: {problem.rule}"
            findings.errors.append(o.document.problem(o.place, rule, problem.hint))
    workloads = tuple(w for w in imported.workloads if w.name not in invalid)
    return require_workloads(replace(imported, workloads=workloads, findings=findings))
