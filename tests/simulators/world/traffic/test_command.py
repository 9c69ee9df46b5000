"""``forescale trace``: its output, its files, and the files that it must not change."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scaler.cli import main, parser
from scaler.commands.verbs import VERBS
from simulators.reporting.progress import MIN_WORK, ProgressBar
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import TraceError
from simulators.world.traffic.writers import replacing, write
from tests.simulators.world.traffic.makers import json_lines, rows_of, text, trace

ROWS = [(0.0, 10, 1), (0.5, 20, 2), (60.125, 30, 3), (121.0, 40, 4)]
FULL = trace(*ROWS, cached_tokens=np.array([0, 1, 2, 3]), client=np.array([7, 8, 7, 8]))


class Terminal(io.StringIO):
    """A text stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main(["trace", *map(str, args)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_written_trace_reads_back_unchanged(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{n}{suffix}" for n in "ab"]
    for file in files:
        write(FULL, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert read(files[0]).digest() == FULL.digest()
    assert read(files[0]).repairs == {}


@pytest.mark.slow
def test_describe_writes_statistics_as_text_json_and_html(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, html = tmp_path / "t.csv", tmp_path / "t.html"
    write(FULL, file)
    code, out, _ = run(capsys, "describe", file, "--html", html)
    assert code == 0
    assert "t: 4 requests in 2.0 minutes" in out
    assert "clients         2" in out
    assert html.read_text().startswith("<!doctype html>")
    output = json.loads(run(capsys, "describe", file, "--json")[1])
    assert output["requests"] == 4
    assert output["digest"] == FULL.digest()
    assert output["prompt_tokens"]["p50"] == 25


def test_convert_cuts_a_window_and_changes_the_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(FULL, tmp_path / "t.csv")
    out_file = tmp_path / "o.parquet"
    code, out, _ = run(capsys, "convert", tmp_path / "t.csv", out_file, "--window", "0.5:121", "--speed", "2")
    assert code == 0
    assert rows_of(read(out_file)) == [(0, 20, 2), (29.8125, 30, 3)]
    assert f"2 requests, digest {read(out_file).digest()[:16]}" in out


def test_convert_reports_the_rows_it_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = text(tmp_path / "log.csv", "ts,in,out\n5000,1,1\n1000,2,2\nx,3,3\n")
    columns = ("--columns", "arrival=ts,prompt=in,output=out", "--unit", "ms")
    code, _, err = run(capsys, "convert", log, tmp_path / "o.csv", *columns)
    assert code == 2
    assert "line 4, column 'ts'" in err
    assert not (tmp_path / "o.csv").exists()
    code, out, _ = run(capsys, "convert", log, tmp_path / "o.csv", *columns, "--skip-bad")
    assert code == 0
    assert "malformed rows skipped: 1; unordered rows sorted: 1" in out
    assert rows_of(read(tmp_path / "o.csv")) == [(1, 2, 2), (5, 1, 1)]


def test_describe_sets_missing_tokens_and_selects_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"created": 1_700_000_000.5 + i, "model": f"m{i % 2}", "usage": {"prompt_tokens": 10}} for i in range(20)]
    log = json_lines(tmp_path / "log.jsonl", rows)
    code, _, err = run(capsys, "describe", log, "--output-tokens", "7")
    assert code == 2
    assert "choose one model with --model-name" in err
    _, out, _ = run(capsys, "describe", log, "--model-name", "m1", "--output-tokens", "7")
    assert "log: 10 requests" in out
    assert "output tokens   mean 7, p50 7, p95 7" in out
    assert "repaired        output tokens set by --output-tokens: 10" in out
    spread = ("--model-name", "*", "--output-tokens", "mean_tokens=50,cv=1")
    outputs = [run(capsys, "describe", log, *spread, "--seed", seed, "--json")[1] for seed in ("1", "1", "2")]
    means = [json.loads(o)["output_tokens"]["mean"] for o in outputs]
    assert means[0] == means[1] != means[2]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x", "'x': must be a whole number, or KEY=NUMBER,KEY=NUMBER"),
        ("0", "mean_tokens must be greater than or equal to 1"),
        ("1e3", "must be a whole number"),
        ("200000000", "max_tokens must be less than or equal to 100000000"),
        ("mean=5", "mean unknown key (did you mean 'mean_tokens'?)"),
        ("mean_tokens=5,p50_tokens=3", "cannot be combined with p50_tokens"),
        ("mean_tokens=[", "must be a whole number"),
    ],
)
def test_invalid_token_counts_are_reported(capsys: pytest.CaptureFixture[str], value: str, message: str) -> None:
    with pytest.raises(SystemExit):
        run(capsys, "describe", "t.csv", "--prompt-tokens", value)
    assert message in capsys.readouterr().err


def test_generate_accepts_a_kind_or_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = text(tmp_path / "s.yaml", "kind: poisson\nrps: 2\nprompt: {mean_tokens: 7, cv: 0}\n")
    files = [tmp_path / f"{n}.csv" for n in "abc"]
    assert run(capsys, "generate", spec, "--out", files[0], "--seed", "3")[0] == 0
    by_kind = ("generate", "poisson", "rps=2", "prompt.mean_tokens=7", "prompt.cv=0")
    assert run(capsys, *by_kind, "--out", files[1], "--seed", "3")[0] == 0
    assert run(capsys, *by_kind, "--out", files[2], "--seed", "4")[0] == 0
    assert files[0].read_bytes() == files[1].read_bytes() != files[2].read_bytes()
    assert set(read(files[0]).prompt_tokens.tolist()) == {7}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["generate", "poison", "--out", "o.csv"], "did you mean 'poisson'"),
        (["generate", "poisson", "rsp=2", "--out", "o.csv"], "did you mean 'rps'"),
        (["generate", "poisson", "rps", "--out", "o.csv"], "must be written key=value"),
        (["generate", "poisson", "rps=1", "rps=2", "--out", "o.csv"], "is set twice"),
        (["generate", "poisson", "rps=1", "rps.x=2", "--out", "o.csv"], "rps already has a value"),
        (["generate", "poisson", "rps=[", "--out", "o.csv"], "is not a valid YAML value"),
        (["generate", "poisson", "--out", "o.txt"], "must end in .csv, .csv.gz, .parquet"),
        (["generate", "poisson", "--out", "gone/o.csv"], "gone/o.csv: cannot be written: No such file"),
        (["convert", "t.csv", "o.csv", "--window", "9"], "must be written START:END"),
        (["convert", "t.csv", "o.csv", "--window", "9:3"], "must be written START:END"),
        (["convert", "t.csv", "o.csv", "--speed", "0"], "speed 0.0 must be above 0"),
        (["convert", "t.csv", "o.csv", "--columns", "arrival"], "must be written ROLE=COLUMN"),
        (["describe", "gone.csv"], "gone.csv: cannot be read"),
    ],
)
def test_invalid_arguments_are_reported_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(FULL, Path("t.csv"))
    code, _, err = run(capsys, *args)
    assert code == 2
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_a_failed_write_leaves_the_old_file_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("old")
    half = replacing(file)
    half.__enter__().write(b"new")
    assert half.__exit__(ZeroDivisionError, ZeroDivisionError(), None) is False
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    assert file.read_text() == "old"
    with pytest.raises(TraceError, match="cannot be written: No space left"), replacing(file):
        raise OSError(28, "No space left on device")


