"""The command line: each verb's output as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.history.ticks import History
from policies.model import Observation, Outcome, PoolName, Result, Tick
from policies.pipeline import decide
from scaler.cli import main
from scaler.config.daemon import JournalSpec as Settings
from scaler.config.load import Workload, workload_from
from scaler.journal.explain import paragraphs
from scaler.journal.writer import JournalWriter
from tests.factories import ABSENT, NOW, fresh, seen, stale

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
    assert json.loads(run(capsys, "check", tmp_path, "--json")[1]) == {"valid": True, "workloads": ["llm"]}


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


@pytest.mark.parametrize("verb", ["run", "check", "doctor", "schema", "explain", "import", "replay"])
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
