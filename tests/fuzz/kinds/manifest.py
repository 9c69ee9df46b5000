"""Import of Kubernetes manifests of other autoscalers: the only exception is `ConfigError`."""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from scaler.cli import main
from scaler.config.problems import ConfigError
from scaler.migrate.manifests import read
from tests.fuzz.kinds.config import CPU_S, TOKENS, readable
from tests.fuzz.mutate import text, tree
from tests.fuzz.rng import Rng
from tests.fuzz.sequences.guard import bounded
from tests.scaler.migrate.importing import HPA, KEDA, SQS

SERVER: Final = "http://prometheus:9090"
FOLDER: Final = Path(__file__).parents[2] / "scaler" / "migrate" / "manifests"


def _documents(rng: Rng) -> list[Any]:
    files = sorted(FOLDER.glob("**/*.yaml"))
    if rng.happens(0.6):
        return list(yaml.safe_load_all(rng.choice(files).read_text()))
    keda = {**KEDA, "spec": {**KEDA["spec"], "triggers": [SQS]}}
    return rng.subset([HPA, keda, {"kind": "List", "items": [HPA, keda]}], 2)


def mutated(rng: Rng) -> bytes:
    documents = [tree(rng, document) for document in _documents(rng)]
    data = yaml.safe_dump_all(documents, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass")
    return text(rng, data, TOKENS) if rng.happens(0.3) else data


def check(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifests.yaml"
        path.write_bytes(data)
        for native in (False, True):
            try:
                with bounded(cpu_s=CPU_S):
                    read([path], SERVER, native_policies=native)
            except ConfigError as e:
                if wrong := next((wrong for problem in e.problems if (wrong := readable(problem))), ""):
                    return wrong
        output = Path(folder) / "made.yaml"
        with contextlib.redirect_stderr(io.StringIO()):
            code = main(["import", str(path), "--prometheus", SERVER, "--out", str(output)])
        return "" if code in {0, 1, 2} else f"exit code {code}"
