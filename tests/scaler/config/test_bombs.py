"""Files that try to exhaust or end the process: `check` and a running daemon refuse each with an error."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.config.document import parse, value_in
from scaler.config.files import MAX_FILE_BYTES
from scaler.config.load import load
from scaler.config.problems import COMMAND_LINE, ConfigError, Problem
from scaler.config.yaml_composer import MAX_DEPTH, MAX_NODES, MAX_PROBLEMS
from tests.scaler.config.test_config import GOOD
from tests.scaler.test_daemon import configuration, running
from tests.servers.daemon import until

ROOT = Path(__file__).parents[3]
MEMORY = 3 << 30
"""Address space of a check in bytes, its libraries included; the "billion laughs" file took 3.3 GB before."""
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefghijk", "bcdefghijkl", strict=True)
)
TEXTS = {
    "flow sequences": ("[" * 100_000, f"is nested more than {MAX_DEPTH} levels deep"),
    "flow mappings": ("{a: " * 100_000, f"is nested more than {MAX_DEPTH} levels deep"),
    "block sequences": ("- " * 100_000, f"is nested more than {MAX_DEPTH} levels deep"),
    "block mappings": ("".join(f"{' ' * i}a:\n" for i in range(2000)), f"is nested more than {MAX_DEPTH} levels deep"),
    "questions": ("? " * 100_000, "must have plain words as keys"),
    "billion laughs": (LAUGHS, f"has more than {MAX_NODES:,} values after expanding aliases"),
    "an alias within itself": ("a: &a [*a]\n", "inside its own anchor"),
    "an alias of nothing": ("a: *b\n", "uses the alias 'b' without an anchor"),
    "directives": ("".join(f"%TAG !a{i}! x\n" for i in range(200_000)), "lines that begin with %"),
    "keys given twice": ("a: 1\n" * 1_000_000, f"has more than {MAX_PROBLEMS} problems"),
    "a truth that is none": ("a: !!bool maybe\n", "cannot be read as true or false"),
    "an object": ("a: !!python/object/apply:os.system ['true']\n", "is not supported"),
    "a NUL in a path": (f'{GOOD}---\ndaemon: {{journal: {{directory: "b\\0c"}}}}\n', "contains a NUL character"),
    "a number of 5,000 digits": (f"a: {'9' * 5000}\n", "cannot be read as a whole number"),
    "null and numbers as keys": (f"{GOOD}~: 1\n1.5: 2\n", "unknown key"),
}


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        previous_folder = Path.cwd()
        os.chdir(path.parent)  # a socket's path may have 108 characters
        try:
            s.bind(path.name)
        finally:
            os.chdir(previous_folder)


def folder(path: Path) -> None:
    path.mkdir()


FILES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a pipe": (fifo, "cannot be read: it is a pipe"),
    "an endless device": (device, "cannot be read: it is a device"),
    "3 GB of nothing": (sparse, "has 3,221,225,472 bytes"),
    "a socket": (a_socket, "cannot be read: it is a socket"),
    "a directory called a file": (folder, "cannot be read: it is a directory"),
}

LIMITED = (
    f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}));"
    " from scaler.cli import main; raise SystemExit(main())"
)
"""The command, with limited memory from its first import on."""


def check(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED, "check", str(path)],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=120,
        env={"PATH": "/usr/bin:/bin", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", TEXTS)
def test_check_rejects_hostile_text_with_file_and_line(tmp_path: Path, case: str) -> None:
    text, rule = TEXTS[case]
    (tmp_path / "bomb.yaml").write_text(text)
    result = check(tmp_path)
    assert result.returncode == 2, (result.returncode, result.stderr[-2000:])
    assert rule in result.stderr
    assert f"{tmp_path / 'bomb.yaml'}:" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("case", FILES)
def test_check_rejects_special_and_oversized_files(tmp_path: Path, case: str) -> None:
    make, rule = FILES[case]
    make(tmp_path / "bomb.yaml")
    result = check(tmp_path)
    assert result.returncode == 2, (result.returncode, result.stderr[-2000:])
    assert f"{tmp_path / 'bomb.yaml'}:1" in result.stderr
    assert rule in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["flow sequences", "block sequences", "billion laughs", "null and numbers as keys", *FILES]
)
async def test_daemon_rejects_hostile_file_and_keeps_its_configuration(tmp_path: Path, case: str) -> None:
    config = configuration(tmp_path)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 1, d)
        good, ticks_before = d.ticks()[-1].spec, len(d.ticks())
        if case in FILES:
            make, rule = FILES[case]
            make(config / "bomb.yaml")
        else:
            text, rule = TEXTS[case]
            (config / "bomb.yaml").write_text(text)

        def reload_errors() -> list[dict[str, Any]]:
            return [e for e in d.events() if e["event"] == "reload" and e["level"] == "error"]

        await until(lambda: bool(reload_errors()), d)
        assert rule in reload_errors()[0]["error"]
        assert "bomb.yaml:" in reload_errors()[0]["error"]
        await until(lambda: len(d.ticks()) > ticks_before + 2, d)
        assert d.ticks()[-1].spec == good
        assert (await d.get("healthz"))[0] == 200
        assert await d.stop(signal.SIGTERM) == 0


@pytest.mark.slow
def test_file_above_the_size_limit_is_rejected(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(GOOD + "#" * (MAX_FILE_BYTES - len(GOOD)))
    assert load([file]).workloads
    with file.open("a") as more:
        more.write("#")
    with pytest.raises(
        ConfigError, match=r"w\.yaml:1: has 16,777,217 bytes; the limit is 16,777,216 \(16 MiB\) \(split it"
    ):
        load([file])


def test_alias_expands_and_keeps_line_numbers() -> None:
    documents, problems = parse("f.yaml", "a: &a {b: [1, 2]}\nc: *a\nd: 3\n")
    assert (documents[0].data, problems) == ({"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": 3}, [])
    lines = documents[0].lines
    assert [lines[p] for p in ((), ("a",), ("c",), ("c", "b", 1), ("d",))] == [1, 1, 2, 1, 3]


def test_line_numbers_are_correct_after_a_duplicate_key() -> None:
    documents, problems = parse("f.yaml", "a:\n  x: 1\na:\n  y: [1,\n  2]\nb: 2\n")
    assert [(p.line, p.path) for p in problems] == [(3, "a")]
    assert documents[0].line(("b",)) == 6


@pytest.mark.parametrize(
    ("written", "readings"),
    [
        ("010", ("octal number 8 in", "and 10 in")),
        ("-017", ("octal number -15 in", "and -17 in")),
        ("1:30", ("base-60 number 90 in", "and text in")),
        ("22:00", ("base-60 number 1320 in", "and text in")),
        ("1:30.5", ("base-60 number 90.5 in", "and text in")),
    ],
)
def test_number_that_yaml_versions_read_differently_is_rejected(written: str, readings: tuple[str, str]) -> None:
    _, problems = parse("f.yaml", f"workload: llm\nmax_replicas: {written}\n")
    assert [(p.line, p.path) for p in problems] == [(2, "max_replicas")]
    assert all(reading in problems[0].rule for reading in readings)
    assert f"'{written}'" in problems[0].hint
    assert parse("f.yaml", f"a: '{written}'")[0][0].data == {"a": written}


@pytest.mark.parametrize(
    ("written", "value"),
    [("0", 0), ("00", 0), ("0.5", 0.5), ("10", 10), ("0x10", 16), ("08:00", "08:00"), ("1_000", 1000), ("-0", 0)],
)
def test_number_that_yaml_versions_read_alike_is_accepted(written: str, value: object) -> None:
    documents, problems = parse("f.yaml", f"a: {written}")
    assert (documents[0].data, problems) == ({"a": value}, [])


def test_octal_file_mode_in_a_manifest_is_accepted() -> None:
    assert parse("f.yaml", "defaultMode: 0644", old_numbers=True)[0][0].data == {"defaultMode": 420}


def test_empty_file_is_ignored_but_is_no_configuration_alone(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match="no workload is configured"):
        load([tmp_path])
    (tmp_path / "w.yaml").write_text(GOOD)
    assert list(load([tmp_path]).workloads) == ["llm"]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-?[]{}&*!|>'\"#%,~0 1\n\t", max_size=60))
def test_parse_never_raises_for_any_text(text: str) -> None:
    """No text raises, and each document has the line of every value."""
    documents, problems = parse("f.yaml", text)
    assert all(p.rule and p.line >= 1 for p in problems)
    for document in documents:
        assert len(document.lines) == len(list(document.lines))


def test_command_line_values_have_the_same_limits() -> None:
    assert value_in("[1, a]") == [1, "a"]
    assert value_in("") is None
    with pytest.raises(ValueError, match="nested more than"):
        value_in("[" * 10_000)


def test_problem_truncates_long_quoted_text() -> None:
    problem = Problem("f.yaml", 1, "kind", "", f"{'a' * 100_000!r} is no kind", "write " + "b " * 100_000)
    assert "is no kind" in str(problem)
    assert len(str(problem)) < 2000


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (
            Problem("f.yaml", 3, "slo", "5", "must be a mapping", "ttft_s: 5"),
            "f.yaml:3: slo = 5: must be a mapping (ttft_s: 5)",
        ),
        (Problem("f.yaml", 3, "", "", "not YAML"), "f.yaml:3: not YAML"),
        (
            Problem("f.yaml", 3, "", "(a list)", "must be a mapping"),
            "f.yaml:3: the document = (a list): must be a mapping",
        ),
        (Problem(COMMAND_LINE, 1, "--out", "a.yaml", "exists"), "command line: --out = a.yaml: exists"),
        (Problem("--shadow", 1, "chat.pools", "", "differ"), "--shadow: chat.pools: differ"),
    ],
)
def test_problem_names_its_place(problem: Problem, text: str) -> None:
    assert str(problem) == text


def test_problem_escapes_unprintable_characters() -> None:
    problem = Problem("f.yaml", 1, "a\x1b", "b\ud800", "name \x1b[31m\nis taken", "rename \x00")
    assert str(problem) == "f.yaml:1: a\\x1b = b\\ud800: name \\x1b[31m\\nis taken (rename \\x00)"
