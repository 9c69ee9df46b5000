"""Cost of loading: its work must not grow faster than the number of errors or workloads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scaler.config.load import load
from scaler.config.problems import ConfigError
from scaler.config.schema import annotations_of, json_schema_of
from tests.scaler.config.test_config import GOOD

ROOT = Path(__file__).parents[3]
MANY = 10_000
CPU_S = 30.0
"""Maximum processor time of a load of `MANY` workloads. On an idle core it takes about 5 s. Seconds."""
WORKLOAD = """\
workload: llm-{i}
max_replicas: 8
sources:
  queue: {{kind: sqs, queue_url: 'https://sqs.us-east-1.amazonaws.com/123456789012/prompts-{i}'}}
policies:
  depth: {{kind: queue_depth}}
pools:
  gpus: {{kind: kubernetes, name: llm-{i}}}
"""
TIMED = """\
import sys, time
from pathlib import Path
from scaler.config.load import load
load([Path("config/example")])
begun = time.process_time()
print(len(load([Path(sys.argv[1])]).workloads), time.process_time() - begun)
"""


@pytest.mark.parametrize("below", ["", "  gpus: {kind: embedded}\n  more:\n    kind: asg\n    group: g\n"])
def test_thousand_unknown_keys_build_one_schema(tmp_path: Path, below: str) -> None:
    indent = "    " if below else ""
    keys = "".join(f"{indent}unknown_{i}: 1\n" for i in range(1000))
    (tmp_path / "w.yaml").write_text(
        GOOD.replace("  gpus: {kind: embedded}\n", below or "  gpus: {kind: embedded}\n") + keys
    )
    before = json_schema_of.cache_info().misses
    with pytest.raises(ConfigError) as caught:
        load([tmp_path])
    assert len(caught.value.problems) == 1000
    assert json_schema_of.cache_info().misses - before <= 1


def test_annotations_are_read_once_for_any_number_of_workloads(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(WORKLOAD.format(i=0))
    load([tmp_path])
    before = annotations_of.cache_info().misses
    (tmp_path / "b.yaml").write_text("---\n".join(WORKLOAD.format(i=i) for i in range(1, 200)))
    assert len(load([tmp_path]).workloads) == 200
    assert annotations_of.cache_info().misses == before


def test_workloads_share_the_default_of_an_omitted_setting(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("---\n".join(WORKLOAD.format(i=i) for i in range(2)))
    one, other = (w.spec for w in load([tmp_path]).workloads.values())
    assert one.scale_down is other.scale_down
    assert one.pools["gpus"] is not other.pools["gpus"]  # type: ignore[index]


def test_loading_stops_after_the_problem_limit(tmp_path: Path) -> None:
    for i in range(20):
        (tmp_path / f"{i:02}.yaml").write_text("".join(f"unknown_{k}: 1\n" for k in range(500)))
    with pytest.raises(ConfigError, match="is not read: there are more than 1000 problems") as caught:
        load([tmp_path])
    assert len(caught.value.problems) < 3000


@pytest.mark.slow
@pytest.mark.parametrize("files", [1, MANY])
def test_ten_thousand_workloads_load_in_seconds(tmp_path: Path, files: int) -> None:
    for start in range(0, MANY, MANY // files):
        texts = [WORKLOAD.format(i=i) for i in range(start, start + MANY // files)]
        (tmp_path / f"{start}.yaml").write_text("---\n".join(texts))
    result = subprocess.run(
        [sys.executable, "-c", TIMED, str(tmp_path)],
        capture_output=True, text=True, check=True, cwd=ROOT, timeout=600,
    )  # fmt: skip
    count, cpu_s = result.stdout.split()
    assert int(count) == MANY
    assert float(cpu_s) < CPU_S, f"{cpu_s} s of processor time"
