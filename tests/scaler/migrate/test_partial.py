"""Manifests that can be imported in part: what is written, what is listed, and what the user accepts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.cli import main
from scaler.config.load import load
from tests.scaler.migrate.importing import HPA, KEDA, SQS, changed

NATS = {
    "type": "nats-jetstream",
    "metadata": {"natsServerMonitoringEndpoint": "nats:8222", "stream": "prompts", "password": "hunter2-xyz"},
}
CRON = {
    "type": "cron",
    "metadata": {"timezone": "Europe/Berlin", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "3"},
}


def scaled_object(name: str, *triggers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    named = {"metadata__name": name, "spec__scaleTargetRef__name": name, "spec__triggers": list(triggers)}
    return changed(KEDA, **{**named, **changes})


CHAT, EVENTS, NIGHT = scaled_object("chat", SQS), scaled_object("events", NATS), scaled_object("night", CRON)


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that imports documents into a directory: exit code, names of files, and stderr."""

    def run(documents: list[Any], *options: str) -> tuple[int, list[str], str]:
        manifest, out = tmp_path / "today.yaml", tmp_path / "out"
        manifest.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        code = main(["import", str(manifest), "--out", f"{out}/", *options])
        return code, sorted(p.name for p in out.iterdir()) if out.exists() else [], capsys.readouterr().err

    return run


def test_unsupported_trigger_leaves_the_other_autoscalers_importable(imported: Any, tmp_path: Path) -> None:
    code, files, err = imported([CHAT, EVENTS, NIGHT])
    assert (code, files) == (1, ["chat.yaml", "night.yaml"])
    assert (
        f"{tmp_path}/today.yaml:25: spec.triggers[0].type: 'nats-jetstream' is not a supported trigger (export it to"
        in err
    )
    assert "no workload is made of it" in err
    assert "--skip nats-jetstream" in err
    assert "2 of 3 autoscalers imported." in err
    assert f"Next: forescale check {tmp_path}/out/, then forescale run --dry-run {tmp_path}/out/" in err
    assert sorted(load([tmp_path / "out"]).workloads) == ["chat", "night"]


def test_supported_trigger_next_to_an_unsupported_one_is_imported(imported: Any, tmp_path: Path) -> None:
    code, files, _ = imported([scaled_object("chat", SQS, NATS)])
    assert (code, files) == (1, ["chat.yaml"])
    assert "NOT CARRIED OVER: spec.triggers[1].type" in (tmp_path / "out/chat.yaml").read_text()


