"""The command line: each verb's output as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.history.ticks import History
from policies.model import Observation, Outcome, PoolName, Result, Tick
from policies.pipeline import decide
from scaler.cli import main
from scaler.commands.check import extra_lines
from scaler.commands.verbs import VERBS
from scaler.config.daemon import JournalSpec as Settings
from scaler.config.load import Workload, workload_from
from scaler.extras import packages_of
from scaler.journal.explain import paragraphs
from scaler.journal.writer import JournalWriter
from tests.factories import ABSENT, NOW, fresh, seen, stale

ROOT = Path(__file__).parents[2]
DOCUMENT: dict[str, Any] = {
    "workload": "llm",
    "max_replicas": 50,
    "sources": {"queue": {"kind": "embedded"}},
    "policies": {"depth": {"kind": "queue_depth"}},
    "pools": {"main": {"kind": "embedded"}},
}
MESSAGES = (30, 50, 50, 20, 20, 20)


def record(
    folder: Path, messages: Sequence[float | None] = MESSAGES, document: dict[str, Any] | None = None
) -> Workload:
    """Write a journal of one workload's ticks, 15 s apart; None stands for a tick without a reading."""
    workload = workload_from(document or DOCUMENT)
    writer = JournalWriter(Settings(directory=str(folder)), NOW, "1")
    history = History()
    size = 1
    for i, count in enumerate(messages):
        at = NOW + 15 * i
        visible = ABSENT if count is None else fresh(count, now=at)
        in_flight = ABSENT if count is None else fresh(0, now=at)
        observation = seen({"queue.visible": visible, "queue.in_flight": in_flight}, size, at=at)
        tick = decide_tick(workload, history, observation)
        writer.write(tick, workload)
        history.append(tick)
        size = tick.decision.target or 0
    writer.close()
    return workload


def decide_tick(workload: Workload, history: History, observation: Observation) -> Tick:
    decision = decide(workload.spec, history, observation)
    outcomes = tuple(
        Outcome(PoolName(p), decision.current or 0, t, Result.ACCEPTED) for p, t in decision.targets.items()
    )
    return Tick(workload.fingerprint, observation, decision, outcomes, len(history), 0.0, 0.01)


def run(capsys: pytest.CaptureFixture[str], *args: str | Path) -> tuple[int, str, str]:
    code = main([str(a) for a in args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


# --- check


def test_check_describes_the_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(DOCUMENT))
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0
    assert "policy depth (queue_depth) reads visible, in_flight from queue" in out
    result = json.loads(run(capsys, "check", tmp_path, "--json")[1])
    assert result == {"valid": True, "workloads": ["llm"], "missing_packages": {"sim": []}, "warnings": []}


def test_check_shows_what_follows_from_a_short_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {
        "workload": "chat",
        "max_replicas": 20,
        "model": "llama-3.1-70b-h100x4",
        "slo": {"ttft_s": 2.0},
        "sources": {"engines": {"kind": "prometheus", "url": "http://p", "preset": "vllm", "window_s": 60}},
        "pools": {"gpus": {"kind": "embedded"}},
    }
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(short))
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0
    assert "  SLO: 99 % of requests with ttft_s of at most 2\n" in out
    assert "  policy predictive (predictive) reads running, waiting," in out
    guess = "15,595 prompt and 7,592 output tokens/s (llama-3.1-70b-h100x4)"
    assert f"    rates over 60 s; first guess of a replica: {guess}\n" in out
    assert "  warning: slo.ttft_s is not a bucket bound of vllm's histogram" in out
    assert "1 workload, 1 warning, no problem found" in out
    (warning,) = json.loads(run(capsys, "check", tmp_path, "--json")[1])["warnings"]
    assert (warning["workload"], warning["path"], warning["hint"][:15]) == ("chat", "slo.ttft_s", "set it to 1 or ")


def test_check_reports_all_needed_extras_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sqs = {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"}
    mixed = {**DOCUMENT, "sources": {"queue": sqs}, "pools": {"main": {"kind": "kubernetes", "name": "vllm"}}}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump(mixed))
    code, out, _ = run(capsys, "check", tmp_path)
    assert code == 0
    assert "extras: aws (installed), kubernetes (installed)" in out
    assert list(extra_lines({})) == ["extras: none needed"]
    lines = list(extra_lines({"aws": ["aiobotocore"], "gcp": [], "sim": ["numba", "scipy"]}))
    assert lines == [
        "extras: aws (NOT installed: aiobotocore), gcp (installed), sim (NOT installed: numba, scipy)",
        "  pip install 'forescale[aws,sim]'",
    ]


