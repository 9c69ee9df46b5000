"""A study's inputs, storage and trials: split traces, equal outcomes, no trial lost or doubled."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from scaler.config.problems import ConfigError
from simulators.experiments.run import traffic_of
from simulators.experiments.scenario import Case, load_workload
from simulators.tune.importance import importance
from simulators.tune.space import Space, space_of
from simulators.tune.storage import LEASE_S, LostLease, StudyLease, lead_folder, open_storage, without_secret
from simulators.tune.study import SAMPLERS, Study, study
from simulators.tune.study_inputs import RecordedTrace, StudyInputs, study_inputs
from simulators.tune.trial import TODAY, PruneLimits, TrialJob, TrialOutcome, WindowResult, WrongVersion, run_job
from simulators.world.traffic.trace import RequestTrace, TraceError
from tests.simulators.tune import small

pytestmark = pytest.mark.slow

ALLOWED = 0.1


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return small.case(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def world(case: Case) -> StudyInputs:
    return study_inputs(case, [], 1, 2, 2)


@pytest.fixture(scope="module")
def space(case: Case) -> Space:
    return space_of(case)


def arrivals(trace: RequestTrace) -> list[float]:
    return [round(float(a), 6) for a in trace.arrival_s]


def test_the_last_third_of_a_trace_is_held_out_if_no_part_is_comparable(case: Case) -> None:
    """The trace has one flash crowd, which only one part can have."""
    whole = traffic_of(case, 1)
    inputs = study_inputs(case, [RecordedTrace("day", whole)], 1, 1, 1)
    end_s = whole.duration_s
    searched, validation = inputs.tuning[0], inputs.validation[0]
    cut_s = round(2 / 3 * end_s, 3)
    assert searched.length_s == pytest.approx(cut_s, abs=1e-3)
    assert arrivals(searched.traces[1]) == [a for a in arrivals(whole) if a < cut_s]
    (seed,) = validation.traces
    assert seed != 1, "tuning and validation use different seeds"
    first_s = end_s - validation.length_s
    counted_s = first_s + validation.case.scenario.warm_up_s
    assert counted_s == pytest.approx(cut_s, abs=0.01), "the lead-in is simulated and not counted"
    begin_s = round(1 / 3 * end_s, 3)
    lead = [a - begin_s for a in arrivals(whole) if a >= begin_s]
    assert np.allclose(validation.traces[seed].arrival_s, lead, atol=2e-3)
    tuning_stress, validation_stress = inputs.stresses
    assert not validation_stress.tests(tuning_stress)


def test_a_held_out_middle_third_shares_no_counted_time_with_the_tuning_traffic(case: Case) -> None:
    """Bursts at 300 and 1,500 s of an hour: a third with one of them is held out, and two parts are searched."""
    bursts = [np.arange(at, at + 120, 0.05) for at in (300, 1500)]
    times = np.sort(np.concatenate([np.arange(0, 3600, 0.5), *bursts]))
    lengths = np.full(len(times), 100, np.int32)
    inputs = study_inputs(case, [RecordedTrace("day", RequestTrace(times, lengths, lengths))], 1, 1, 1)
    (held_out,) = inputs.validation
    first, last = inputs.tuning
    begin = case.scenario.epoch_s
    (first_s, last_s, validation_s) = (w.case.scenario.epoch_s - begin for w in (first, last, held_out))
    counted_s = validation_s + held_out.case.scenario.warm_up_s
    assert first_s == 0.0
    assert first.length_s <= counted_s + 0.01
    assert counted_s < 1500 < last_s - 100, "one burst is held out, the other one is searched"
    assert validation_s + held_out.length_s <= last_s + 0.01
    tuning_stress, validation_stress = inputs.stresses
    assert validation_stress.tests(tuning_stress)


def test_generated_traffic_is_validated_on_a_later_draw_with_the_same_stress(case: Case, world: StudyInputs) -> None:
    (searched,), (validation,) = world.tuning, world.validation
    assert not set(searched.traces) & set(validation.traces)
    assert not {t.digest() for t in searched.traces.values()} & {t.digest() for t in validation.traces.values()}
    end_s = searched.case.scenario.epoch_s + searched.length_s
    assert validation.case.scenario.epoch_s >= end_s, "the validation is later in time"
    tuning_stress, validation_stress = world.stresses
    assert tuning_stress.rise > 0.5, "the flash crowd"
    assert validation_stress.tests(tuning_stress)


def test_validation_only_traces_are_not_split(case: Case) -> None:
    day, second = traffic_of(case, 1), traffic_of(case, 9)
    inputs = study_inputs(case, [RecordedTrace("day", day)], 1, 1, 1, validation_only=[RecordedTrace("other", second)])
    assert [s.name for s in inputs.validation][-1] == "other"
    assert len(next(iter(inputs.validation[-1].traces.values()))) == len(second)
    assert len(inputs.tuning) == 1


def test_a_trace_no_longer_than_its_warm_up_is_rejected(case: Case) -> None:
    short = traffic_of(case, 1).window(0.0, 80.0)
    with pytest.raises(TraceError, match="is not longer than warm_up_s, 60 s"):
        study_inputs(case, [RecordedTrace("short", short)], 1, 1, 1)


def test_the_digest_covers_all_simulated_inputs(case: Case, world: StudyInputs) -> None:
    assert study_inputs(case, [], 1, 2, 2).digest == world.digest
    assert study_inputs(case, [], 2, 2, 2).digest != world.digest
    longer = dataclasses.replace(case.scenario, settle_s=61.0)
    assert study_inputs(dataclasses.replace(case, scenario=longer), [], 1, 2, 2).digest != world.digest
    assert study_inputs(case, [], 1, 2, 2, present=case.workload).digest != world.digest


def test_a_repeated_trial_has_equal_results(world: StudyInputs) -> None:
    job = TrialJob(3, "self:policies.concurrency.target_per_replica=20")
    outcome_ = run_job(world, job)
    assert outcome_ == run_job(world, job)
    assert len(outcome_.stages) == 2
    assert {p.seed for p in outcome_.results} == {1, 2}
    assert outcome_.results[0].blocks != outcome_.results[1].blocks


def test_the_early_check_does_not_change_the_results_of_a_trial(world: StudyInputs) -> None:
    """The first replication has an early check; the validation task runs the same worlds without it."""
    validation_only = dataclasses.replace(world, validation=world.tuning)
    assert run_job(world, TrialJob(0, "self")).results == run_job(validation_only, TrialJob(0, "self", "prove")).results


def test_a_pruned_trial_ends_after_its_first_stage(world: StudyInputs) -> None:
    whole = run_job(world, TrialJob(0, "self"))
    (cost, late), _ = whole.stages
    pruned = run_job(world, TrialJob(1, "self", limits=PruneLimits((((cost / 2, late),), ()))))
    assert pruned.pruned == "100% more expensive than a trial that is no later, in the first part"
    assert pruned.results == ()
    assert pruned.stages == whole.stages[:1]


def test_settings_that_the_workload_rejects_are_not_simulated(world: StudyInputs) -> None:
    assert "must be" in run_job(world, TrialJob(1, "self:.tolerance=9")).refused


def test_a_worker_of_another_version_is_rejected(world: StudyInputs) -> None:
    second = dataclasses.replace(world, version="0.0.1")
    with pytest.raises(WrongVersion, match=r"the client 0\.0\.1: install the same version on both"):
        run_job(second, TrialJob(1, "self"))


def test_the_present_workload_may_differ_from_the_scenarios(case: Case, world: StudyInputs) -> None:
    file = case.folder / "workloads" / "wide.yaml"
    file.write_text(small.WORKLOAD.replace("target_per_replica: 12", "target_per_replica: 3"))
    inputs = study_inputs(case, [], 1, 1, 1, present=load_workload(file))
    today = run_job(inputs, TrialJob(TODAY, inputs.today_contender, "prove"))
    searched = run_job(inputs, TrialJob(0, "self", "prove"))
    assert inputs.today_contender == "present"
    assert cost(today) > 1.2 * cost(searched), "it requests four times the replicas"


def cost(outcome_: TrialOutcome) -> float:
    return sum(block[0] for results in outcome_.results for block in results.blocks)


def open_study(folder: Path, space: Space, sampler: str = "tpe", seed: int = 1) -> Study:
    return study(open_storage(None, folder), "small", space, {"sampler": sampler, "seed": seed}, ALLOWED)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with lead_folder(tmp_path / "out"):
        yield tmp_path / "out"


def outcome(job: TrialJob) -> TrialOutcome:
    """Return a job's outcome from a formula instead of a simulation: a higher cost means fewer late requests."""
    settings = dict(part.split("=") for part in job.contender.partition(":")[2].split(";") if part)
    target = float(settings.get("policies.concurrency.target_per_replica", 12))
    usd, late = 100 / target, min(1000, int(target**2 / 2))
    return TrialOutcome(
        (WindowResult(0, 1, 12.0, ((usd, 1000, late),) * 12),), ((usd, late / 1000), (usd, late / 1000))
    )


