"""Loading of scenarios: their meaning, and an error for every invalid one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.model import PoolName
from policies.model.spec import Slo
from scaler.config.problems import ConfigError
from simulators.experiments import run
from simulators.experiments.scenario import Case, load, load_workload
from simulators.world.queue import SimulatedQueue
from simulators.world.traffic.trace import TraceError
from tests.laws import law
from tests.simulators.world.files import SCENARIO, files
from tests.simulators.world.makers import document

SCENARIOS = Path(__file__).parents[3] / "config/scenarios"

FUZZ = settings(law(300), suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
SHIPPED = sorted((Path(__file__).parents[3] / "config" / "scenarios").glob("*.yaml"))
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 0.0, -0.5, 1e-9, 1e9, 1e300, float("nan"), float("inf")]),
    st.sampled_from(["", "x", "told.csv", "steady.yaml", "..", "/", "a\0b", "\ud7ff", "poisson", "trace", "${HOME}"]),
    st.sampled_from([[], {}, [{}], [None], {"kind": "poisson"}, {"kind": "mix", "clients": {}}, {"x": {}}, {1: 2}]),
)


def read(folder: Path, **settings_: Any) -> Case:
    return load(files(folder, lambda s: s.update(settings_)))


def test_a_scenario_loads_its_workload_models_and_pools(tmp_path: Path) -> None:
    case = read(tmp_path)
    assert case.workload.name == "told"
    assert list(case.models) == ["steady.yaml"]
    assert case.pools == {PoolName("gpus"): PoolName("gpus")}
    assert case.folder == tmp_path
    assert (case.scenario.end_s, case.scenario.epoch_s) == (120.0, 1767571200.0)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_shipped_scenario_loads(path: Path) -> None:
    case = load(path)
    assert case.scenario.scenario == path.stem


def test_a_single_pool_is_matched_whatever_its_name(tmp_path: Path) -> None:
    def rename_pool(s: dict[str, Any]) -> None:
        s["pools"] = {"h100s": s["pools"]["gpus"]}

    assert load(files(tmp_path, rename_pool)).pools == {PoolName("gpus"): PoolName("h100s")}


def test_files_are_resolved_relative_to_the_scenario(tmp_path: Path) -> None:
    traffic = {"kind": "mix", "clients": {"a": {"kind": "trace", "file": "told.csv"}, "b": SCENARIO["traffic"]}}
    case = read(tmp_path, traffic=traffic, duration_s=60.0)
    trace = run.traffic_of(case, 1)
    assert trace.client is not None
    assert (trace.client == 0).sum() == 2


def test_a_workload_that_reads_sqs_gets_an_sqs_queue_by_default(tmp_path: Path) -> None:
    def reads_sqs(w: dict[str, Any]) -> None:
        w |= {k: document("sqs")[k] for k in ("sources", "policies")}

    assert load(files(tmp_path, change_workload=reads_sqs)).scenario.queue == SimulatedQueue(service="sqs")
    with_queue = load(files(tmp_path, lambda s: s.update(queue={"service": "pubsub"}), reads_sqs))
    assert with_queue.scenario.queue == SimulatedQueue(service="pubsub")
    assert read(tmp_path).scenario.queue is None


def test_a_workload_that_reads_pubsub_gets_a_pubsub_queue(tmp_path: Path) -> None:
    def reads_pubsub(w: dict[str, Any]) -> None:
        queue = {"kind": "pubsub", "project": {"id": "my-project"}, "subscription": "prompts"}
        w |= {"sources": {"queue": queue}, "policies": {"depth": {"kind": "queue_depth", "count": ["visible"]}}}

    assert load(files(tmp_path, change_workload=reads_pubsub)).scenario.queue == SimulatedQueue(service="pubsub")


def test_another_workload_keeps_the_scenario_and_its_models(tmp_path: Path) -> None:
    case = read(tmp_path)
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(document(workload="other", max_replicas=9)))
    changed = case.under(load_workload(tmp_path / "other.yaml"), "other.yaml")
    assert (changed.workload.name, changed.scenario, changed.models) == ("other", case.scenario, case.models)
    with pytest.raises(ConfigError, match="is not a pool of the scenario"):
        case.under(load_workload(write_workload(tmp_path, pools=("a", "b"))), "two.yaml")


def write_workload(folder: Path, **settings_: Any) -> Path:
    path = folder / "two.yaml"
    path.write_text(yaml.safe_dump(document(**settings_)))
    return path


def test_duration_comes_from_the_traffic_if_the_scenario_has_none(tmp_path: Path) -> None:
    missing_file = {"kind": "trace", "file": "gone.csv"}
    assert read(tmp_path, traffic=missing_file, duration_s=60.0).scenario.end_s == 60.0
    with pytest.raises(TraceError, match=r"gone\.csv: cannot be read"):
        _ = read(tmp_path, traffic=missing_file).scenario.end_s


def test_an_slo_requires_a_limit() -> None:
    assert [key for key, _ in Slo(ttft_s=None, itl_s=None).problems()] == ["ttft_s"]
    assert not list(Slo(ttft_s=None, itl_s=None, e2e_s=3.0).problems())


def test_models_of_different_block_sizes_are_rejected(tmp_path: Path) -> None:
    scenario = files(tmp_path, lambda s: s["pools"].update(b={**s["pools"]["gpus"], "model": "large.yaml"}))
    model = yaml.safe_load((tmp_path / "steady.yaml").read_text())
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(model | {"block_tokens": 32}))
    with pytest.raises(ConfigError, match=r"same block_tokens; these have steady\.yaml 16, large\.yaml 32"):
        load(scenario)


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as e:
        read(tmp_path, seed=-1, settle_s="x", trafic=3)
    assert len(e.value.problems) == 3


def places(data: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in a document."""
    all_places = [place] if place else []
    if isinstance(data, dict):
        for key, value in data.items():
            all_places += places(value, (*place, key))
    return all_places