@pytest.mark.slow
def test_check_names_the_packages_that_are_not_installed(tmp_path: Path) -> None:
    """In an environment in which this distribution's extra requires a package that is missing."""
    metadata = tmp_path / "site/forescale-9.0.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    requirement = "Requires-Dist: a-missing-package>=3; extra == 'aws'"
    metadata.write_text(f"Metadata-Version: 2.4\nName: forescale\nVersion: 9.0\n{requirement}\n")
    sqs = {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"}
    pool = {"kind": "asg", "group": "engines"}
    (tmp_path / "w.yaml").write_text(yaml.safe_dump({**DOCUMENT, "sources": {"queue": sqs}, "pools": {"main": pool}}))
    command = [sys.executable, "-m", "scaler.cli", "check", str(tmp_path / "w.yaml")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT)])}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert "extras: aws (NOT installed: a-missing-package)\n  pip install 'forescale[aws]'" in done.stdout, done.stderr
    assert done.returncode == 0


def test_packages_of_an_extra_are_those_of_the_distribution() -> None:
    assert packages_of("aws") == ["aiobotocore"]
    assert set(packages_of("kubernetes")) == {"kubernetes-asyncio"}
    assert {"numba", "scipy"} <= set(packages_of("sim"))
    assert packages_of("nothing") == []


def test_check_reports_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "w.yaml").write_text(yaml.safe_dump({**DOCUMENT, "max_replicas": 0, "tolerence": 1}))
    code, _, err = run(capsys, "check", tmp_path)
    assert code == 2
    assert "did you mean 'tolerance'?" in err
    assert "2 problems found" in err
    code, out, _ = run(capsys, "check", tmp_path, "--json")
    assert code == 2
    assert {p["path"] for p in json.loads(out)["problems"]} == {"max_replicas", "tolerence"}


# --- explain


def test_explain_reports_readings_policies_and_outcome(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    code, out, _ = run(capsys, "explain", tmp_path)
    assert code == 0
    for phrase in (
        "llm at 2027-01-15T08:01:15Z: keep 5 (2.00 needed; fresh readings do not cover the last 300 s: no scale-in)",
        "main: 5 desired, 5 ready",
        "queue.visible: 20, measured 0 s earlier",
        "depth: recommends 2.00 replicas: 20 messages at 10 per replica",
        "scale-down window: 5",
        "main keeps 5: accepted",
    ):
        assert phrase in out


def test_explain_selects_the_tick_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    assert "1 -> 3 replicas" in run(capsys, "explain", tmp_path, "--at", "2027-01-15T08:00:14Z")[1]
    assert "3 -> 5 replicas" in run(capsys, "explain", tmp_path, "--at", str(NOW + 15))[1]
    decoded = json.loads(run(capsys, "explain", tmp_path, "--at", str(NOW), "--json")[1])
    assert decoded[0]["decision"]["target"] == 3


@pytest.mark.parametrize(
    "form",
    [
        "2027-01-15T08:00:15Z",
        "2027-01-15T08:00:15.700Z",
        "2027-01-15 08:00:15 UTC",
        "2027-01-15T09:00:15+01:00",
        "08:00:15",
        "08:00:15Z",
        "08:00:15.700 UTC",
        "09:00:15+01:00",
        "1800000015",
        "1800000015.7",
        "2027-01-15T08:00",
    ],
)
def test_explain_finds_a_tick_by_each_printed_form_of_its_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    """The tick is at 08:00:15.7, which whole seconds print as 08:00:15."""
    workload = workload_from(DOCUMENT)
    writer, history = JournalWriter(Settings(directory=str(tmp_path)), NOW, "1"), History()
    for at in (NOW, NOW + 15.7, NOW + 86_400 if form.startswith("2027") else NOW + 60):
        readings = {"queue.visible": fresh(20, now=at), "queue.in_flight": fresh(0, now=at)}
        writer.write(decide_tick(workload, history, seen(readings, 2, at=at)), workload)
    writer.close()
    (found,) = json.loads(run(capsys, "explain", tmp_path, "--at", form, "--json")[1])
    assert found["at"] == NOW + 15.7


def test_explain_takes_a_time_of_day_from_the_last_day_of_the_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path)  # from 08:00:00 to 08:01:15
    assert "at 2027-01-15T08:01:15Z" in run(capsys, "explain", tmp_path, "--at", "08:01:16.2")[1]
    code, _, err = run(capsys, "explain", tmp_path, "--at", "23:00:00")
    assert code == 2
    assert "--at 23:00:00: before the first recorded tick, at 2027-01-15T08:00:00Z" in err


