"""Baseline of a search.

It is the scenario's own workload, another file, or the HPA or ScaledObject that runs today.
"""

from __future__ import annotations

import dataclasses
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scaler.config.document import read as read_yaml
from scaler.config.files import Unreadable, read_text
from scaler.config.load import Workload
from scaler.config.problems import ConfigError, Problem
from scaler.migrate import manifests
from scaler.migrate.metric_detection import recognize
from simulators.experiments.scenario import Case, load_workload
from simulators.experiments.spec_loader import COMMAND_LINE
from simulators.world.telemetry import QUANTITIES

MEAN_QUERY: Final = re.compile(r"avg\s*\(\s*sum by \(pod\)\s*\((.*)\)\s*\)")
"""The query that a migration writes for an HPA's pods metric."""
LABELS: Final = re.compile(r"\{[^{}]*\}")
PER_REPLICA: Final = "_per_replica"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The case whose workload is tuned, and the text and name of that workload's file.

    `present` is the workload that runs today if it is another one: the search then starts at a proposal. `imported`
    means that the workload comes from manifests; `remarks` list where it differs from them.
    """

    case: Case
    text: str
    file: str
    present: Workload | None = None
    remarks: tuple[str, ...] = ()
    imported: bool = False


def load_baseline(case: Case, source: Path | None, prometheus: str | None, *, native: bool) -> Baseline:
    """Return the baseline.

    `source` is a workload's file or Kubernetes manifests. Raises `ConfigError`.
    """
    if case.concurrent:
        others = ", ".join(other.workload.name for other in case.concurrent)
        rule = f"has concurrent_scenarios ({others}), but tune handles one workload"
        raise _problem("SCENARIO", case.scenario.scenario, rule, "use a scenario without concurrent_scenarios")
    if source is None:
        file = case.folder / case.scenario.workload
        return Baseline(case, _read_text(file), str(file))
    if not _is_manifest(source):
        if native or prometheus is not None:
            option = "--native" if native else "--prometheus"
            raise _problem(option, "", "requires an HPA or ScaledObject, but --from names a workload file")
        return Baseline(case.under(load_workload(source), str(source)), _read_text(source), str(source))
    today_text, remarks = _imported(source, prometheus, native=False)
    if not native:
        return _imported_baseline(case, today_text, source, remarks)
    proposed_text, remarks = _imported(source, prometheus, native=True)
    today = _imported_baseline(case, today_text, source, ())
    proposal = _imported_baseline(today.case, proposed_text, source, remarks)
    return dataclasses.replace(proposal, present=today.case.workload)


def _is_manifest(source: Path) -> bool:
    """Return whether a file holds Kubernetes objects. Raises `ConfigError` if it is no YAML."""
    documents, problems = read_yaml(source)
    if problems:
        raise ConfigError(problems)
    return any(isinstance(d.data, dict) and "apiVersion" in d.data for d in documents)


def _imported(source: Path, prometheus: str | None, *, native: bool) -> tuple[str, tuple[str, ...]]:
    """Return the text of the one workload that manifests migrate to.

    Also return its differences from the manifests.
    """
    migrated = manifests.read([source], prometheus, native_policies=native)
    if migrated.findings.errors:
        raise ConfigError(migrated.findings.errors)
    if len(migrated.names) != 1:
        rule = f"contains {len(migrated.names)} workloads ({', '.join(migrated.names)}), but tune handles one"
        raise _problem("--from", str(source), rule, "use a file with one workload")
    return migrated.text, tuple(str(problem) for problem in (*migrated.findings.lost, *migrated.findings.differs))


def _imported_baseline(case: Case, text: str, source: Path, remarks: tuple[str, ...]) -> Baseline:
    """Return the baseline of a migrated workload's text.

    A `ConfigError` names the manifest as its file.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workload.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            workload = load_workload(file)
            renamed = _with_query_names(case, workload).under(workload, str(file))
            return Baseline(renamed, text, str(source), remarks=remarks, imported=True)
        except ConfigError as e:
            source_name = f"the workload imported from {source}"
            raise ConfigError([dataclasses.replace(p, file=source_name) for p in e.problems]) from e


def _with_query_names(case: Case, workload: Workload) -> Case:
    """Return the case with the quantities behind the workload's query names.

    They are added to the scenario's quantities.
    """
    quantities: dict[str, str] = {}
    for source in workload.document["sources"].values():
        for name, query in (source.get("queries") or {}).items():
            if quantity := _quantity(str(query)):
                quantities[name] = quantity
    quantities |= case.scenario.quantities
    return dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, quantities=quantities))


def _quantity(query: str) -> str | None:
    """Return the engine quantity that a query reads.

    It is a total or its mean per replica. The result is None for anything else.
    ``sum(vllm:num_requests_waiting{namespace="llm"})`` reads `waiting`.
    """
    unlabelled = LABELS.sub("", query).strip()  # a simulated world has only this workload's engines
    mean = MEAN_QUERY.fullmatch(unlabelled)
    metric = recognize(f"sum({mean[1]})" if mean else unlabelled)
    if metric is None or len(metric.quantities) != 1 or metric.divisor != 1 or (mean and metric.across != "sum"):
        return None
    name = metric.quantities[0] + (PER_REPLICA if mean else "")
    return name if name in QUANTITIES else None


def _read_text(file: Path) -> str:
    try:
        return read_text(file)
    except Unreadable as e:
        raise _problem("--from", str(file), e.rule, e.hint) from e


def _problem(option: str, value: str, rule: str, hint: str = "") -> ConfigError:
    return ConfigError([Problem(COMMAND_LINE, 1, option, value, rule, hint)])
