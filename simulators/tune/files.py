"""Output files of a search.

They are a policy file for each point, the recommended one, the page, and all figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from simulators.commands.shared_options import write_json
from simulators.tune import policy, text
from simulators.tune.baseline import Baseline
from simulators.tune.page import page
from simulators.tune.result import TuneResult
from simulators.tune.space import Space
from simulators.world.traffic.writers import replacing

RECOMMENDED: Final = "recommended.yaml"
REPORT: Final = "report.html"
RESULT: Final = "result.json"
POINT_FILE: Final = "point-{}.yaml"


def write(folder: Path, result: TuneResult, baseline: Baseline, space: Space) -> list[Path]:
    """Write all files and return their paths. Policy files of an earlier search are removed.

    Raises `ConfigError` if the daemon would reject a point's file, `TraceError` if it cannot be written.
    """
    written = list(_policies(folder, result, baseline, space))
    for stale in (folder / RECOMMENDED, *folder.glob(POINT_FILE.format("*"))):
        if stale not in written:
            stale.unlink(missing_ok=True)
    with replacing(folder / REPORT) as file:
        file.write(page(result, space).encode())
    write_json(result.as_dict(), folder / RESULT)
    return [*written, folder / REPORT, folder / RESULT]


def _policies(folder: Path, result: TuneResult, baseline: Baseline, space: Space) -> Iterator[Path]:
    for number, point in enumerate(result.points, 1):
        names = [POINT_FILE.format(number)]
        if result.recommended is not None and result.recommended.trial.number == point.number:
            names.append(RECOMMENDED)
        for name in names:
            policy.write(folder / name, baseline, point.settings, space, list(text.head(result, point)))
            yield folder / name