def test_explain_reports_a_missing_reading_as_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, (50, None))
    out = run(capsys, "explain", tmp_path)[1]
    assert "queue.visible: absent, not zero (gone)" in out
    assert "keep 5" in out


@pytest.mark.parametrize(("errors", "cause"), [({"queue": "connection refused"}, "the last read failed; "), ({}, "")])
def test_explain_says_whether_the_read_behind_a_stale_value_failed(errors: dict[str, str], cause: str) -> None:
    observation = replace(seen({"queue.visible": stale(37, 8), "queue.in_flight": stale(0, 8)}), source_errors=errors)
    tick = decide_tick(workload_from(DOCUMENT), History(), observation)
    line = f"    queue.visible: stale: {cause}the last value, 37, is 8 s old and is not acted on"
    assert line in list(paragraphs(tick))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--workload", "lm"], "no such workload in the journal; did you mean 'llm'?"),
        (["--at", "2020-01-01T00:00:00Z"], "before the first recorded tick, at 2027-01-15T08:00:00Z"),
        (["--at", "yesterday"], "--at 'yesterday': must be ISO 8601"),
    ],
)
def test_explain_without_a_match_reports_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    record(tmp_path)
    code, _, err = run(capsys, "explain", tmp_path, *args)
    assert code == 2
    assert message in err


# --- replay


def test_replay_with_the_recorded_configuration_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, (30, 50, None, 50, 20, None, 20))
    code, out, _ = run(capsys, "replay", tmp_path)
    assert (code, out.strip()) == (0, "7 ticks replayed: 7 equal")


def test_replay_detects_a_changed_decision(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path)
    file = tmp_path / "00000001.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[3]["decision"]["target"] = 6
    file.write_text("\n".join(map(json.dumps, lines)) + "\n")
    code, out, _ = run(capsys, "replay", tmp_path)
    assert code == 1
    assert "target 6 recorded, 5 replayed" in out
    assert json.loads(run(capsys, "replay", tmp_path, "--json")[1])["different"] >= 1


def test_replay_with_another_configuration_reports_the_differences(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "journal")
    other = {**DOCUMENT, "policies": {"depth": {"kind": "queue_depth", "target_per_replica": 5}}}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(other))
    code, out, _ = run(capsys, "replay", tmp_path / "journal", "--config", tmp_path / "new.yaml")
    assert code == 0
    assert "llm: mean target 4.67 recorded, " in out
    assert "recorded: depth recommends 3.00" in out
    assert "replayed: " in out


def test_replay_with_one_workload_of_a_group_needs_no_file_of_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "journal")
    route = {"kind": "envoy", "file": "/routes/chat.json", "admin_url": "http://127.0.0.1:9901"}
    backends = {"home": {"pool": next(iter(DOCUMENT["pools"]))}, "us": {"workload": "chat-us"}}
    other = {**DOCUMENT, "group": "chat", "routes": {"chat": {**route, "backends": backends}}}
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(other))
    assert run(capsys, "replay", tmp_path / "journal", "--config", tmp_path / "new.yaml")[0] == 0
    code, _, error = run(capsys, "check", tmp_path / "new.yaml")
    assert code == 2
    assert "routes.chat.backends.us.workload" in error


def test_replay_skips_ticks_without_recorded_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(tmp_path, [30] * 4 + [20] * 60)
    file = tmp_path / "00000001.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines[:2], *lines[12:]]))
    code, out, _ = run(capsys, "replay", tmp_path)
    assert code == 0
    assert "history not recorded" in out


# --- the rest


def test_schema_and_example_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(run(capsys, "schema")[1])["$defs"]["WorkloadSpec"]["required"]
    assert "target_per_replica: 10.0" in run(capsys, "schema", "--example")[1]