def test_progress_is_shown_only_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("reading") as bar:
        bar.large(MIN_WORK, 2 * MIN_WORK)
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    with ProgressBar("reading", terminal) as bar:
        for done in range(0, 2 * MIN_WORK, MIN_WORK // 1000):
            bar.large(done, 2 * MIN_WORK)
        bar.large(5, 10)  # too little work for a progress bar
        drawn = terminal.getvalue()
    assert [int(percent) for percent in re.findall(r"(\d+)%", drawn)] == list(range(100))
    assert drawn.count("reading") == 100
    assert "\033[2K" in terminal.getvalue().removeprefix(drawn), "the line is erased"


@pytest.mark.slow
def test_a_missing_package_is_reported_with_the_remedy() -> None:
    script = (
        "import sys; sys.modules['pyarrow'] = None; from scaler.cli import main; main(['trace', 'describe', 't.csv'])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs the package pyarrow" in done.stderr
    assert "forescale[sim]" in done.stderr


def test_every_verb_has_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    listed = capsys.readouterr().out
    assert all(re.search(rf"\n    {verb}\s", listed) for verb in VERBS)
    assert list(VERBS) == sorted(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_examples_of_the_help_are_valid_commands(verb: str) -> None:
    for example in VERBS[verb].examples.splitlines():
        words = shlex.split(example.partition(" > ")[0].rpartition("| ")[2])
        assert words[:2] == ["forescale", verb]
        parser(verb).parse_args(words[1:])
