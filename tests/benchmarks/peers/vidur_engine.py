"""Vidur, run by a separate Python: it depends on a hundred packages, so it is not among our dependencies."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.benchmarks.peers.outcome import Outcome, outcome_of
from tests.benchmarks.traffic import Load

PYTHON: Final = "VIDUR_PYTHON"
"""The variable with the path: `python3 -m venv v && v/bin/pip install vidur`, then VIDUR_PYTHON=v/bin/python."""


def run(model: ServiceModel, replicas: int, load: Load) -> Outcome | None:
    """Return Vidur's outcome, or None if the variable is not set."""
    python = os.environ.get(PYTHON)
    if not python:
        return None
    request = {
        "model": dataclasses.asdict(model),
        "replicas": replicas,
        "arrival_s": (load.arrival_ps / PS_PER_S).tolist(),
        "prompt": load.prompt.tolist(),
        "output": load.output.tolist(),
    }
    with tempfile.TemporaryDirectory() as folder:
        result_file = Path(folder) / "found.json"
        script = str(Path(__file__).with_name("vidur_script.py"))
        environment = {**os.environ, "PYTHONPATH": "", "WANDB_MODE": "disabled"}
        subprocess.run(
            [python, script, str(result_file)],
            input=json.dumps(request).encode(),
            env=environment,
            stdout=subprocess.DEVNULL,
            check=True,
        )
        output = json.loads(result_file.read_text())
    return outcome_of(output["taken_s"], output["rows"])