def advance(study_: Study, count: int) -> list[tuple[int, str]]:
    jobs = []
    for _ in range(count):
        job = study_.next_job()
        study_.record(job, outcome(job))
        jobs.append((job.number, job.contender))
    return jobs


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_resumed_study_continues_as_an_uninterrupted_one(
    folder: Path, tmp_path: Path, space: Space, sampler: str
) -> None:
    first = advance(open_study(folder, space, sampler), 15)
    second = advance(open_study(folder, space, sampler), 15)
    with lead_folder(folder / "other"):
        assert advance(open_study(folder / "other", space, sampler), 30) == first + second


def test_the_first_trial_has_the_present_settings(folder: Path, space: Space) -> None:
    study_ = open_study(folder, space)
    assert study_.next_job() == TrialJob(0, "self")


def test_running_trials_of_a_killed_client_are_repeated_with_their_numbers(folder: Path, space: Space) -> None:
    study_ = open_study(folder, space)
    advance(study_, 3)
    jobs = [study_.next_job(), study_.next_job()]
    resumed = open_study(folder, space)
    unfinished = resumed.unfinished_jobs()
    assert [(j.number, j.contender) for j in unfinished] == [(j.number, j.contender) for j in jobs]
    for job in unfinished:
        resumed.record(job, outcome(job))
    assert resumed.next_job().number == 5
    assert [t.number for t in open_study(folder, space).completed] == [0, 1, 2, 3, 4]


