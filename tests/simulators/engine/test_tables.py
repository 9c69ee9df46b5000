"""Only the engine package reads the kernel's column layout."""

from __future__ import annotations

import re
from pathlib import Path

SIMULATORS = Path(__file__).parents[3] / "simulators"
LAYOUT = re.compile(
    r"kernel\.(layout|totals) import|kernel import .*\b(layout|totals)\b|\bkernel\.(times|counts|replicas|world)\b"
)


def test_only_the_engine_package_uses_the_column_layout() -> None:
    outside = [path for path in SIMULATORS.rglob("*.py") if "engine" not in path.relative_to(SIMULATORS).parts]
    assert len(outside) > 100
    assert [str(path) for path in outside if LAYOUT.search(path.read_text())] == []
