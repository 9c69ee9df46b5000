"""`forescale approve`: the file of the workload has the approval, and only a plan that it states."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scaler.cli import main
from scaler.config.kinds.bedrock_pools import BedrockProvisioned
from scaler.config.load import load

EXAMPLE = Path(__file__).parents[2] / "config" / "workloads" / "aws-bedrock-provisioned.yaml"
POOL = "claude-chat/claude"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    shutil.copy(EXAMPLE, tmp_path / "claude.yaml")
    (tmp_path / "daemon.yaml").write_text("daemon: {}\n", encoding="utf-8")
    return tmp_path / "claude.yaml"


def plan_id(file: Path) -> str:
    (workload,) = load([file]).workloads.values()
    spec = workload.spec.pools[next(iter(workload.spec.pools))]
    assert isinstance(spec, BedrockProvisioned)
    return spec.plan_id("claude-chat", "claude")


def test_an_approval_is_written_and_the_comments_stay(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted, before = plan_id(file), file.read_text()
    assert main(["approve", POOL, wanted, str(file.parent)]) == 0
    assert f"{file}: approved plan {wanted} (2 units of anthropic.claude" in capsys.readouterr().out
    assert file.read_text() == before.replace("approve: null ", f'approve: "{wanted}" ')
    (workload,) = load([file.parent]).workloads.values()
    assert workload.document["pools"]["claude"]["approve"] == wanted, "the journal records it with the document"
    assert main(["approve", POOL, wanted, str(file)]) == 0
    assert "was approved before" in capsys.readouterr().out


def test_another_plan_than_the_files_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted, before = plan_id(file), file.read_text()
    file.write_text(before.replace("39.6", "3.96"))
    assert main(["approve", POOL, wanted, str(file)]) == 2
    error = capsys.readouterr().err
    assert f"PLAN_ID: '{wanted}' is not the plan of {POOL}. The file states plan {plan_id(file)} (2 units" in error
    assert "approve: null" in file.read_text()


def test_a_pool_without_a_plan_is_refused(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["approve", "claude-chat/cloude", "0" * 12, str(file)]) == 2
    assert "'claude-chat/cloude' has no plan; did you mean 'claude-chat/claude'?" in capsys.readouterr().err


def test_a_file_that_cannot_be_changed_is_reported_with_the_remedy(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (
        file.read_text()
        .replace("approve: null ", "approve: *none ")
        .replace("term: month", "term: month\n    zone: &none null")
    )
    file.write_text(text)
    wanted = plan_id(file)
    assert main(["approve", POOL, wanted, str(file)]) == 2
    assert f'pools.claude.approve cannot be changed alone, as an anchor shares it. Set it to "{wanted}" by hand' in (
        capsys.readouterr().err
    )
    assert file.read_text() == text