FULL: dict[str, Any] = {
    **SCENARIO,
    "initial_replicas": {"gpus": 2},
    "duration_s": 30.0,
    "warm_up_s": 5.0,
    "start": "2026-01-05T00:00:00+00:00",
    "seed": 3,
    "slo": {"ttft_s": 1.0, "share": 0.9},
    "router": {"kind": "random", "patience_s": 3.0},
    "telemetry": {"lag_s": 3.0, "lost_share": 0.1},
    "faults": [{"fault": "hang", "share": 0.2}],
    "quantities": {"running": "running"},
}
PLACES = places(FULL)


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a scenario with a few values replaced by an unusual one, removed, or joined by an unknown key."""
    data: dict[str, Any] = json.loads(json.dumps(FULL))
    for _ in range(draw(st.integers(1, 3))):
        *parents, last = draw(st.sampled_from(PLACES))
        node: Any = data
        for key in parents:
            node = node.get(key) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            continue
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add"]))
        if change == "replace":
            node[last] = draw(ODD)
        elif change == "remove":
            node.pop(last, None)
        else:
            node[draw(st.sampled_from(["x", "", "kind", 3, None, "file", "zones"]))] = draw(ODD)
    return data


@pytest.mark.slow
@FUZZ
@given(data=mutated())
def test_a_mutated_scenario_loads_or_raises_a_config_error(tmp_path: Path, data: dict[str, Any]) -> None:
    path = files(tmp_path)
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    with suppress(ConfigError, TraceError):
        case = load(path)
        if case.scenario.end_s < 1000:
            run.simulate(case, 1, run.traffic_of(case, 1))


@pytest.mark.slow
@FUZZ
@given(text=st.text(max_size=200) | st.text("{}[]:-,&*!|>'\"#%@` \n\tab1.", max_size=60))
def test_a_file_that_is_not_a_scenario_raises_an_error(tmp_path: Path, text: str) -> None:
    path = files(tmp_path)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises((ConfigError, TraceError)):
        load(path)


def test_contradictory_workload_bounds_are_rejected_with_their_line(tmp_path: Path) -> None:
    for file in ("chat.yaml", "workloads/chat.yaml"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        text = (SCENARIOS / file).read_text()
        (tmp_path / file).write_text(text.replace("min_replicas: 2", "min_replicas: 50"))
    with pytest.raises(ConfigError, match=r"chat.yaml:\d+: min_replicas.*must be at most max_replicas"):
        load(tmp_path / "chat.yaml")
