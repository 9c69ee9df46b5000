"""Vidur, if a Python that has it is named: it brings a hundred packages, so that it is no dependency of ours."""

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
"""The variable that names it: `python3 -m venv v && v/bin/pip install vidur`, then VIDUR_PYTHON=v/bin/python."""


def run(model: ServiceModel, replicas: int, load: Load) -> Outcome | None:
    """None if no Python with Vidur is named."""
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
        answer = json.loads(result_file.read_text())
    return outcome_of(answer["taken_s"], answer["rows"])
