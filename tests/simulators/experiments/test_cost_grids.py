"""The cost benchmarks' own code: equal grids, their edges, the rivals as recommended, and the out-of-the-box table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from policies.recommend.predictive.policy import Predictive
from simulators.experiments.contenders.contenders import contenders
from tests.benchmarks import out_of_the_box
from tests.benchmarks.cost import page, recommended, untuned
from tests.benchmarks.cost.cells import Cell
from tests.benchmarks.cost.families import CONCURRENCIES, OURS, SETTINGS, STEPS, Family, families
from tests.benchmarks.cost.scores import Curve, Score, busiest_minute
from tests.benchmarks.cost.tuning import ORACLE, Job, Outcome, Runs
from tests.benchmarks.cost.untuned import UntunedCell
from tests.simulators.experiments.test_cost_market import FULL, data

CELL = UntunedCell("azure-conv", 90)
FAMILIES = families(10.0, 100.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return requests for azure-conv only, ten a second once scaled."""
    return data(tmp_path_factory.mktemp("data"), FULL)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_every_contender_has_as_many_distinct_members(family: Family) -> None:
    members = {family.contender(step, k) for step in family.steps for k in range(len(family.settings))}
    assert len(members) == STEPS * SETTINGS


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda f: f.name)
def test_every_member_of_a_grid_is_a_valid_contender(family: Family, folder: Path) -> None:
    texts = [family.contender(family.steps[0], k) for k in range(len(family.settings))]
    texts += [family.contender(family.steps[-1], 0)]
    limits = ";max_replicas=1000" if family.name == "static" else ""
    members = contenders(CELL.case(folder, "test"), [text + limits for text in texts], with_self=False)
    assert [member.name for member in members] == [text + limits for text in texts]


def test_rivals_are_tuned_over_the_requests_in_work_of_large_engines() -> None:
    assert max(CONCURRENCIES) >= 140
    assert {FAMILIES[name].steps for name in ("hpa", "keda", "kpa", "llm-d")} == {CONCURRENCIES}


@pytest.mark.parametrize("name", ["hpa", "keda", "kpa", "ray-serve", "skyserve", "llm-d"])
def test_rivals_get_a_window_as_short_as_ours(name: str) -> None:
    assert any(setting.endswith("=60") for setting in FAMILIES[name].settings)
    assert "scale_down.window_s=60" in FAMILIES[OURS].settings[0]


def test_a_setting_may_be_a_multiple_of_the_knob() -> None:
    assert FAMILIES["dynamo"].contender(0.3, 1) == "dynamo:scale_up_at=0.3;optimize=load;scale_down_at=0.15"


def points(*outcomes: tuple[float, float, float]) -> tuple[Outcome, ...]:
    """Return outcomes given as (cost, attainment, largest size)."""
    return tuple({"cost_usd": c, "attainment": a, "replicas_mean": 1.0, "replicas_max": r} for c, a, r in outcomes)


@pytest.mark.parametrize(
    ("outcomes", "edge"),
    [
        pytest.param([(9, 0.999, 9), (5, 0.99, 5), (4, 0.9, 4)], "", id="the best is inside"),
        pytest.param([(9, 0.999, 9), (5, 0.995, 5), (4, 0.99, 4)], "cheap", id="the last step meets it and is cheaper"),
        pytest.param([(9, 0.999, 9), (4.02, 0.999, 1), (4, 0.999, 1)], "", id="the size has reached its minimum"),
        pytest.param([(9, 0.98, 9), (5, 0.97, 5), (4, 0.9, 4)], "expensive", id="none meets it, more would help"),
        pytest.param([(9, 0.98, 20), (5, 0.97, 5), (4, 0.9, 4)], "", id="the size has reached its maximum"),
        pytest.param([(9, 0.97, 9), (5, 0.97, 5), (4, 0.9, 4)], "", id="more does not help"),
        pytest.param(
            [(9, 0.995, 9), (5, 0.98, 5), (4, 0.9, 4)], "", id="the first alone meets it: a next one costs more"
        ),
    ],
)
def test_an_edge_is_reported_where_a_further_step_would_matter(
    outcomes: list[tuple[float, float, float]], edge: str
) -> None:
    curve = Curve("hpa", "", points(*outcomes), {})
    assert curve.edge(0.99, 20) == edge