@pytest.mark.parametrize(
    ("documents", "skip"),
    [
        ([CHAT, EVENTS], ["nats-jetstream"]),
        ([CHAT, EVENTS], ["events"]),
        ([CHAT, EVENTS], ["llm/events"]),
        ([scaled_object("chat", SQS, NATS)], ["nats-jetstream"]),
        ([changed(CHAT, spec__wat=1)], ["wat"]),
        ([changed(CHAT, spec__advanced={"scalingModifiers": {"formula": "a"}})], ["formula"]),
        ([CHAT, {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledJob", "metadata": {"name": "j"}}], ["ScaledJob"]),
        ([CHAT, scaled_object("events", NATS, {"type": "activemq", "metadata": {}})], ["nats-jetstream", "activemq"]),
        ([CHAT, changed(CHAT, metadata__name="second")], ["llm/second"]),
        ([CHAT, changed(NIGHT, spec__minReplicaCount=-1)], ["night"]),
        ([CHAT, {**HPA, "metadata": {"name": "own", "labels": {"scaledobject.keda.sh/name": "gone"}}}], ["own"]),
    ],
    ids=[
        "trigger type", "object", "object with namespace", "one of two triggers", "unknown key", "formula", "ScaledJob",
        "all types of an object", "one of two on a target", "invalid object",
        "an HPA of KEDA",
    ],
)  # fmt: skip
def test_skip_accepts_an_omission_by_its_name(imported: Any, documents: list[Any], skip: list[str]) -> None:
    code, files, _ = imported(documents, "--strict")
    assert code != 0
    assert files == []
    code, files, err = imported(documents, "--strict", *(word for name in skip for word in ("--skip", name)))
    assert (code, files) == (0, ["chat.yaml"])
    assert "Left out, as accepted by --skip:" in err
    assert "Not carried over" not in err


def test_trigger_type_next_to_a_supported_one_has_both_remedies(imported: Any) -> None:
    _, _, err = imported([scaled_object("chat", SQS, {"type": "artemis-queue", "metadata": {}})])
    assert "(did you mean 'aws-sqs-queue'? Otherwise export it to Prometheus" in err


def test_one_of_two_names_accepts_no_object_with_both(imported: Any) -> None:
    documents = [CHAT, scaled_object("events", NATS, {"type": "activemq", "metadata": {}})]
    code, _, err = imported(documents, "--skip", "nats-jetstream")
    assert code == 1
    assert "To accept what is not carried over: --skip activemq --skip nats-jetstream" in err


def test_skip_without_a_match_is_reported(imported: Any) -> None:
    code, _, err = imported([CHAT, EVENTS], "--skip", "nats-jetsteam")
    assert code == 1
    assert "--skip nats-jetsteam: nothing was left out under this name. did you mean 'nats-jetstream'?" in err


def test_skip_of_everything_is_an_error(imported: Any) -> None:
    code, files, err = imported([EVENTS], "--skip", "nats-jetstream")
    assert (code, files) == (2, [])
    assert "--skip: leaves nothing to import" in err


def test_strict_writes_nothing_unless_everything_is_imported(imported: Any) -> None:
    code, files, err = imported([CHAT, EVENTS], "--strict")
    assert (code, files) == (1, [])
    assert "1 of 2 autoscalers can be imported. Nothing is written because of --strict." in err
    assert imported([CHAT], "--strict")[:2] == (0, ["chat.yaml"])


def test_strict_prints_no_workload_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "today.yaml"
    manifest.write_text(yaml.safe_dump_all([CHAT, EVENTS]))
    assert main(["import", str(manifest), "--strict"]) == 1
    assert capsys.readouterr().out == ""


def test_invalid_autoscaler_leaves_the_others_importable(imported: Any, tmp_path: Path) -> None:
    code, files, err = imported([CHAT, changed(NIGHT, spec__minReplicaCount=-1)])
    assert (code, files) == (1, ["chat.yaml"])
    assert f"{tmp_path}/today.yaml:31: spec.minReplicaCount = -1: must be a whole number of at least 0" in err


def test_workload_that_no_daemon_would_load_leaves_the_others_importable(imported: Any, tmp_path: Path) -> None:
    code, files, err = imported([CHAT, changed(NIGHT, spec__maxReplicaCount=1_000_000)])
    assert (code, files) == (1, ["chat.yaml"])
    assert f"{tmp_path}/today.yaml:16: the generated workload is invalid: max_replicas = 1000000: " in err


@pytest.mark.parametrize("name", [..., "", 7, ["a"]], ids=["none", "empty", "number", "list"])
def test_object_without_a_name_is_not_imported(imported: Any, name: object) -> None:
    code, files, err = imported([CHAT, changed(NIGHT, metadata__name=name)])
    assert (code, files) == (1, ["chat.yaml"])
    assert "metadata.name" in err
    assert "a workload is named after its object" in err


def test_two_autoscalers_of_one_target_are_both_left_out(imported: Any) -> None:
    documents = [CHAT, changed(CHAT, metadata__name="second"), NIGHT]
    code, files, err = imported(documents)
    assert (code, files) == (1, ["night.yaml"])
    assert "each would overwrite the other's size; neither is imported" in err
    code, files, _ = imported(documents, "--skip", "llm/second", "--force")
    assert (code, files) == (0, ["chat.yaml", "night.yaml"])


def test_target_of_a_workload_in_the_same_directory_is_refused(imported: Any, tmp_path: Path) -> None:
    assert imported([CHAT])[:2] == (0, ["chat.yaml"])
    again = changed(CHAT, metadata__name="again")
    code, files, err = imported([again, NIGHT])
    assert (code, files) == (1, ["chat.yaml", "night.yaml"])
    assert f"resizes apps/Deployment llm/chat, and so does {tmp_path}/out/chat.yaml" in err


def test_existing_file_is_replaced_with_force_only(imported: Any, tmp_path: Path) -> None:
    assert imported([CHAT])[0] == 0
    file = tmp_path / "out/chat.yaml"
    before = file.read_text()
    changed_chat = changed(CHAT, spec__maxReplicaCount=7)
    code, files, err = imported([changed_chat, NIGHT])
    assert (code, files) == (2, ["chat.yaml"])
    assert "chat.yaml: already exists, and a daemon may be running it (choose a new file, or add --force" in err
    assert file.read_text() == before
    assert imported([changed_chat, NIGHT], "--force")[:2] == (0, ["chat.yaml", "night.yaml"])
    assert "max_replicas: 7" in file.read_text()


def test_json_output_lists_each_kind_of_finding(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = tmp_path / "today.yaml"
    manifest.write_text(yaml.safe_dump_all([CHAT, EVENTS, changed(NIGHT, metadata__name=...)]))
    assert main(["import", str(manifest), "--json", "--skip", "nats-jetstream"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [w["workload"] for w in report["workloads"]] == ["chat"]
    assert [p["path"] for p in report["not_imported"]] == ["metadata.name"]
    assert {tuple(p["names"]) for p in report["accepted"]} == {("nats-jetstream",)}
    assert report["not_carried_over"] == []


@pytest.mark.parametrize("option", [(), ("--native",), ("--skip", "nats-jetstream"), ("--json",)])
def test_no_output_contains_a_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    password = "hunter2-xyz"
    inline = changed(SQS, metadata__awsAccessKeyID="AKIA2XYZ7EXAMPLE9ABC", metadata__awsSecretAccessKey=password)
    documents = [
        scaled_object("chat", inline, NATS, {"type": password, "metadata": {}}),
        scaled_object("events", NATS),
        scaled_object("wrong", changed(SQS, metadata__queueLength=password, metadata__pasword=password)),
        changed(NIGHT, metadata__annotations={"kubectl.kubernetes.io/last-applied-configuration": password}),
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"password": password}},
        {
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "TriggerAuthentication",
            "metadata": {"name": "aws", "namespace": "llm"},
            "spec": {"secretTargetRef": [{"parameter": "password", "name": "s", "key": "password"}]},
        },
    ]
    manifest = tmp_path / "today.yaml"
    manifest.write_text(yaml.safe_dump_all(documents))
    code = main(["import", str(manifest), *option])
    output = "".join(capsys.readouterr())
    assert code == 1, output
    assert "workload" in output
    assert password not in output
    assert "AKIA2XYZ7EXAMPLE9ABC" not in output


VALUE_TYPE, LENGTH = changed(SQS, metadata__metricType="Value"), changed(SQS, queueLength="5")
MISPLACED: dict[str, tuple[dict[str, Any], str]] = {
    "metricType of a trigger": ({"spec__triggers": [VALUE_TYPE]}, "it belongs under spec.triggers[]"),
    "threshold outside metadata": ({"spec__triggers": [LENGTH]}, "it belongs under spec.triggers[].metadata"),
    "minReplicaCount at the top": ({"minReplicaCount": 1}, "it belongs under spec"),
    "behavior in spec": ({"spec__behavior": {}}, "it belongs under spec.advanced.horizontalPodAutoscalerConfig"),
    "a key of an HPA": ({"spec__minReplicas": 1}, "did you mean 'minReplicaCount'?"),
    "misspelled": ({"spec__cooldownPriod": 1}, "did you mean 'cooldownPeriod'?"),
    "misspelled elsewhere": ({"spec__failureTreshold": 1}, "did you mean 'failureThreshold' under spec.fallback?"),
    "unknown": ({"spec__zzz": 1}, "see docs/how-to/import.md"),
}


@pytest.mark.parametrize(("change", "hint"), MISPLACED.values(), ids=MISPLACED)
def test_unknown_key_is_pointed_to_its_level(imported: Any, change: dict[str, Any], hint: str) -> None:
    code, files, err = imported([changed(CHAT, **change)])
    assert (code, files) == (1, ["chat.yaml"])
    assert f"is not supported by the import ({hint})" in err


def test_missing_key_names_the_misspelled_one(imported: Any) -> None:
    misspelled = changed(HPA, spec__scaleTargetRef__name=..., spec__scaleTargetRef__nmae="vllm")
    code, _, err = imported([misspelled], "--prometheus", "http://prometheus:9090")
    assert code == 2
    assert "spec.scaleTargetRef.name: is required (rename nmae to name)" in err
