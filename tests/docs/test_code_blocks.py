"""Every code block of README and docs runs: configurations load, and commands succeed.

HTML comments before a block say how. A reader of the site does not see them:

- ``<!-- file: chat.yaml -->``: the block is this file. It is written into the folder in which the page's commands run.
- ``<!-- needs: journal, trace as monday.csv.gz -->``: the reader has these. Fixtures of this module make them.
- ``<!-- not run: needs an AWS account -->``: no machine can run the block, for this reason.

The commands of a page run in order in one folder, which is also their home: they find no credentials. A daemon that
would run until Ctrl-C runs for `DAEMON_S`, on a free port and without writes. A search has the budget `BUDGET`, a
comparison one replication in one process, and the traffic of a shipped scenario `SHARE` of its duration.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import jsonschema
import pytest
import yaml

from scaler.config.load import load
from simulators.cost import inputs
from simulators.engine.models import catalogue
from simulators.experiments import scenario
from simulators.experiments.spec_loader import read_file
from simulators.provisioned import offers as provisioned
from simulators.tune.space import space_of
from simulators.world.traffic.generate import GENERATORS
from tests.servers import control_plane
from tests.simulators.engine.models.makers import open_run, write_runs
from tests.simulators.provisioned.inputs import write_csv

ROOT: Final = Path(__file__).parents[2]
SCENARIOS: Final = ROOT / "config/scenarios"
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK: Final = re.compile(r"((?:^ *<!-- [^\n]* -->\n)*)^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
COMMENT: Final = re.compile(r"<!-- (file|needs|not run): (.+) -->")
VALUES: Final = json.loads((ROOT / "config/deploy/helm/forescale/values.schema.json").read_text())
"""Schema of the Helm chart's values. tests/deploy renders those of its guide."""
SHOWN: Final = {"", "text", "promql", "sql"}
"""Languages of shown output, and of statements that other tests execute."""
TIMEOUT_S: Final = 600.0
DAEMON_S: Final = 3
BUDGET: Final = "6-trials"
SHARE: Final = 1 / 8
TRACE_S: Final = 1800
"""Duration of the traces that pages generate."""
DAEMON_FILE: Final = ".daemon.yaml"
BASE: Final[Mapping[str, Any]] = {
    "workload": "chat",
    "max_replicas": 20,
    "sources": {
        "queue": {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"},
        "engines": {
            "kind": "prometheus",
            "url": "http://prometheus:9090",
            "preset": "vllm",
            "window_s": 60,
            "read": ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"],
        },
    },
    "policies": {"size": {"kind": "static", "replicas": 2}},
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "namespace": "llm", "price_usd_per_hour": 6.88}},
}
"""A workload whose keys a fragment of a configuration replaces."""
SCALED_OBJECT: Final = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat, namespace: llm}
spec:
  scaleTargetRef: {name: vllm-chat}
  maxReplicaCount: 20
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus.monitoring:9090
        query: sum(vllm:num_requests_running{namespace="llm"})
        threshold: "40"