def test_a_score_names_the_grids_that_are_too_narrow() -> None:
    wide = Curve("hpa", "", points((9, 0.999, 9), (5, 0.99, 5), (4, 0.9, 4)), {})
    narrow = Curve("keda", "", points((9, 0.999, 9), (5, 0.99, 5), (4, 0.99, 4)), {})
    score = Score(Cell("azure-conv", 90), 0.99, {}, {}, {"hpa": wide, "keda": narrow})
    assert score.edges == ["keda (cheap)"]


def test_our_untuned_workload_has_no_setting_but_the_slo(folder: Path) -> None:
    case = CELL.case(folder, "test", 0.999)
    written = untuned.ours(CELL, 0.999)
    assert written.keys() == {"workload", "min_replicas", "max_replicas", "model", "slo", "sources", "pools"}
    policy = case.workload.spec.policies
    (ours,) = policy.values()
    assert isinstance(ours, Predictive)
    assert case.workload.spec.slo is not None
    assert case.workload.spec.slo.share == 0.999
    source = case.workload.spec.sources["engines"]
    assert source.window_s is ours.rate_window_s is None, "both follow the scrapes"


@pytest.mark.parametrize("rival", recommended.RIVALS, ids=lambda r: r.name)
def test_every_recommended_rival_runs_and_names_its_source(rival: recommended.Rival, folder: Path) -> None:
    (contender,) = contenders(CELL.case(folder, "test"), [rival.text(CELL, folder)], with_self=False)
    assert len(contender.case.workload.spec.policies) == 1
    assert len(rival.source) > 20
    assert "," not in rival.name, "names are separated by commas"


def test_static_is_sized_for_the_busiest_minute_before(folder: Path) -> None:
    (static,) = (rival for rival in recommended.RIVALS if rival.name == "static")
    peak = busiest_minute(CELL.case(folder, untuned.DAY_BEFORE))
    assert static.text(CELL, folder) == f"static:replicas={math.ceil(peak / 0.7)}"
    assert CELL.before().test == CELL.source.train
    assert UntunedCell("nasa", 90).before().test == tuple(t - 86_400 for t in UntunedCell("nasa", 90).source.test)


def test_a_run_is_found_again_by_seed_and_code() -> None:
    keys = [Job(CELL, "test", "hpa", 0.99, seed, code).key for seed in (1, 2) for code in ("", "abc")]
    assert len(set(keys)) == 4
    assert keys[0] == Job(CELL, "test", "hpa").key


COSTS = {"self": 11.0, ORACLE: 10.0, "kpa": 20.0}
KEPT = {"self": 0.995, ORACLE: 0.99, "kpa": 0.96}


def outcome(job: Job, _: Path) -> Outcome:
    """Return fixed outcomes; the oracle cannot meet 99.9 %."""
    reachable = job.contender != ORACLE or job.share < 0.999
    cost = COSTS.get(job.contender, 5.0) if reachable else math.nan
    return {"cost_usd": cost, "attainment": KEPT.get(job.contender, 0.0), "replicas_mean": 1.0, "replicas_max": 2.0}


@pytest.fixture
def table(folder: Path, tmp_path: Path) -> list[out_of_the_box.Row]:
    runs = Runs(folder, tmp_path / "runs.jsonl", 1, outcome)
    names = [out_of_the_box.OURS, ORACLE, "knative", "hpa"]
    trials = out_of_the_box.trials([CELL, UntunedCell("azure-conv", 300)], 2)
    return out_of_the_box.rows(out_of_the_box.results(runs, trials, names))


