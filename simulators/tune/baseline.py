"""What a search starts from: the scenario's own workload, another file, or the HPA or ScaledObject that runs today."""

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

MEAN: Final = re.compile(r"avg\s*\(\s*sum by \(pod\)\s*\((.*)\)\s*\)")
"""How an import asks for what the HPA calls a pods metric."""
LABELS: Final = re.compile(r"\{[^{}]*\}")
PER_REPLICA: Final = "_per_replica"


@dataclass(frozen=True, slots=True)
class Baseline:
    """The case whose workload is searched, the text of that workload's file, and what to say of how it was made.

    `present` is what runs today where that is another workload: then the search begins at a proposal. `imported` says
    whether the workload was made of manifests.
    """

    case: Case
    text: str
    file: str
    present: Workload | None = None
    remarks: tuple[str, ...] = ()
    imported: bool = False


def begin(case: Case, source: Path | None, prometheus: str | None, *, native: bool) -> Baseline:
    """Return the start of a search. `source` is a workload's file or Kubernetes manifests. Raises `ConfigError`."""
    if case.concurrent:
        others = ", ".join(other.workload.name for other in case.concurrent)
        rule = f"runs others beside its workload ({others}), and one is tuned at a time"
        raise _problem("SCENARIO", case.scenario.scenario, rule, "give a scenario without beside")
    if source is None:
        file = case.folder / case.scenario.workload
        return Baseline(case, _text(file), str(file))
    if not _manifest(source):
        if native or prometheus is not None:
            option = "--native" if native else "--prometheus"
            raise _problem(option, "", "is about an HPA or a ScaledObject, and --from names a workload's file")
        return Baseline(case.under(load_workload(source), str(source)), _text(source), str(source))
    today, said = _imported(source, prometheus, native=False)
    if not native:
        return _of(case, today, source, said)
    proposed, said = _imported(source, prometheus, native=True)
    now = _of(case, today, source, ())
    begun = _of(now.case, proposed, source, said)
    return dataclasses.replace(begun, present=now.case.workload)


def _manifest(source: Path) -> bool:
    """Return whether a file holds Kubernetes objects. Raises `ConfigError` if it is no YAML."""
    documents, problems = read_yaml(source)
    if problems:
        raise ConfigError(problems)
    return any(isinstance(d.data, dict) and "apiVersion" in d.data for d in documents)


def _imported(source: Path, prometheus: str | None, *, native: bool) -> tuple[str, tuple[str, ...]]:
    """Return the text of the one workload that manifests make, and what of it is not as today."""
    made = manifests.read([source], prometheus, native_policies=native)
    if len(made.names) != 1:
        rule = f"makes {len(made.names)} workloads ({', '.join(made.names)}), and one is tuned at a time"
        raise _problem("--from", str(source), rule, "give a file with one of them")
    return made.text, tuple(str(problem) for problem in (*made.notes.lost, *made.notes.differs))


def _of(case: Case, text: str, source: Path, said: tuple[str, ...]) -> Baseline:
    """Return a start from a text that was made. What is wrong is told of the manifest that it was made of."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "workload.yaml"
        file.write_text(text, encoding="utf-8")
        try:
            workload = load_workload(file)
            return Baseline(
                _telling(case, workload).under(workload, str(file)), text, str(source), remarks=said, imported=True
            )
        except ConfigError as e:
            named = f"the workload made of {source}"
            raise ConfigError([dataclasses.replace(p, file=named) for p in e.problems]) from e


def _telling(case: Case, workload: Workload) -> Case:
    """Return the case with the names that an import gave to engines' metrics, as what the simulator has of these."""
    asked = [source.get("queries") or {} for source in workload.document["sources"].values()]
    found = {name: what for queries in asked for name, query in queries.items() if (what := _quantity(str(query)))}
    names = {**found, **case.scenario.quantities}
    return dataclasses.replace(case, scenario=dataclasses.replace(case.scenario, quantities=names))


def _quantity(query: str) -> str | None:
    """Return the engine quantity that a query reads: a total or its mean per replica; None for anything else."""
    plain = LABELS.sub("", query).strip()  # in a simulated world there are no others to be told from
    mean = MEAN.fullmatch(plain)
    read = recognize(f"sum({mean[1]})" if mean else plain)
    if read is None or len(read.quantities) != 1 or read.divisor != 1 or (mean and read.across != "sum"):
        return None
    name = read.quantities[0] + (PER_REPLICA if mean else "")
    return name if name in QUANTITIES else None


def _text(file: Path) -> str:
    try:
        return read_text(file)
    except Unreadable as e:
        raise _problem("--from", str(file), e.rule, e.hint) from e


def _problem(option: str, value: str, rule: str, hint: str = "") -> ConfigError:
    return ConfigError([Problem(COMMAND_LINE, 1, option, value, rule, hint)])
