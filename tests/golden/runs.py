"""Shipped scenarios, cut short, as whole runs of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from simulators.experiments.scenario import Case, load

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "config" / "scenarios"


def shortened(name: str, folder: Path, duration_s: float, **changes: Any) -> Path:
    """Write a shipped scenario with a shorter duration to its own file."""
    scenario = yaml.safe_load((SCENARIOS / f"{name}.yaml").read_text(encoding="utf-8"))
    scenario["workload"] = str(SCENARIOS / scenario["workload"])
    scenario.setdefault("settle_s", 60.0)
    scenario |= {"duration_s": duration_s, **changes}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(scenario), encoding="utf-8")
    return path


def short(name: str, folder: Path, duration_s: float, **changes: Any) -> Case:
    return load(shortened(name, folder, duration_s, **changes))


def forescale(*arguments: object, hash_seed: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process."""
    script = "import sys; from scaler.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def journal_bytes(folder: Path) -> bytes:
    return b"".join(f.read_bytes() for f in sorted(folder.glob("*.jsonl")))
