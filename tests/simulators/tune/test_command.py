"""``forescale tune`` from outside: its files and page, equal results, Ctrl-C, and refused options."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.model import WorkloadName
from scaler.cli import main
from scaler.config.load import load as load_config
from simulators.tune.progress import ProgressScreen
from simulators.tune.space import space_of
from simulators.tune.storage import lead_folder, open_storage
from simulators.tune.study import study
from tests.simulators.tune import small
from tests.simulators.tune.test_settings import HPA
from tests.simulators.tune.test_study import advance

pytestmark = pytest.mark.slow
BUDGET = ("--budget", "14-trials", "--jobs", "1", "--proof", "2")


def tune(scenario: Path, out: Path, *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["tune", str(scenario), "--out", str(out), *more])
    return code, small.result(out)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.write(tmp_path_factory.mktemp("command"))


@pytest.fixture(scope="module")
def tuned_folder(scenario: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete search: the scenario's target of twelve requests per replica is too low."""
    out = tmp_path_factory.mktemp("out") / "a"
    code, result = tune(scenario, out, *BUDGET)
    assert code == 0
    assert result["trials"]["finished"] == 14
    return out


def test_the_recommended_file_is_valid_and_cheaper_on_held_out_traffic(tuned_folder: Path, scenario: Path) -> None:
    result = small.result(tuned_folder)
    number = result["recommended"]
    (point,) = [p for p in result["points"] if p["trial"] == number]
    assert point["gain"] == "cheaper"
    assert point["proof"]["usd_per_month"] < 0.9 * result["today"]["proof"]["usd_per_month"]
    assert point["proof"]["late_share"] <= result["allowed_late_share"]
    document = load_config([tuned_folder / "recommended.yaml"]).workloads[WorkloadName("small")].document
    target = document["policies"]["concurrency"]["target_per_replica"]
    assert target == point["settings"]["policies.concurrency.target_per_replica"]
    text = (tuned_folder / "recommended.yaml").read_text()
    assert "To simulate it: forescale compare" in text
    assert "compared with today: -$" in text


