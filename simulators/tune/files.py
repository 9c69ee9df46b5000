"""What a search leaves in its folder: a policy file a point, the one to deploy, the page, and every figure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from simulators.commands.given import write_json
from simulators.tune import policy, text
from simulators.tune.baseline import Baseline
from simulators.tune.page import page
from simulators.tune.result import TuneResult
from simulators.tune.space import Space
from simulators.world.traffic.writers import replacing

RECOMMENDED: Final = "recommended.yaml"
REPORT: Final = "report.html"
FIGURES: Final = "result.json"
POINT: Final = "point-{}.yaml"


def write(folder: Path, result: TuneResult, begun: Baseline, space: Space) -> list[Path]:
    """Write all of it; the files written. What an earlier search left there and this one has not is removed.

    Raises `ConfigError` if a point's file would not be read by the daemon, `TraceError` if it cannot be written.
    """
    written = list(_policies(folder, result, begun, space))
    for old in (folder / RECOMMENDED, *folder.glob(POINT.format("*"))):
        if old not in written:
            old.unlink(missing_ok=True)
    with replacing(folder / REPORT) as file:
        file.write(page(result, space).encode())
    write_json(result.as_dict(), folder / FIGURES)
    return [*written, folder / REPORT, folder / FIGURES]


def _policies(folder: Path, result: TuneResult, begun: Baseline, space: Space) -> Iterator[Path]:
    for number, one in enumerate(result.points, 1):
        names = [POINT.format(number)]
        if result.dared is not None and result.dared.tried.number == one.number:
            names.append(RECOMMENDED)
        for name in names:
            policy.write(folder / name, begun, one.settings, space, list(text.head(result, one)))
            yield folder / name