"""


class Block(NamedTuple):
    """A code block and the comments before it; `reason` is why it is not run."""

    language: str
    text: str
    reason: str = ""
    file: str = ""
    needs: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    for comments, indent, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        parts = {word.replace("not run", "reason"): value for word, value in COMMENT.findall(comments)}
        assert len(parts) == comments.count("<!--"), f"{page}: unknown or repeated comment:\n{comments}"
        yield Block(language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE), **parts)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page)):
        if block.language == "yaml" and not block.reason:
            folder, documents = tmp_path / str(number), list(yaml.safe_load_all(block.text))
            folder.mkdir()
            if len(documents) > 1 and all("workload" in document for document in documents):
                (folder / "workloads.yaml").write_text(block.text)
                load([folder])
                continue
            for document in documents:
                load_configuration(document, folder)


def load_configuration(document: Mapping[str, Any], folder: Path) -> None:
    """Load a document, or a fragment of one, with the loader of the command that reads it."""
    file = folder / ("daemon.yaml" if "daemon" in document else "workload.yaml")
    file.write_text(json.dumps(document))
    if document.keys() <= VALUES["properties"].keys() and document.keys() != {"daemon"}:
        jsonschema.validate(document, VALUES)
    elif "scenario" in document:
        for shipped in SCENARIOS.iterdir():
            (folder / shipped.name).symlink_to(shipped)
        file.write_text(json.dumps({**yaml.safe_load((SCENARIOS / "chat.yaml").read_text()), **document}))
        scenario.load(file)
    elif "offers" in document:
        inputs.load(file)
    elif "throughput" in document:
        provisioned.load(file)
    elif "search" in document:
        space_of(scenario.load(SCENARIOS / "trace.yaml"), file)
    elif "kind" in document and "apiVersion" not in document:
        read_file(GENERATORS, file)
    elif "daemon" in document:
        (folder / "workload.yaml").write_text(json.dumps(BASE))
        load([folder])
    elif "apiVersion" not in document:  # a manifest is read by `kubectl` or `forescale import` below
        file.write_text(json.dumps(whole(document)))
        load([folder])


def whole(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a fragment of a workload with the missing keys and pools."""
    pools = document.get("pools", BASE["pools"])
    serving = {name: {**BASE["pools"]["gpus"], "lead_time_s": 600} for p in pools.values() if (name := p.get("serves"))}
    return {**BASE, **document, "pools": {**serving, **pools}}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_succeed(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    furnish(tmp_path)
    for block in blocks(page):
        for need in filter(None, block.needs.split(", ")):
            fixture, _, name = need.partition(" as ")
            copy(request.getfixturevalue(fixture), tmp_path, name)
        if block.file:
            file = tmp_path / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        elif block.language == "console" and not block.reason:
            for command in commands(block.text):
                execute(command, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_have_a_language_that_is_tested_or_shown(page: Path) -> None:
    """A block is a configuration, commands with prompts, Python, or shown output."""
    for block in blocks(page):
        assert block.language in {"yaml", "console", "python", "json", "diff", "toml"} | SHOWN, block
        if block.language == "console":
            assert block.text.startswith("$ "), block


def furnish(folder: Path) -> None:
    """Make a folder like the root of a checkout with an installed environment."""
    link_all(ROOT / "config", folder / "config")
    for file in SCENARIOS.glob("*.yaml"):
        text = re.sub(r"\b(duration_s|at_s): (\d+)", lambda m: f"{m[1]}: {int(m[2]) * SHARE:g}", file.read_text())
        (folder / "config/scenarios" / file.name).write_text(text)
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / DAEMON_FILE).write_text(json.dumps({"daemon": {"listen": "127.0.0.1:0"}}))


def link_all(source: Path, folder: Path) -> None:
    """Make a folder with links to the entries of `source`, except its scenarios, which are a folder for themselves."""
    folder.mkdir()
    for entry in source.iterdir():
        if entry == SCENARIOS:
            link_all(entry, folder / entry.name)
        elif entry.parent != SCENARIOS or entry.is_dir():
            (folder / entry.name).symlink_to(entry)


def copy(made: Path, folder: Path, name: str) -> None:
    to = folder / (name or made.name)
    if made.is_dir():
        shutil.copytree(made, to, dirs_exist_ok=True)
    else:
        shutil.copy(made, to)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a block: the lines with a prompt and their continuations."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield line.removeprefix("$ ").split(" #")[0].strip()


def execute(command: str, folder: Path) -> None:
    """Run a command; it succeeds."""
    words = shlex.split(command)
    if words[0] == "make":  # CI runs the targets
        command += f" --dry-run -C {ROOT}"
    command = re.sub(r"--budget \S+", f"--budget {BUDGET}", command)
    command = re.sub(r"--replications \S+", "--replications 1", command)
    command = re.sub(r"\bforescale compare\b", "forescale compare --jobs 1", command)
    command = re.sub(r"\bduration_s=\d+", f"duration_s={TRACE_S}", command)
    if words[:2] == ["forescale", "run"] and not {"--for", "--once"} & set(words):
        command = command.replace("run", f"run --for {DAEMON_S} --dry-run {DAEMON_FILE}", 1)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "KUBECONFIG": str(folder / "kubeconfig"),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    argv = ["bash", "-c", command]
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which the fixtures below are made."""
    folder = tmp_path_factory.mktemp("workshop")
    furnish(folder)
    return folder


@pytest.fixture(scope="session")
def workload() -> Path:
    """Return a workload file: that of the quickstart."""
    return ROOT / "config/quickstart/chat.yaml"


@pytest.fixture(scope="session")
def journal(workshop: Path) -> Path:
    """Return a journal of twelve minutes: the quickstart for 12 s."""
    daemon = yaml.safe_load((ROOT / "config/quickstart/daemon.yaml").read_text())
    daemon["daemon"]["listen"] = "127.0.0.1:0"
    (workshop / "daemon.yaml").write_text(json.dumps(daemon))
    workloads = "config/quickstart/chat.yaml config/quickstart/summaries.yaml"
    execute(f"forescale run daemon.yaml {workloads} --for 12", workshop)
    return workshop / "journal"


@pytest.fixture(scope="session")
def trace(workshop: Path) -> Path:
    """Return a trace of half an hour."""
    execute(f"forescale trace generate poisson rps=5 duration_s={TRACE_S} --out trace.csv.gz", workshop)
    return workshop / "trace.csv.gz"


@pytest.fixture(scope="session")
def tokens(workshop: Path) -> Path:
    """Return two weeks of tokens per minute in hourly rows."""
    return write_csv(workshop)


@pytest.fixture(scope="session")
def log(workshop: Path) -> Path:
    """Return a log of requests with columns of its own: milliseconds, and tokens in and out."""
    rows = [f"{25 * i},{500 + i % 1000},{100 + i % 300}" for i in range(40_000)]
    (workshop / "log.csv").write_text("\n".join(["ts,in,out", *rows]) + "\n")
    return workshop / "log.csv"


@pytest.fixture(scope="session")
def runs(workshop: Path) -> Path:
    """Return a folder of recorded runs of an engine: one short run that the simulator made."""
    folder = workshop / "runs"
    folder.mkdir()
    write_runs({"log": open_run(catalogue.load("llama-3.1-8b-h100-vllm"), "log", 5, 80, seed=8)}, folder)
    return folder


@pytest.fixture(scope="session")
def manifest(workshop: Path) -> Path:
    """Return a manifest of a ScaledObject."""
    (workshop / "manifest.yaml").write_text(SCALED_OBJECT)
    return workshop / "manifest.yaml"


@pytest.fixture(scope="session")
def cluster(workshop: Path, manifest: Path) -> Iterator[Path]:
    """Yield the kubeconfig of a real control plane with a ScaledObject in the namespace `llm`."""
    reason = control_plane.why_not() or ("" if shutil.which("kubectl") else "no kubectl on the PATH")
    if reason:
        pytest.skip(reason)
    with control_plane.started() as plane:
        shutil.copy(plane.kubeconfig, workshop / "kubeconfig")
        kinds = map(custom_kind, ("ScaledObject", "TriggerAuthentication"))
        (workshop / "kinds.yaml").write_text(yaml.safe_dump_all(kinds))
        execute("kubectl apply -f kinds.yaml", workshop)
        execute("kubectl wait --for condition=established crd --all", workshop)
        execute("kubectl create namespace llm", workshop)
        execute(f"kubectl apply -f {manifest}", workshop)
        yield workshop / "kubeconfig"


def custom_kind(kind: str) -> Mapping[str, Any]:
    """Return the definition of one of KEDA's kinds, without a schema."""
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": schema}
    names = {"plural": f"{kind.lower()}s", "singular": kind.lower(), "kind": kind}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.keda.sh"},
        "spec": {"group": "keda.sh", "scope": "Namespaced", "names": names, "versions": [version]},
    }
