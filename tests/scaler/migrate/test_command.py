"""``forescale import`` as users run it, up to the first tick of the imported workload."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.cli import main
from scaler.config.load import load
from tests.patience import PATIENCE_S
from tests.scaler.migrate.importing import HPA, KEDA, MANIFESTS, SERVER, changed
from tests.servers.kube_fake import kube_fake, write_kubeconfig
from tests.servers.prometheus import needs_prometheus, prometheus

ROOT = Path(__file__).parents[3]


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main([str(a) for a in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def write_manifests(folder: Path, *manifests: Mapping[str, Any]) -> Path:
    file = folder / "manifests.yaml"
    file.write_text(yaml.safe_dump_all(manifests))
    return file


def test_import_prints_workloads_that_pass_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "import", MANIFESTS / "hpa-vllm.yaml", "--prometheus", SERVER)
    assert code == 0
    assert "Works differently:" in err
    (tmp_path / "made.yaml").write_text(out)
    code, out, _ = run(capsys, "check", tmp_path / "made.yaml")
    assert (code, out.splitlines()[0]) == (0, "vllm-llama: 2 to 12 replicas, a tick every 15 s")


def test_import_writes_a_manifest_folder_to_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workload_file = tmp_path / "made.yaml"
    code, out, err = run(capsys, "import", MANIFESTS, "--prometheus", SERVER, "--out", workload_file)
    assert (code, out) == (1, ""), "one manifest has an unsupported nats-jetstream trigger"
    next_step = f"Next: forescale check {workload_file}, then forescale run --dry-run {workload_file}"
    assert err.endswith(
        f"To accept what is not carried over: --skip nats-jetstream\n5 of 5 autoscalers imported.\n{next_step}\n"
    )
    assert "Not carried over:" in err
    assert sorted(load([workload_file]).workloads) == ["embedder", "gemma-server", "llm-workers", "vllm", "vllm-llama"]


def test_json_output_equals_the_yaml_output(capsys: pytest.CaptureFixture[str]) -> None:
    file = MANIFESTS / "keda-sqs.yaml"
    report = json.loads(run(capsys, "import", file, "--json")[1])
    text = run(capsys, "import", file)[1]
    assert report["workloads"] == list(yaml.safe_load_all(text))
    assert report["not_carried_over"] == []
    assert {p["path"] for p in report["done_another_way"]} >= {"spec.fallback", "spec.pollingInterval"}


def test_workloads_of_one_name_get_their_namespace_as_prefix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_manifests(tmp_path, HPA, changed(HPA, metadata__namespace="other"))
    report = json.loads(run(capsys, "import", file, "--prometheus", SERVER, "--json")[1])
    assert [w["workload"] for w in report["workloads"]] == ["llm-vllm", "other-vllm"]


@pytest.mark.parametrize(
    ("args", "rule"),
    [
        (["--prometheus", "prometheus:9090"], "must be an http or https URL"),
        (["--prometheus", "http://me:secret@p"], "must be an http or https URL"),
        (["--out", "{folder}/manifests.yaml"], "already exists, and a daemon may be running it"),
        (["--out", "{folder}/none/made.yaml"], "its directory does not exist"),
        (["--out", "{folder}/manifests.yaml/"], "cannot be written: File exists"),
    ],
)
def test_invalid_arguments_are_reported_and_write_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], rule: str
) -> None:
    file = write_manifests(tmp_path, KEDA)
    before = file.read_text()
    code, out, err = run(capsys, "import", file, *(a.format(folder=tmp_path) for a in args))
    assert (code, out) == (2, "")
    assert rule in err
    assert file.read_text() == before
    assert list(tmp_path.iterdir()) == [file]


def test_invalid_workload_is_reported_before_the_file_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_manifests(tmp_path, changed(HPA, spec__maxReplicas=1_000_000))
    code, out, err = run(capsys, "import", file, "--prometheus", SERVER, "--out", tmp_path / "made.yaml")
    assert (code, out) == (2, "")
    assert "the generated workload" in err
    assert "max_replicas" in err
    assert not (tmp_path / "made.yaml").exists()


async def forescale(*args: str | Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    """Run the command line in a separate process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scaler.cli", *map(str, args)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
    )
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


@pytest.mark.slow
@needs_prometheus
async def test_imported_scaled_object_runs_its_first_tick(tmp_path: Path) -> None:
    trigger = {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {"query": "sum(vector(17))", "threshold": "5"},
    }
    async with prometheus([]) as server, kube_fake() as kube:
        await kube.put("deployments", "workers", {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}}, "llm")
        trigger["metadata"]["serverAddress"] = server.url  # type: ignore[index]
        file = write_manifests(tmp_path, changed(KEDA, spec__triggers=[trigger]))
        workload_file, journal = tmp_path / "made.yaml", tmp_path / "journal"
        env = {"KUBECONFIG": str(write_kubeconfig(tmp_path / "kubeconfig", kube.port))}
        code, _, err = await forescale("import", file, "--out", workload_file, env=env)
        assert code == 0, err
        assert (await forescale("check", workload_file, env=env))[0] == 0
        workload_file.write_text(f"daemon: {{journal: {{directory: {journal}}}}}\n---\n" + workload_file.read_text())
        code, out, err = await forescale("run", workload_file, "--once", "--dry-run", env=env)
        assert code == 0, err
        assert "2 -> 4 replicas" in out, f"17 at 5 per replica need 4: {out} {err}"
        assert kube.get("deployments", "workers", "llm")["spec"]["replicas"] == 2, "a dry run writes nothing"