def test_compare_confirms_the_figures_of_a_policy_file(
    tuned_folder: Path, scenario: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole scenario, untuned and tuned: another command finds the same saving."""
    arguments = ["compare", str(scenario), "--policies", str(tuned_folder / "recommended.yaml"), "--without-self"]
    assert main([*arguments, "--replications", "1", "--json", "-"]) == 0
    tuned = json.loads(capsys.readouterr().out)["policies"]["small"][0]
    assert main(["compare", str(scenario), "--replications", "1", "--json", "-"]) == 0
    today = json.loads(capsys.readouterr().out)["policies"]["small"][0]
    assert tuned["cost_usd"] < today["cost_usd"]


def test_every_point_has_a_file_that_loads(tuned_folder: Path) -> None:
    points = sorted(tuned_folder.glob("point-*.yaml"))
    assert len(points) == len(small.result(tuned_folder)["points"])
    for point in points:
        load_config([point])


def test_the_page_has_the_pareto_front_and_replays_before_and_after_tuning(tuned_folder: Path) -> None:
    page = (tuned_folder / "report.html").read_text()
    for part in ("tune-front", "Pareto points", "Changed settings of each point", "all-ready"):
        assert part in page
    assert '<th scope="col">before</th><th scope="col">after</th>' in page
    assert len(page.encode()) < 1_500_000


def test_equal_seeds_with_one_process_give_equal_results(tuned_folder: Path, scenario: Path, tmp_path: Path) -> None:
    _, repeated = tune(scenario, tmp_path / "b", *BUDGET)
    assert repeated == small.result(tuned_folder)
    for point in tuned_folder.glob("*.yaml"):
        assert (tmp_path / "b" / point.name).read_text() == point.read_text()
    assert (tmp_path / "b" / "report.html").read_bytes() == (tuned_folder / "report.html").read_bytes()


def test_a_larger_budget_resumes_a_finished_search(tuned_folder: Path, scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "c"
    tune(scenario, out, "--budget", "6-trials", "--jobs", "1", "--proof", "2")
    _, result = tune(scenario, out, *BUDGET)
    assert result == small.result(tuned_folder)


def test_ctrl_c_ends_the_search_and_validates_its_points(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "d"
    arguments = (scenario, "--out", out, "--budget", "2h", "--jobs", "2", "--proof", "1")
    with small.running(*arguments, cwd=tmp_path) as process:
        small.wait_until(lambda: small.count_ended(out / "study.log") >= 5, "five trials have ended", process)
        process.send_signal(signal.SIGINT)
        output, stderr = process.communicate(timeout=small.PATIENCE_S)
    assert process.returncode == 130, stderr
    assert "stopped before the end" in output
    result = small.result(out)
    assert result["stopped"]
    assert all("proof" in point for point in result["points"])
    assert len(list(out.glob("point-*.yaml"))) == len(result["points"])
    assert "Traceback" not in stderr


def test_ctrl_c_during_validation_marks_the_files_as_not_validated(scenario: Path, tmp_path: Path) -> None:
    out = tmp_path / "e"
    arguments = (scenario, "--out", out, "--budget", "5-trials", "--jobs", "1", "--proof", "100")
    with small.running(*arguments, cwd=tmp_path) as process:
        assert process.stderr is not None
        assert any("validating the front" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=small.PATIENCE_S)
    assert process.returncode == 130
    assert small.result(out)["recommended"] is None
    assert all("# NOT VALIDATED" in point.read_text() for point in out.glob("point-*.yaml"))


def test_an_hpa_is_tuned_as_an_hpa_or_as_a_native_policy(scenario: Path, tmp_path: Path) -> None:
    (tmp_path / "hpa.yaml").write_text(HPA)
    arguments = ("--from", str(tmp_path / "hpa.yaml"), "--prometheus", "http://prom:9090", "--budget", "6-trials")
    _, own = tune(scenario, tmp_path / "own", *arguments, "--jobs", "1", "--proof", "1")
    _, native = tune(scenario, tmp_path / "native", *arguments, "--native", "--jobs", "1", "--proof", "1")
    assert own["today"]["proof"] == native["today"]["proof"], "both are compared with the same HPA"
    kinds = {
        name: [p["kind"] for p in yaml.safe_load((tmp_path / name / "point-1.yaml").read_text())["policies"].values()]
        for name in ("own", "native")
    }
    assert kinds == {"own": ["hpa"], "native": ["metric"]}


@pytest.mark.parametrize("sampler", ["cmaes", "nsga2"])
def test_a_time_budget_and_other_samplers_complete_a_search(scenario: Path, tmp_path: Path, sampler: str) -> None:
    _, result = tune(scenario, tmp_path / "out", "--budget", "2s", "--sampler", sampler, "--jobs", "1", "--proof", "1")
    assert result["sampler"] == sampler
    assert result["trials"]["finished"] >= 1
    assert not result["stopped"]


def test_each_of_several_traces_is_left_out_once(scenario: Path, tmp_path: Path) -> None:
    for name, seed in (("one", "3"), ("two", "4"), ("three", "5")):
        arguments = ["trace", "generate", "poisson", "rps=6", "duration_s=600", "--seed", seed]
        assert main([*arguments, "--out", str(tmp_path / f"{name}.csv")]) == 0
    traces = ("--trace", str(tmp_path / "one.csv"), "--trace", str(tmp_path / "two.csv"))
    more = (*traces, "--unseen", str(tmp_path / "three.csv"), "--budget", "5-trials", "--jobs", "1", "--proof", "1")
    _, result = tune(scenario, tmp_path / "out", *more)
    assert [trace_result["trace"].split(",")[0] for trace_result in result["left_out"]] == ["one.csv", "two.csv"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--budget", "5"), "--budget = 5: must be a number of trials or a time"),
        (("--jobs", "0"), "--jobs = 0: must be 1 to 4096"),
        (("--native",), "--native: requires --from"),
        (("--on", "tcp://x:1", "--jobs", "2"), "--jobs = 2: cannot be combined with --on"),
        (("--out", "no/where"), "--out = no/where: cannot be created"),
        (("--trace", "no.csv"), "no.csv"),
        (("--storage", "postgresql://x:secret@127.0.0.1:1/y"), "postgresql://***@127.0.0.1:1/y: cannot be opened"),
    ],
)
def test_invalid_options_are_rejected_before_any_work(
    scenario: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["tune", str(scenario), *arguments]) == 2
    output = capsys.readouterr().err
    assert message in output
    assert "secret" not in output


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_progress_screen_shows_the_front_and_clears_it(scenario: Path, tmp_path: Path) -> None:
    from simulators.experiments.scenario import load  # noqa: PLC0415 - used only in this test

    terminal = Terminal()
    screen = ProgressScreen("tune small", terminal)
    with lead_folder(tmp_path / "out"):
        result = study(
            open_storage(None, tmp_path / "out"), "s", space_of(load(scenario)), {"sampler": "tpe", "seed": 1}, 0.1
        )
        advance(result, 10)
        screen(result, 0.25)
        screen_text = terminal.getvalue()
        screen.clear()
    assert "tune small" in screen_text
    assert "25% 10 trials" in screen_text
    assert "<- cheapest that meets the SLO" in screen_text
    lines = screen_text.count("\n") + 1
    assert terminal.getvalue().removeprefix(screen_text).count("\033[2K") >= lines, "each line is erased"