@pytest.mark.parametrize("args", [["run", "x", "--for", "0"], ["run"], ["dance"], []])
def test_invalid_arguments_exit_with_usage(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    assert "usage: forescale" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("simulte", "did you mean 'simulate'?"),
        ("expl", "did you mean 'explain'?"),
        ("zzz", "the commands are advise, "),
    ],
)
def test_a_mistyped_command_is_refused_with_a_hint(verb: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    for args in ([verb, "config"], ["help", verb]):
        with pytest.raises(SystemExit) as exit_info:
            main(args)
        assert exit_info.value.code == 2
        assert f"forescale: error: {verb!r} is not a command; {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["--verison"], "forescale: error: unknown option '--verison'; did you mean '--version'?"),
        (["--versoin", "run"], "forescale: error: unknown option '--versoin'; did you mean '--version'?"),
        (["run", "--dryrun", "x"], "forescale run: error: unknown option '--dryrun'; did you mean '--dry-run'?"),
        (["run", "--dryrun"], "forescale run: error: unknown option '--dryrun'; did you mean '--dry-run'?"),
        (["explain", "j", "--wrokload=a"], "unknown option '--wrokload'; did you mean '--workload'?"),
        (["trace", "describe", "t.csv", "--htlm", "x"], "unknown option '--htlm'; did you mean '--html'?"),
        (["check", "x", "-q"], "forescale check: error: unknown option '-q'; the options are --help, --live, --json"),
        (["run", "x", "--listen", "8080"], "argument --listen: must be HOST:PORT, such as 127.0.0.1:8080, not '8080'"),
        (["run", "x", "--listen", "a:99999"], "argument --listen: must have a port from 0 to 65535, not 'a:99999'"),
    ],
)
def test_a_mistyped_option_is_refused_with_a_hint(
    args: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--version"], ["-V"], ["version"], ["--vers"]])
def test_version_is_printed(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 0
    assert capsys.readouterr().out == f"forescale {version('forescale')}\n"


def test_help_alone_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(["help"])
    assert exit_info.value.code == 0
    out = capsys.readouterr().out
    assert all(f"\n    {verb}" in out for verb in VERBS)


def test_make_run_prints_how_to_call_forescale() -> None:
    done = subprocess.run(["make", "-n", "run"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "From now on: .venv/bin/forescale COMMAND, or once 'source .venv/bin/activate'" in done.stdout


def complete(shell_script: str, words: Sequence[str]) -> list[str]:
    """Return what bash offers for the last word of a command line."""
    command = f"""{shell_script}
COMP_WORDS=({" ".join(f"'{w}'" for w in words)}); COMP_CWORD={len(words) - 1}
complete_function=$(complete -p forescale | sed 's/.*-F \\([^ ]*\\).*/\\1/')
$complete_function forescale '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    return done.stdout.split()


@pytest.mark.slow
def test_bash_completes_commands_options_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    code, script, _ = run(capsys, "completion", "bash")
    assert code == 0
    assert set(complete(script, ["forescale", ""])) >= set(VERBS)
    assert complete(script, ["forescale", "exp"]) == ["explain"]
    assert {"--dry-run", "--listen", "--log"} <= set(complete(script, ["forescale", "run", "--"]))
    assert "--policies" in complete(script, ["forescale", "compare", "--"])
    assert complete(script, ["forescale", "run", "--log", "l"]) == ["live"]


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "names"), [("zsh", "#compdef forescale"), ("fish", "complete -c forescale")])
def test_completion_scripts_of_other_shells_have_every_command(
    shell: str, names: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = run(capsys, "completion", shell)[1]
    assert names in script
    assert all(verb in script for verb in VERBS)
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


@pytest.mark.parametrize("verb", ["run", "check", "completion", "doctor", "schema", "explain", "import", "replay"])
def test_every_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for args in ([verb, "--help"], ["help", verb]):
        with pytest.raises(SystemExit) as exit_info:
            main(args)
        assert exit_info.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith(f"usage: forescale {verb}")
    assert f"\nexamples:\n  forescale {verb} " in texts[0]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["simulate", "--seed", "x"], "argument --seed: must be a whole number, not 'x'"),
        (["trace", "describe", "t.csv", "--seed", "1.5"], "argument --seed: must be a whole number, not '1.5'"),
        (["report", "--prompt-tokens", "many"], "argument --prompt-tokens: must be a number, not 'many'"),
    ],
)
def test_an_option_that_is_no_number_names_the_rule(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(args)
    assert exit_info.value.code == 2
    assert message in capsys.readouterr().err
