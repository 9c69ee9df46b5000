"""Manifests from standard input, pipes, several files and lists."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from scaler.cli import main
from tests.scaler.migrate.importing import KEDA, SQS, changed

OTHER = changed(KEDA, metadata__name="other", spec__scaleTargetRef__name="other")
Forescale = Callable[..., tuple[int, str, str]]


def written(data: bytes) -> int:
    """Return the reading end of a pipe into which a thread writes `data`."""
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(data)

    threading.Thread(target=write).start()
    return reading


@pytest.fixture
def forescale(capsys: pytest.CaptureFixture[str]) -> Iterator[Forescale]:
    """Run the command line with bytes on a pipe as the process's standard input."""
    before = os.dup(0)

    def run(*args: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
        pipe = written(stdin)
        os.dup2(pipe, 0)
        os.close(pipe)
        code = main([str(a) for a in args])
        while os.read(0, 2**20):
            pass  # the thread ends after its last byte
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    os.dup2(before, 0)
    os.close(before)


def names(text: str) -> list[str]:
    return [document["workload"] for document in yaml.safe_load_all(text)]


@pytest.mark.parametrize("argument", ["-", "/dev/stdin"])
@pytest.mark.parametrize(
    "data",
    [
        yaml.safe_dump_all([KEDA, OTHER]),
        yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [KEDA, OTHER], "metadata": {}}),
        json.dumps({"apiVersion": "v1", "kind": "List", "items": [KEDA, OTHER]}, indent=4),
    ],
    ids=["documents", "list", "JSON list"],
)
def test_manifests_are_read_from_standard_input(argument: str, data: str, forescale: Forescale) -> None:
    code, out, err = forescale("import", argument, stdin=data.encode())
    assert (code, names(out)) == (0, ["workers", "other"]), err


def test_problem_in_standard_input_has_its_line(forescale: Forescale) -> None:
    wrong = changed(KEDA, spec__minReplicaCount=-1)
    code, out, err = forescale("import", "-", stdin=yaml.safe_dump(wrong).encode())
    assert (code, out) == (2, "")
    assert "stdin:7: spec.minReplicaCount = -1: must be a whole number" in err


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "stdin:1: contains no YAML document"),
        (b"\xff\xfe", "is not UTF-8"),
        (b"a: {{ .Values.x }}\n", "helm template"),
        (b"x" * (16 * 2**20 + 1), "the limit is 16,777,216"),
    ],
    ids=["empty", "no UTF-8", "template", "too large"],
)
def test_unusable_standard_input_is_refused(data: bytes, rule: str, forescale: Forescale) -> None:
    code, _, err = forescale("import", "-", stdin=data)
    assert code == 2
    assert rule in err


def test_open_pipe_of_a_shell_is_read(forescale: Forescale) -> None:
    pipe = written(yaml.safe_dump(KEDA).encode())
    code, out, err = forescale("import", f"/dev/fd/{pipe}")
    os.close(pipe)
    assert (code, names(out)) == (0, ["workers"]), err


def test_named_pipe_is_refused(tmp_path: Path, forescale: Forescale) -> None:
    os.mkfifo(tmp_path / "pipe")
    code, _, err = forescale("import", tmp_path / "pipe")
    assert code == 2
    assert "it is a pipe" in err


def test_several_files_and_directories_are_read_with_standard_input(tmp_path: Path, forescale: Forescale) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.yaml").write_text(yaml.safe_dump(KEDA))
    (tmp_path / "bad.yaml").write_text("kind: [\n")
    code, out, err = forescale(
        "import", folder, tmp_path / "bad.yaml", tmp_path / "none.yaml", "-", stdin=yaml.safe_dump(OTHER).encode()
    )
    assert (code, names(out)) == (1, ["workers", "other"])
    assert f"{tmp_path}/bad.yaml:2: is not valid YAML" in err
    assert f"{tmp_path}/none.yaml:1: no such file or directory" in err
    assert "2 of 2 autoscalers imported." in err


def test_two_scaled_objects_of_one_target_in_two_files_are_refused(tmp_path: Path, forescale: Forescale) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(KEDA))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(changed(KEDA, metadata__name="second")))
    code, out, err = forescale("import", tmp_path / "one.yaml", tmp_path / "two.yaml")
    assert (code, out) == (2, "")
    assert f"{tmp_path}/two.yaml:7: spec.scaleTargetRef: resizes apps/Deployment llm/workers, and so does" in err
    assert f"{tmp_path}/one.yaml:1 ScaledObject workers: each would overwrite the other's size" in err


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ([], "MANIFEST: is required (name a file or a directory, - for standard input, or --cluster)"),
        (["--cluster", "-"], "--cluster: excludes manifests"),
        (["-", "--namespace", "llm"], "--namespace = llm: requires --cluster"),
        (["--cluster", "--namespace", "../llm"], "--namespace = ../llm: must be at most 63 lowercase letters"),
    ],
)
def test_contradicting_options_are_refused(options: list[str], rule: str, forescale: Forescale) -> None:
    code, _, err = forescale("import", *options, stdin=yaml.safe_dump(changed(KEDA, spec__triggers=[SQS])).encode())
    assert code == 2
    assert rule in err