def test_a_resumed_study_has_every_recorded_outcome(folder: Path, space: Space) -> None:
    study_ = open_study(folder, space)
    advance(study_, 2)
    job = study_.next_job()
    study_.record(job, TrialOutcome(stages=((9.0, 0.5),), pruned="too late"))
    job = study_.next_job()
    study_.record(job, TrialOutcome(refused="may not be"))
    resumed = open_study(folder, space)
    assert (resumed.finished, resumed.pruned, resumed.refused) == (4, 1, 1)
    assert [t.results for t in resumed.completed] == [t.results for t in study_.completed]
    assert [t.settings for t in resumed.completed] == [t.settings for t in study_.completed]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_finds_cheap_trials_within_the_slo(folder: Path, space: Space, sampler: str) -> None:
    """In the formula, cost falls with the target, and a tenth is late from 14.1 on."""
    study_ = open_study(folder, space, sampler)
    advance(study_, 80)
    costs = [t.figures.usd_per_month for t in study_.completed if t.figures.late_share <= ALLOWED]
    assert min(costs) < 1.12 * 100 / 14.14 * 730


def test_a_log_of_a_different_study_is_not_resumed(folder: Path, space: Space) -> None:
    advance(open_study(folder, space), 2)
    with pytest.raises(ConfigError, match="exists with other inputs: seed"):
        open_study(folder, space, seed=2)
    with pytest.raises(ConfigError, match="exists with other inputs: sampler"):
        open_study(folder, space, "cmaes")


def test_an_incomplete_last_line_of_the_log_is_truncated(folder: Path, space: Space) -> None:
    advance(open_study(folder, space), 3)
    log = folder / "study.log"
    with log.open("ab") as file:
        file.write(b'{"op_code": 5, "worker_id": "x", "trial_')
    assert open_study(folder, space).finished == 3
    assert advance(open_study(folder, space), 1)[0][0] == 3


def test_a_folder_has_one_leading_client_at_a_time(tmp_path: Path) -> None:
    busy = pytest.raises(ConfigError, match="is in use by another forescale tune")
    with lead_folder(tmp_path / "out") as name, busy, lead_folder(tmp_path / "out"):
        pass
    with lead_folder(tmp_path / "out") as next_name:
        assert next_name == name


def study_in_database(folder: Path, space: Space) -> Study:
    url = f"sqlite:///{folder / 'study.db'}"
    return study(open_storage(url, folder), "small", space, {"sampler": "tpe", "seed": 1}, ALLOWED)


def test_a_study_in_a_database_has_one_leading_client_at_a_time(tmp_path: Path, space: Space) -> None:
    study_ = study_in_database(tmp_path, space)
    first, second = StudyLease(study_.optuna, "mine"), StudyLease(study_in_database(tmp_path, space).optuna, "other")
    first.take()
    with pytest.raises(ConfigError, match="is in use by a client on"):
        second.take()
    StudyLease(study_.optuna, "mine").take()  # the same folder's client, killed and restarted
    first.leave()
    second.take()
    with pytest.raises(LostLease, match="repeat the command when that client has ended"):
        first.renew(LEASE_S)


def test_a_database_error_hides_the_password(tmp_path: Path) -> None:
    url = "postgresql://tune:hidden@127.0.0.1:1/none"
    with pytest.raises(ConfigError, match=r"postgresql://\*\*\*@127\.0\.0\.1:1/none: cannot be opened") as caught:
        open_storage(url, tmp_path)
    assert "hidden" not in str(caught.value)
    assert without_secret("sqlite:////tmp/x.db") == "sqlite:////tmp/x.db"


def test_the_setting_that_explains_the_trials_has_the_highest_importance(folder: Path, space: Space) -> None:
    study_ = open_study(folder, space)
    advance(study_, 25)
    assert importance(study_) == (), "too few trials to tell"
    advance(study_, 45)
    importances = importance(study_)
    assert importances[0].path == "policies.concurrency.target_per_replica"
    assert importances[0].cost > 0.5
    assert sum(setting.cost for setting in importances) == pytest.approx(1.0)