def test_a_row_counts_the_trials_that_the_oracle_can_meet(table: list[out_of_the_box.Row]) -> None:
    rows = {row.name: row for row in table}
    assert rows.keys() == {"ours", "knative", "hpa"}
    assert len(rows["ours"].ratios) == 8, "two start-ups, seeds and shares: 95 and 99 %, not 99.9 %"
    assert {name: row.kept for name, row in rows.items()} == {"ours": 1.0, "knative": 0.5, "hpa": 0.0}
    assert rows["ours"].to_oracle == pytest.approx(1.1)
    assert rows["ours"].to(rows["knative"]) == pytest.approx(0.55)


def test_only_reliable_contenders_are_compared(table: list[out_of_the_box.Row]) -> None:
    figures = {figure.name: figure.met for figure in out_of_the_box.figures(table)}
    assert figures == {
        "share of these in which ours meets the SLO": True,
        "cost of ours to the oracle": True,
        "largest of these ratios": True,
    }
    reliable = [row if row.name != "knative" else out_of_the_box.Row("knative", row.ratios, {}) for row in table]
    names = [figure.name for figure in out_of_the_box.figures(reliable)]
    assert "cost of ours to knative, which meets the SLO in 100%" in names


def test_the_table_lists_the_most_reliable_contender_first(table: list[out_of_the_box.Row]) -> None:
    lines = list(out_of_the_box.table(table))
    assert [line.split()[0] for line in lines] == ["contender", "ours", "knative", "hpa"]
    assert lines[1].split()[1:] == ["8", "of", "8", "1.100", "unknown", "1.100"]


def test_the_results_page_names_the_source_of_each_recommendation(
    table: list[out_of_the_box.Row], tmp_path: Path
) -> None:
    results = tmp_path / "lab" / "results.md"
    results.parent.mkdir()
    results.write_text("before\n<!-- out_of_the_box: begin -->\nold\n<!-- out_of_the_box: end -->\nafter\n")
    page.put(tmp_path, "out_of_the_box", out_of_the_box.page_lines(table))
    written = results.read_text()
    assert "| knative | 4 of 8 | 2.000 | unknown | 2.000 | Knative's config-autoscaler" in written
    assert (written.startswith("before\n"), written.endswith("after\n"), "old" in written) == (True, True, False)
    with pytest.raises(ValueError, match="has no place for the tables"):
        page.put(tmp_path, "another", [])


@pytest.mark.parametrize(
    ("patterns", "labels"),
    [
        pytest.param("nasa", ["nasa, 90 s", "nasa, 300 s"], id="both start-ups"),
        pytest.param("taxi/300,azure-conv/90", ["taxi, 300 s", "azure-conv, 90 s"], id="one of them"),
        pytest.param("azure-conv*/90", ["azure-conv, 90 s", "azure-conv-large, 90 s"], id="a pattern"),
    ],
)
def test_cells_are_selected_by_trace_and_start_up(patterns: str, labels: list[str]) -> None:
    assert [cell.label for cell in out_of_the_box.select(patterns)] == labels


def test_an_unknown_cell_or_contender_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        out_of_the_box.main(["--cells", "mars"])
    assert "--cells 'mars': matches no cell; the traces are azure-conv" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        out_of_the_box.main(["--only", "hpa,mine"])
    assert "--only mine: must be one of ours, hpa, keda" in capsys.readouterr().err


def test_stored_runs_of_other_contenders_are_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory = tmp_path / "runs.jsonl"
    runs = Runs(folder, memory, 1, outcome)
    trial = out_of_the_box.Trial(CELL, 0.99, 1)
    runs.get([trial.job(name, folder) for name in (ORACLE, "ours")])
    arguments = ["--data", str(folder), "--memory", str(memory), "--cells", "azure-conv/90", "--seeds", "1"]
    assert out_of_the_box.main([*arguments, "--shares", "0.99", "--only", "ours", "--jobs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "99.500% met" in printed
    assert "to oracle: 1.100" in printed
    assert "1 of 1" in printed


def test_a_change_of_our_code_makes_only_our_runs_stale() -> None:
    trial = out_of_the_box.Trial(CELL, 0.99, 1)
    assert trial.job("ours", Path()).key.endswith(untuned.policy_code())
    assert untuned.policy_code() not in trial.job("hpa", Path()).key
