"""Searches whose client, workers or scheduler are killed: no trial is lost or recorded twice."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy.pool import NullPool

from simulators.tune.executor import LocalExecutor
from simulators.tune.search import SearchListener, run_all
from simulators.tune.study_inputs import study_inputs
from simulators.tune.trial import TrialJob, run_job
from tests.servers.postgresql import needs_postgres, postgres
from tests.simulators.tune import small
from tests.simulators.tune.servers import cluster

pytestmark = pytest.mark.slow
TRIALS = 16


def tuning(scenario: Path, out: Path, *more: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """Run the search as a process."""
    arguments: tuple[str | Path, ...] = (scenario, "--out", out, "--budget", f"{TRIALS}-trials", "--proof", "1", *more)
    return small.running(*arguments, cwd=out.parent)


def check_all_ended(trials: Sequence[Any]) -> None:
    """Check that every trial number occurs once, every trial ended, and the count is as requested.

    A trial whose parameters a killed client had not fully sampled never ran: it is marked as failed and not counted.
    """
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert set(small.states(trials)) <= set(small.ENDED)
    recorded = [trial for trial in trials if "stages" in trial.user_attrs]
    dropped = [trial for trial in trials if "stages" not in trial.user_attrs]
    assert len(recorded) == TRIALS, small.states(trials)
    parameters = max(len(trial.params) for trial in recorded)
    assert all(trial.state.name == "FAIL" and len(trial.params) < parameters for trial in dropped)
    assert len(dropped) <= 1


def finish(scenario: Path, out: Path, *more: str) -> None:
    """Run the same command again to completion."""
    with tuning(scenario, out, *more) as process:
        output, stderr = process.communicate(timeout=2 * small.PATIENCE_S)
    assert process.returncode in {0, 1}, (output, stderr)
    assert small.result(out)["trials"]["finished"] == TRIALS


def children(pid: int) -> list[int]:
    """Return the worker processes of a process, read from /proc."""
    pids = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat, line = (folder / "stat").read_text(), (folder / "cmdline").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid and "spawn_main" in line:
                pids.append(int(folder.name))
    return pids


def test_a_killed_client_is_resumed_and_its_workers_exit(tmp_path: Path) -> None:
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with tuning(scenario, out, "--jobs", "2") as process:
        small.wait_until(lambda: small.count_ended(out / "study.log") >= 6, "six trials have ended", process)
        workers = children(process.pid)
        process.kill()
        process.communicate()
    assert workers
    small.wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), "its processes have ended")
    assert small.states(small.trials(out)).get("RUNNING", 0) >= 1, "something was being tried"
    finish(scenario, out, "--jobs", "2")
    check_all_ended(small.trials(out))


def test_a_job_whose_process_is_killed_is_repeated(tmp_path: Path) -> None:
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with tuning(scenario, out, "--jobs", "2") as process:
        small.wait_until(lambda: small.count_ended(out / "study.log") >= 4, "four trials have ended", process)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        output, stderr = process.communicate(timeout=2 * small.PATIENCE_S)
    assert process.returncode in {0, 1}, (output, stderr)
    check_all_ended(small.trials(out))


def test_parallel_processes_give_the_same_outcomes_as_one(tmp_path: Path) -> None:
    world = study_inputs(small.case(tmp_path), [], 1, 1, 1)
    jobs = [TrialJob(k, f"self:policies.concurrency.target_per_replica={10 + k}") for k in range(4)]
    executor = LocalExecutor(world, 2)
    try:
        outcomes = run_all(executor, jobs, lambda _: None, SearchListener(), lambda *_: None)
    finally:
        executor.close()
    assert outcomes == {(job.number, "search"): run_job(world, job) for job in jobs}


@needs_postgres
def test_a_study_in_postgresql_survives_a_killed_client(tmp_path: Path) -> None:
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with postgres() as url:
        more = ("--jobs", "2", "--storage", url)
        with tuning(scenario, out, *more) as process:
            small.wait_until(lambda: ended_in_database(url) >= 5, "five trials have ended", process)
            process.kill()
            process.communicate()
        finish(scenario, out, *more)
        check_all_ended(small.trials(out, url))


def ended_in_database(url: str) -> int:
    """Return the number of ended trials, read without Optuna, which would create the tables at the same time."""
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:"), poolclass=NullPool)
    with engine.connect() as connection:
        if not sqlalchemy.inspect(connection).has_table("trials"):
            return 0
        ended = connection.execute(sqlalchemy.text("select count(*) from trials where state <> 'RUNNING'"))
        return int(ended.scalar_one())


def test_a_killed_dask_worker_loses_no_trial(tmp_path: Path) -> None:
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with cluster(tmp_path, 2) as dask, tuning(scenario, out, "--on", dask.address) as process:
        small.wait_until(lambda: small.count_ended(out / "study.log") >= 5, "five trials have ended", process)
        dask.workers[0].kill()
        output, stderr = process.communicate(timeout=2 * small.PATIENCE_S)
    assert process.returncode in {0, 1}, (output, stderr)
    check_all_ended(small.trials(out))


def test_a_killed_dask_scheduler_is_awaited_until_restarted(tmp_path: Path) -> None:
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with cluster(tmp_path, 1) as dask, tuning(scenario, out, "--on", dask.address) as process:
        small.wait_until(lambda: small.count_ended(out / "study.log") >= 5, "five trials have ended", process)
        dask.scheduler.kill()
        dask.scheduler.wait()
        dask.workers[0].kill()
        dask.start_scheduler()
        dask.start_worker()
        output, stderr = process.communicate(timeout=2 * small.PATIENCE_S)
    assert process.returncode in {0, 1}, (output, stderr)
    check_all_ended(small.trials(out))


def test_a_killed_dask_client_is_resumed_with_the_same_outcomes(tmp_path: Path) -> None:
    """With one worker the study equals that of an uninterrupted local run."""
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with cluster(tmp_path, 1) as dask:
        with tuning(scenario, out, "--on", dask.address) as process:
            small.wait_until(lambda: small.count_ended(out / "study.log") >= 5, "five trials have ended", process)
            process.kill()
            process.communicate()
        finish(scenario, out, "--on", dask.address)
    check_all_ended(small.trials(out))
    finish(scenario, tmp_path / "here", "--jobs", "1")
    local, distributed = small.result(tmp_path / "here"), small.result(out)
    assert local == distributed


def test_a_missing_scheduler_is_reported_on_a_stop_request(tmp_path: Path) -> None:
    scenario, out = small.write(tmp_path), tmp_path / "out"
    with tuning(scenario, out, "--on", "tcp://127.0.0.1:9") as process:
        small.wait_until((out / "study.log").exists, "the study has begun", process)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=small.PATIENCE_S)
    assert process.returncode in {2, 130}, stderr
    assert "Traceback" not in stderr
